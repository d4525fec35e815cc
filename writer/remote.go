package writer

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"

	writerv1 "github.com/sombra-backup/sombra/proto/sombra/writer/v1"
)

// Remote is a writer in another program. It implements [Writer] and all
// optional events; the ones the writer lacks succeed at its end. A handler's
// error reads as it did there and carries the same code. If the program is gone
// or does not answer within the context, the error is
// VSS_E_WRITER_NOT_RESPONDING.
//
// Where a writer changed its components, the event's Components point to a new
// value afterwards.
type Remote struct {
	c      *Client
	handle uint32
	desc   Description

	mu       sync.Mutex
	instance vss.GUID
	class    vss.GUID
	name     string
	size     int64 // of the document, in bytes
}

var _ interface {
	Writer
	BackupPreparer
	SnapshotPreparer
	PostSnapshotter
	BackupCompleter
	BackupShutdowner
	PreRestorer
	PostRestorer
} = (*Remote)(nil)

func newRemote(c *Client, i *writerv1.Instance) (*Remote, error) {
	r := &Remote{c: c, handle: i.GetHandle(), desc: descriptionFromWire(i.GetDescription()), name: boundText(i.GetInstanceName())}
	var err error
	if r.instance, err = guidFromWire(i.GetInstanceId()); err != nil {
		return nil, vss.Errorf(vss.ErrUnexpectedWriterError, "list", "writers", "instance id of handle %d: %w", r.handle, err)
	}
	if r.class, err = guidFromWire(i.GetClassId()); err != nil {
		return nil, vss.Errorf(vss.ErrUnexpectedWriterError, "list", "writers", "class id of handle %d: %w", r.handle, err)
	}
	return r, nil
}

// Instance gives the instance id, zero until the writer has identified itself
// unless its program told it before.
func (r *Remote) Instance() vss.GUID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.instance
}

// Class gives the class id; it is known when Instance is.
func (r *Remote) Class() vss.GUID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.class
}

// InstanceName gives the name that survives restarts; it is known when Instance
// is, and may be empty.
func (r *Remote) InstanceName() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.name
}

// Client gives the connection the writer is reached by.
func (r *Remote) Client() *Client { return r.c }

// String names the writer in messages.
func (r *Remote) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.name != "":
		return r.name
	case !r.instance.IsZero():
		return r.instance.String()
	}
	return fmt.Sprintf("writer %d", r.handle)
}

// Describe implements [Writer].
func (r *Remote) Describe() Description { return r.desc }

// Identify implements [Writer].
func (r *Remote) Identify(ctx context.Context) (*metadata.WriterMetadata, error) {
	select {
	case r.c.identifying <- struct{}{}:
		defer func() { <-r.c.identifying }()
	case <-ctx.Done():
		return nil, vss.Errorf(vss.ErrWriterNotResponding, "Identify", r.String(), "other writers of its program have not answered: %w", context.Cause(ctx))
	}
	resp, err := r.c.rpc.Identify(ctx, &writerv1.IdentifyRequest{Handle: r.handle})
	if err != nil {
		return nil, errorOfCall(ctx, "Identify", r.String(), err)
	}
	if err := r.account(int64(len(resp.GetDocument()))); err != nil {
		return nil, err
	}
	doc, err := parseMetadata(resp.GetDocument())
	if err != nil {
		return nil, vss.Errorf(vss.ErrUnexpectedWriterError, "Identify", r.String(), "its document: %w", err)
	}
	id := identityOf(doc)
	if id.instance.IsZero() || id.class.IsZero() {
		return nil, vss.Errorf(vss.ErrUnexpectedWriterError, "Identify", r.String(), "its document lacks a class id or an instance id")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.instance.IsZero() && r.instance != id.instance {
		return nil, vss.Errorf(vss.ErrUnexpectedWriterError, "Identify", r.name, "its instance id was %v and is now %v", r.instance, id.instance)
	}
	r.instance, r.class, r.name = id.instance, id.class, id.name
	return doc, nil
}

// account counts the writer's document among those of its program, in place of
// the one it gave before.
func (r *Remote) account(size int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if total := r.c.documents.Add(size - r.size); total > maxDocuments {
		r.c.documents.Add(r.size - size)
		return vss.Errorf(vss.ErrWriterErrorOutOfResources, "Identify", r.name, "the documents of its program's writers are larger than %d MiB in all", maxDocuments>>20)
	}
	r.size = size
	return nil
}

// call is one of the generated client's methods.
type call func(context.Context, *writerv1.EventRequest, ...grpc.CallOption) (*writerv1.EventResponse, error)

func (r *Remote) notify(ctx context.Context, kind EventKind, e *Event, send call) error {
	var fragment []byte
	if e.Components != nil {
		var err error
		if fragment, err = formatComponents(e.Components); err != nil {
			return vss.Errorf(vss.ErrUnexpected, kind.String(), r.String(), "components: %w", err)
		}
	}
	resp, err := send(ctx, requestOf(r.handle, kind, e, fragment))
	if err != nil {
		return errorOfCall(ctx, kind.String(), r.String(), err)
	}
	return storeResponse(kind, e, resp)
}

// PrepareForBackup implements [BackupPreparer].
func (r *Remote) PrepareForBackup(ctx context.Context, e *Event) error {
	return r.notify(ctx, EventPrepareForBackup, e, r.c.rpc.PrepareForBackup)
}

// PrepareForSnapshot implements [SnapshotPreparer].
func (r *Remote) PrepareForSnapshot(ctx context.Context, e *Event) error {
	return r.notify(ctx, EventPrepareForSnapshot, e, r.c.rpc.PrepareForSnapshot)
}

// Freeze implements [Writer].
func (r *Remote) Freeze(ctx context.Context, e *Event) error {
	return r.notify(ctx, EventFreeze, e, r.c.rpc.Freeze)
}

// Thaw implements [Writer].
func (r *Remote) Thaw(ctx context.Context, e *Event) error {
	return r.notify(ctx, EventThaw, e, r.c.rpc.Thaw)
}

// PostSnapshot implements [PostSnapshotter].
func (r *Remote) PostSnapshot(ctx context.Context, e *Event) error {
	return r.notify(ctx, EventPostSnapshot, e, r.c.rpc.PostSnapshot)
}

// BackupComplete implements [BackupCompleter].
func (r *Remote) BackupComplete(ctx context.Context, e *Event) error {
	return r.notify(ctx, EventBackupComplete, e, r.c.rpc.BackupComplete)
}

// BackupShutdown implements [BackupShutdowner].
func (r *Remote) BackupShutdown(ctx context.Context, e *Event) error {
	return r.notify(ctx, EventBackupShutdown, e, r.c.rpc.BackupShutdown)
}

// Abort implements [Writer].
func (r *Remote) Abort(ctx context.Context, e *Event) error {
	return r.notify(ctx, EventAbort, e, r.c.rpc.Abort)
}

// PreRestore implements [PreRestorer].
func (r *Remote) PreRestore(ctx context.Context, e *Event) error {
	return r.notify(ctx, EventPreRestore, e, r.c.rpc.PreRestore)
}

// PostRestore implements [PostRestorer].
func (r *Remote) PostRestore(ctx context.Context, e *Event) error {
	return r.notify(ctx, EventPostRestore, e, r.c.rpc.PostRestore)
}
