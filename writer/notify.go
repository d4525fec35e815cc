package writer

import (
	"context"
	"fmt"

	"github.com/sombra-backup/sombra/vss"
)

// EventKind is one of the events a writer gets. The zero EventKind is none.
type EventKind int

// The events, in the order of the package comment.
const (
	EventIdentify EventKind = iota + 1
	EventPrepareForBackup
	EventPrepareForSnapshot
	EventFreeze
	EventThaw
	EventPostSnapshot
	EventBackupComplete
	EventBackupShutdown
	EventAbort
	EventPreRestore
	EventPostRestore
)

var eventNames = [...]string{
	EventIdentify:           "Identify",
	EventPrepareForBackup:   "PrepareForBackup",
	EventPrepareForSnapshot: "PrepareForSnapshot",
	EventFreeze:             "Freeze",
	EventThaw:               "Thaw",
	EventPostSnapshot:       "PostSnapshot",
	EventBackupComplete:     "BackupComplete",
	EventBackupShutdown:     "BackupShutdown",
	EventAbort:              "Abort",
	EventPreRestore:         "PreRestore",
	EventPostRestore:        "PostRestore",
}

// String gives the event's name in the model, such as "PrepareForBackup".
func (k EventKind) String() string {
	if k < EventIdentify || k > EventPostRestore {
		return fmt.Sprintf("EventKind(%d)", int(k))
	}
	return eventNames[k]
}

// EventKinds lists all events in their order.
func EventKinds() []EventKind {
	var all []EventKind
	for k := EventIdentify; k <= EventPostRestore; k++ {
		all = append(all, k)
	}
	return all
}

// ParseEventKind finds an event by its name, exactly.
func ParseEventKind(name string) (EventKind, error) {
	for _, k := range EventKinds() {
		if eventNames[k] == name {
			return k, nil
		}
	}
	return 0, vss.Errorf(vss.ErrInvalidArgument, "parse", "writer event", "%.60q is none of the events of a writer", name)
}

// KeepsComponents reports whether a writer's changes to its part of the Backup
// Components Document are kept after the event.
func (k EventKind) KeepsComponents() bool {
	switch k {
	case EventPrepareForBackup, EventPostSnapshot, EventPreRestore, EventPostRestore:
		return true
	}
	return false
}

// Notify sends one event to a writer. A writer that lacks the handler answers
// as the model's default handler does, with success. The document that Identify
// gives is dropped; who wants it calls Identify.
func Notify(ctx context.Context, w Writer, kind EventKind, e *Event) error {
	handler := func(context.Context, *Event) error { return nil }
	switch kind {
	case EventIdentify:
		_, err := w.Identify(ctx)
		return err
	case EventFreeze:
		handler = w.Freeze
	case EventThaw:
		handler = w.Thaw
	case EventAbort:
		handler = w.Abort
	case EventPrepareForBackup:
		if h, ok := w.(BackupPreparer); ok {
			handler = h.PrepareForBackup
		}
	case EventPrepareForSnapshot:
		if h, ok := w.(SnapshotPreparer); ok {
			handler = h.PrepareForSnapshot
		}
	case EventPostSnapshot:
		if h, ok := w.(PostSnapshotter); ok {
			handler = h.PostSnapshot
		}
	case EventBackupComplete:
		if h, ok := w.(BackupCompleter); ok {
			handler = h.BackupComplete
		}
	case EventBackupShutdown:
		if h, ok := w.(BackupShutdowner); ok {
			handler = h.BackupShutdown
		}
	case EventPreRestore:
		if h, ok := w.(PreRestorer); ok {
			handler = h.PreRestore
		}
	case EventPostRestore:
		if h, ok := w.(PostRestorer); ok {
			handler = h.PostRestore
		}
	default:
		return vss.Errorf(vss.ErrInvalidArgument, "notify", "writer", "%v is no event", kind)
	}
	return handler(ctx, e)
}
