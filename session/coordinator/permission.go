package coordinator

import (
	"slices"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// permission says in which events a writer may call a setter of IVssComponent.
// That it calls none of the requester's, the document itself sees to.
type permission struct {
	call    string
	events  []writer.EventKind
	changed func(before, after *metadata.Component) bool
}

var (
	inBackupEvents = []writer.EventKind{writer.EventPrepareForBackup, writer.EventPostSnapshot}
	inAnyEvent     = []writer.EventKind{writer.EventPrepareForBackup, writer.EventPostSnapshot, writer.EventPreRestore, writer.EventPostRestore}
)

// permissions are by the pages of the setters. SetRestoreMetadata is named for
// PrepareForBackup too, and SetPostRestoreFailureMsg needs PostRestore (D-10).
var permissions = []permission{
	{"SetBackupMetadata", inBackupEvents, textChanged((*metadata.Component).BackupMetadata)},
	{"SetBackupStamp", inBackupEvents, func(before, after *metadata.Component) bool {
		b, had := before.BackupStamp()
		a, has := after.BackupStamp()
		return had != has || b != a
	}},
	{"AddPartialFile", inBackupEvents, added((*metadata.Component).PartialFiles)},
	{"AddDifferencedFilesByLastModifyTime", inBackupEvents, added((*metadata.Component).DifferencedFiles)},
	{"SetPrepareForBackupFailureMsg", []writer.EventKind{writer.EventPrepareForBackup}, textChanged((*metadata.Component).PrepareForBackupFailureMsg)},
	{"SetPostSnapshotFailureMsg", []writer.EventKind{writer.EventPostSnapshot}, textChanged((*metadata.Component).PostSnapshotFailureMsg)},
	{"SetRestoreMetadata", []writer.EventKind{writer.EventPrepareForBackup, writer.EventPreRestore}, textChanged((*metadata.Component).RestoreMetadata)},
	{"SetRestoreTarget", []writer.EventKind{writer.EventPreRestore}, func(before, after *metadata.Component) bool {
		return before.RestoreTarget() != after.RestoreTarget()
	}},
	{"AddDirectedTarget", []writer.EventKind{writer.EventPreRestore}, added((*metadata.Component).DirectedTargets)},
	{"SetPreRestoreFailureMsg", []writer.EventKind{writer.EventPreRestore}, textChanged((*metadata.Component).PreRestoreFailureMsg)},
	{"SetPostRestoreFailureMsg", []writer.EventKind{writer.EventPostRestore}, textChanged((*metadata.Component).PostRestoreFailureMsg)},
	{"SetFailure", inAnyEvent, func(before, after *metadata.Component) bool {
		b, had := before.Failure()
		a, has := after.Failure()
		return had != has || b != a
	}},
}

func textChanged(get func(*metadata.Component) (string, bool)) func(before, after *metadata.Component) bool {
	return func(before, after *metadata.Component) bool {
		b, had := get(before)
		a, has := get(after)
		return had != has || b != a
	}
}

func added[T any](get func(*metadata.Component) []T) func(before, after *metadata.Component) bool {
	return func(before, after *metadata.Component) bool { return len(get(after)) != len(get(before)) }
}

// checkPart refuses what a writer changed in its part of the document that it may
// not change in this event, or, with partial files, in this backup (R-SET-35).
func (s *service) checkPart(before *metadata.WriterComponents, kind writer.EventKind, after *metadata.WriterComponents) error {
	for _, now := range after.Components() {
		was, ok := before.Component(now.LogicalPath(), now.Name())
		if !ok {
			continue // the document refuses it
		}
		for _, p := range permissions {
			switch {
			case !p.changed(was, now):
			case !slices.Contains(p.events, kind):
				return vss.Errorf(vss.ErrBadState, p.call, now.FullPath(), "a writer may not call it in %v", kind)
			case p.call == "AddPartialFile" && !s.state.PartialFileSupport:
				return vss.Errorf(vss.ErrBadState, p.call, now.FullPath(), "this backup takes no partial files; see IsPartialFileSupportEnabled")
			}
		}
	}
	return nil
}
