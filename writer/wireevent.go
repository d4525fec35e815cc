package writer

import (
	"bytes"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sombra-backup/sombra/vss"

	writerv1 "github.com/sombra-backup/sombra/proto/sombra/writer/v1"
)

// requestOf makes the message of an event. fragment is the event's components
// as XML, nil if it has none.
func requestOf(handle uint32, kind EventKind, e *Event, fragment []byte) *writerv1.EventRequest {
	req := &writerv1.EventRequest{
		Handle:        handle,
		SessionId:     guidToWire(e.SessionID),
		SnapshotSetId: guidToWire(e.SnapshotSetID),
		Context:       uint32(e.Context),
		State: &writerv1.BackupState{
			SelectComponents:    e.State.SelectComponents,
			BootableSystemState: e.State.BootableSystemState,
			Type:                int32(e.State.Type),
			PartialFileSupport:  e.State.PartialFileSupport,
		},
		RestoreType: int32(e.RestoreType),
		Components:  fragment,
	}
	if kind == EventFreeze {
		req.FreezeLimit = durationToWire(e.Limit)
	}
	for _, s := range e.Snapshots {
		req.Snapshots = append(req.Snapshots, &writerv1.Snapshot{
			Id: guidToWire(s.ID), VolumeId: s.VolumeID, VolumeRoot: s.VolumeRoot, DeviceRoot: s.DeviceRoot,
		})
	}
	for _, f := range e.Open[:min(len(e.Open), maxFiles)] {
		req.OpenFiles = append(req.OpenFiles, &writerv1.OpenFile{
			Path: boundText(f.Path), Pid: int32(f.PID), Command: boundText(f.Command),
		})
	}
	return req
}

// eventOf is the reverse of requestOf. Everything in a message may be wrong.
func eventOf(req *writerv1.EventRequest) (*Event, error) {
	if len(req.GetSnapshots()) > maxSnapshots {
		return nil, badRequest("%d shadow copies, more than %d", len(req.GetSnapshots()), maxSnapshots)
	}
	if len(req.GetOpenFiles()) > maxFiles {
		return nil, badRequest("%d open files, more than %d", len(req.GetOpenFiles()), maxFiles)
	}
	state := req.GetState()
	e := &Event{
		Context:     vss.SnapshotContext(req.GetContext()),
		RestoreType: vss.RestoreType(req.GetRestoreType()),
		State: BackupState{
			SelectComponents:    state.GetSelectComponents(),
			BootableSystemState: state.GetBootableSystemState(),
			Type:                vss.BackupType(state.GetType()),
			PartialFileSupport:  state.GetPartialFileSupport(),
		},
		Limit: durationFromWire(req.GetFreezeLimit()),
	}
	var err error
	if e.SessionID, err = guidFromWire(req.GetSessionId()); err != nil {
		return nil, badRequest("session id: %w", err)
	}
	if e.SnapshotSetID, err = guidFromWire(req.GetSnapshotSetId()); err != nil {
		return nil, badRequest("shadow copy set id: %w", err)
	}
	for _, s := range req.GetSnapshots() {
		id, err := guidFromWire(s.GetId())
		if err != nil {
			return nil, badRequest("shadow copy id: %w", err)
		}
		e.Snapshots = append(e.Snapshots, Snapshot{
			ID: id, VolumeID: s.GetVolumeId(), VolumeRoot: s.GetVolumeRoot(), DeviceRoot: s.GetDeviceRoot(),
		})
	}
	for _, f := range req.GetOpenFiles() {
		e.Open = append(e.Open, OpenFile{Path: f.GetPath(), PID: int(f.GetPid()), Command: f.GetCommand()})
	}
	if req.Components != nil {
		if e.Components, err = parseComponents(req.Components); err != nil {
			return nil, badRequest("components: %w", err)
		}
	}
	return e, nil
}

func badRequest(format string, args ...any) error {
	return vss.Errorf(vss.ErrInvalidArgument, "read", "event", format, args...)
}

// responseOf makes the answer to an event that ended with err.
func responseOf(kind EventKind, e *Event, sent []byte, err error) (*writerv1.EventResponse, error) {
	resp := &writerv1.EventResponse{Veto: errorToWire(err), Failure: failureToWire(e.Failure)}
	if kind == EventFreeze {
		resp.Freeze = &writerv1.FreezeReport{LockWait: durationpb.New(max(e.Report.LockWait, 0))}
		for _, pid := range e.Report.Processes {
			resp.Freeze.Processes = append(resp.Freeze.Processes, int32(pid))
		}
		if len(e.Report.Processes) > maxProcesses {
			return nil, vss.Errorf(vss.ErrWriterErrorNonRetryable, "Freeze", "writer", "it names %d processes, more than %d", len(e.Report.Processes), maxProcesses)
		}
	}
	if e.Components == nil || !kind.KeepsComponents() {
		return resp, nil
	}
	fragment, ferr := formatComponents(e.Components)
	if ferr != nil {
		return nil, ferr
	}
	if !bytes.Equal(fragment, sent) {
		resp.Components = fragment
	}
	return resp, nil
}

// storeResponse puts an answer into the event it answers and gives the
// handler's result.
func storeResponse(kind EventKind, e *Event, resp *writerv1.EventResponse) error {
	e.Failure = failureFromWire(resp.GetFailure())
	if f := resp.GetFreeze(); f != nil && kind == EventFreeze {
		if len(f.GetProcesses()) > maxProcesses {
			return vss.Errorf(vss.ErrUnexpectedWriterError, kind.String(), "writer", "it names %d processes, more than %d", len(f.GetProcesses()), maxProcesses)
		}
		e.Report = FreezeReport{LockWait: durationFromWire(f.GetLockWait())}
		for _, pid := range f.GetProcesses() {
			e.Report.Processes = append(e.Report.Processes, int(pid))
		}
	}
	if resp.Components != nil && e.Components != nil && kind.KeepsComponents() {
		parsed, err := parseComponents(resp.Components)
		if err != nil {
			return vss.Errorf(vss.ErrUnexpectedWriterError, kind.String(), "writer", "its components: %w", err)
		}
		e.Components = parsed
	}
	return errorFromWire(resp.GetVeto())
}
