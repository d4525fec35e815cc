package writer

import (
	"bytes"
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/sombra-backup/sombra/vss"

	writerv1 "github.com/sombra-backup/sombra/proto/sombra/writer/v1"
)

// service is the writers of a host as one connection sees them.
type service struct {
	writerv1.UnimplementedWritersServer
	guards []*Guard
	owner  *owner
}

func (s *service) List(context.Context, *writerv1.ListRequest) (*writerv1.ListResponse, error) {
	resp := &writerv1.ListResponse{}
	for i, g := range s.guards {
		resp.Instances = append(resp.Instances, &writerv1.Instance{
			Handle: uint32(i), Description: descriptionToWire(g.Describe()),
		})
	}
	return resp, nil
}

func (s *service) guard(handle uint32) (*Guard, error) {
	if uint64(handle) >= uint64(len(s.guards)) {
		return nil, statusOf(codes.NotFound, vss.Errorf(vss.ErrObjectNotFound, "find", "writer", "no writer has handle %d", handle))
	}
	return s.guards[handle], nil
}

func (s *service) Identify(ctx context.Context, req *writerv1.IdentifyRequest) (*writerv1.IdentifyResponse, error) {
	g, err := s.guard(req.GetHandle())
	if err != nil {
		return nil, err
	}
	doc, err := g.Identify(ctx)
	if err != nil {
		return nil, statusOf(codes.FailedPrecondition, err)
	}
	text, err := formatMetadata(doc)
	if err != nil {
		return nil, statusOf(codes.Internal, err)
	}
	return &writerv1.IdentifyResponse{Document: text}, nil
}

func (s *service) event(ctx context.Context, kind EventKind, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	g, err := s.guard(req.GetHandle())
	if err != nil {
		return nil, err
	}
	e, err := eventOf(req)
	if err != nil {
		return nil, statusOf(codes.InvalidArgument, err)
	}
	sent := bytes.Clone(req.Components)
	err = g.notify(ctx, s.owner, kind, e)
	var over overtime
	if errors.As(err, &over) {
		// The handler may still be writing to the components.
		return &writerv1.EventResponse{Veto: errorToWire(err)}, nil
	}
	resp, rerr := responseOf(kind, e, sent, err)
	if rerr != nil {
		return nil, statusOf(codes.Internal, rerr)
	}
	return resp, nil
}

func (s *service) PrepareForBackup(ctx context.Context, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return s.event(ctx, EventPrepareForBackup, req)
}

func (s *service) PrepareForSnapshot(ctx context.Context, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return s.event(ctx, EventPrepareForSnapshot, req)
}

func (s *service) Freeze(ctx context.Context, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return s.event(ctx, EventFreeze, req)
}

func (s *service) Thaw(ctx context.Context, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return s.event(ctx, EventThaw, req)
}

func (s *service) PostSnapshot(ctx context.Context, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return s.event(ctx, EventPostSnapshot, req)
}

func (s *service) BackupComplete(ctx context.Context, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return s.event(ctx, EventBackupComplete, req)
}

func (s *service) BackupShutdown(ctx context.Context, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return s.event(ctx, EventBackupShutdown, req)
}

func (s *service) Abort(ctx context.Context, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return s.event(ctx, EventAbort, req)
}

func (s *service) PreRestore(ctx context.Context, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return s.event(ctx, EventPreRestore, req)
}

func (s *service) PostRestore(ctx context.Context, req *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return s.event(ctx, EventPostRestore, req)
}
