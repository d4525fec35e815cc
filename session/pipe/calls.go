package pipe

import (
	"context"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// The calls of the model, each sent as it is.

func (far *client) Host(ctx context.Context) (out session.Host, err error) {
	err = far.do(ctx, 0, "Host", nil, &out)
	return out, err
}

func (far *client) SessionID(ctx context.Context) (out vss.GUID, err error) {
	err = far.do(ctx, 0, "SessionID", nil, &out)
	return out, err
}

func (far *client) InitializeForBackup(ctx context.Context, document []byte) error {
	return far.do(ctx, 0, "InitializeForBackup", []any{document})
}

func (far *client) SetContext(ctx context.Context, c vss.SnapshotContext) error {
	return far.do(ctx, 0, "SetContext", []any{c})
}

func (far *client) SetBackupState(ctx context.Context, s session.BackupState) error {
	return far.do(ctx, 0, "SetBackupState", []any{s})
}

func (far *client) InitializeForRestore(ctx context.Context, document []byte, stored []session.StoredWriter) error {
	return far.do(ctx, 0, "InitializeForRestore", []any{document, stored})
}

func (far *client) SetRestoreState(ctx context.Context, t vss.RestoreType) error {
	return far.do(ctx, 0, "SetRestoreState", []any{t})
}

func (far *client) EnableWriterClasses(ctx context.Context, classes ...vss.GUID) error {
	return far.do(ctx, 0, "EnableWriterClasses", []any{classes})
}

func (far *client) DisableWriterClasses(ctx context.Context, classes ...vss.GUID) error {
	return far.do(ctx, 0, "DisableWriterClasses", []any{classes})
}

func (far *client) DisableWriterInstances(ctx context.Context, instances ...vss.GUID) error {
	return far.do(ctx, 0, "DisableWriterInstances", []any{instances})
}

func (far *client) SaveAsXML(ctx context.Context) (out []byte, err error) {
	err = far.do(ctx, 0, "SaveAsXML", nil, &out)
	return out, err
}

func (far *client) GatherWriterMetadata(ctx context.Context, p session.Progress) error {
	return far.long(ctx, "GatherWriterMetadata", p)
}

func (far *client) WriterMetadata(ctx context.Context) (out []session.WriterInfo, err error) {
	err = far.do(ctx, 0, "WriterMetadata", nil, &out)
	return out, err
}

func (far *client) FreeWriterMetadata(ctx context.Context) error {
	return far.do(ctx, 0, "FreeWriterMetadata", nil)
}

func (far *client) AddComponent(ctx context.Context, c session.Component) error {
	return far.do(ctx, 0, "AddComponent", []any{c})
}

func (far *client) SetBackupOptions(ctx context.Context, c session.Component, options string) error {
	return far.do(ctx, 0, "SetBackupOptions", []any{c, options})
}

func (far *client) SetPreviousBackupStamp(ctx context.Context, c session.Component, stamp string) error {
	return far.do(ctx, 0, "SetPreviousBackupStamp", []any{c, stamp})
}

func (far *client) PrepareForBackup(ctx context.Context, p session.Progress) error {
	return far.long(ctx, "PrepareForBackup", p)
}

func (far *client) GatherWriterStatus(ctx context.Context, p session.Progress) error {
	return far.long(ctx, "GatherWriterStatus", p)
}

func (far *client) WriterStatus(ctx context.Context) (out []session.WriterStatus, err error) {
	err = far.do(ctx, 0, "WriterStatus", nil, &out)
	return out, err
}

func (far *client) FreeWriterStatus(ctx context.Context) error {
	return far.do(ctx, 0, "FreeWriterStatus", nil)
}

func (far *client) BackupComponents(ctx context.Context) (out []byte, err error) {
	err = far.do(ctx, 0, "BackupComponents", nil, &out)
	return out, err
}

func (far *client) SetBackupSucceeded(ctx context.Context, c session.Component, ok bool) error {
	return far.do(ctx, 0, "SetBackupSucceeded", []any{c, ok})
}

func (far *client) BackupComplete(ctx context.Context, p session.Progress) error {
	return far.long(ctx, "BackupComplete", p)
}

func (far *client) AbortBackup(ctx context.Context) error {
	return far.do(ctx, 0, "AbortBackup", nil)
}

func (far *client) IsVolumeSupported(ctx context.Context, provider vss.GUID, volume string) (out session.Support, err error) {
	err = far.do(ctx, 0, "IsVolumeSupported", []any{provider, volume}, &out)
	return out, err
}

func (far *client) StartSnapshotSet(ctx context.Context) (out vss.GUID, err error) {
	err = far.do(ctx, 0, "StartSnapshotSet", nil, &out)
	return out, err
}

func (far *client) AddToSnapshotSet(ctx context.Context, volume string, provider vss.GUID, scope session.Scope) (out vss.GUID, err error) {
	err = far.do(ctx, 0, "AddToSnapshotSet", []any{volume, provider, scope}, &out)
	return out, err
}

func (far *client) Estimates(ctx context.Context) (out []session.Estimate, err error) {
	err = far.do(ctx, 0, "Estimates", nil, &out)
	return out, err
}

func (far *client) DoSnapshotSet(ctx context.Context, p session.Progress) error {
	return far.long(ctx, "DoSnapshotSet", p)
}

func (far *client) Receipt(ctx context.Context) (out session.Receipt, err error) {
	err = far.do(ctx, 0, "Receipt", nil, &out)
	return out, err
}

func (far *client) SnapshotProperties(ctx context.Context, snapshot vss.GUID) (out session.SnapshotProperties, err error) {
	err = far.do(ctx, 0, "SnapshotProperties", []any{snapshot}, &out)
	return out, err
}

func (far *client) SnapshotSpace(ctx context.Context, snapshot vss.GUID) (out session.Space, err error) {
	err = far.do(ctx, 0, "SnapshotSpace", []any{snapshot}, &out)
	return out, err
}
func (far *client) QuerySnapshots(ctx context.Context) (out []session.SnapshotProperties, err error) {
	err = far.do(ctx, 0, "QuerySnapshots", nil, &out)
	return out, err
}

func (far *client) QueryProviders(ctx context.Context) (out []session.Provider, err error) {
	err = far.do(ctx, 0, "QueryProviders", nil, &out)
	return out, err
}

func (far *client) DeleteSnapshots(ctx context.Context, id vss.GUID, kind vss.ObjectType) (out int, err error) {
	err = far.do(ctx, 0, "DeleteSnapshots", []any{id, kind}, &out)
	return out, err
}

func (far *client) ExposeSnapshot(ctx context.Context, snapshot vss.GUID, path string) (out string, err error) {
	err = far.do(ctx, 0, "ExposeSnapshot", []any{snapshot, path}, &out)
	return out, err
}

func (far *client) UnexposeSnapshot(ctx context.Context, snapshot vss.GUID) error {
	return far.do(ctx, 0, "UnexposeSnapshot", []any{snapshot})
}

func (far *client) ImportSnapshots(ctx context.Context) error {
	return far.do(ctx, 0, "ImportSnapshots", nil)
}

func (far *client) BreakSnapshotSet(ctx context.Context, set vss.GUID) error {
	return far.do(ctx, 0, "BreakSnapshotSet", []any{set})
}

func (far *client) RevertToSnapshot(ctx context.Context, snapshot vss.GUID, force bool) error {
	return far.do(ctx, 0, "RevertToSnapshot", []any{snapshot, force})
}

func (far *client) SetSelectedForRestore(ctx context.Context, c session.Component, selected bool, instance vss.GUID) error {
	return far.do(ctx, 0, "SetSelectedForRestore", []any{c, selected, instance})
}

func (far *client) AddRestoreSubcomponent(ctx context.Context, c session.Component, path string, name string) error {
	return far.do(ctx, 0, "AddRestoreSubcomponent", []any{c, path, name})
}

func (far *client) SetRestoreOptions(ctx context.Context, c session.Component, options string) error {
	return far.do(ctx, 0, "SetRestoreOptions", []any{c, options})
}

func (far *client) SetAdditionalRestores(ctx context.Context, c session.Component, more bool) error {
	return far.do(ctx, 0, "SetAdditionalRestores", []any{c, more})
}

func (far *client) SetAuthoritativeRestore(ctx context.Context, c session.Component, on bool) error {
	return far.do(ctx, 0, "SetAuthoritativeRestore", []any{c, on})
}

func (far *client) SetRollForward(ctx context.Context, c session.Component, t vss.RollForwardType, point string) error {
	return far.do(ctx, 0, "SetRollForward", []any{c, t, point})
}

func (far *client) SetRestoreName(ctx context.Context, c session.Component, name string) error {
	return far.do(ctx, 0, "SetRestoreName", []any{c, name})
}

func (far *client) AddNewTarget(ctx context.Context, c session.Component, spec vss.FileSpec, path string) error {
	return far.do(ctx, 0, "AddNewTarget", []any{c, spec, path})
}

func (far *client) PreRestore(ctx context.Context, p session.Progress) error {
	return far.long(ctx, "PreRestore", p)
}

func (far *client) AddAlternativeLocationMapping(ctx context.Context, c session.Component, spec vss.FileSpec, destination string) error {
	return far.do(ctx, 0, "AddAlternativeLocationMapping", []any{c, spec, destination})
}

func (far *client) SetRangesFilePath(ctx context.Context, c session.Component, partialFile int, path string) error {
	return far.do(ctx, 0, "SetRangesFilePath", []any{c, partialFile, path})
}

func (far *client) SetFileRestoreStatus(ctx context.Context, c session.Component, s vss.FileRestoreStatus) error {
	return far.do(ctx, 0, "SetFileRestoreStatus", []any{c, s})
}

func (far *client) PostRestore(ctx context.Context, p session.Progress) error {
	return far.long(ctx, "PostRestore", p)
}

func (far *client) ResolvePath(ctx context.Context, path string) (out session.Location, err error) {
	err = far.do(ctx, 0, "ResolvePath", []any{path}, &out)
	return out, err
}

func (far *client) Volume(ctx context.Context, id string) (out session.Volume, err error) {
	err = far.do(ctx, 0, "Volume", []any{id}, &out)
	return out, err
}

func (far *client) VolumesUnder(ctx context.Context, path string) (out []session.Location, err error) {
	err = far.do(ctx, 0, "VolumesUnder", []any{path}, &out)
	return out, err
}

func (far *client) Tree(ctx context.Context, snapshot vss.GUID) (session.Tree, error) {
	id, err := far.open(ctx, 0, "Tree", []any{snapshot})
	if err != nil {
		return nil, err
	}
	return &tree{object{far, id}}, nil
}

func (far *client) Live(ctx context.Context, volume string) (session.Tree, error) {
	id, err := far.open(ctx, 0, "Live", []any{volume})
	if err != nil {
		return nil, err
	}
	return &tree{object{far, id}}, nil
}

func (far *client) Target(ctx context.Context, dir string, roots []string) (session.Target, error) {
	id, err := far.open(ctx, 0, "Target", []any{dir, roots})
	if err != nil {
		return nil, err
	}
	return &target{object{far, id}}, nil
}
