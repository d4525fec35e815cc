package coordinator

import (
	"context"
	"fmt"
	"slices"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// setDocumentState puts what is known of the backup into the document.
func (s *service) setDocumentState() {
	if !s.has(inBackup) || s.state.Type == vss.BackupTypeUndefined {
		return
	}
	err := s.doc.SetBackupState(metadata.BackupState{
		SelectComponents: s.state.SelectComponents, BootableSystemState: s.state.BootableSystemState,
		Type: s.state.Type, PartialFileSupport: s.state.PartialFileSupport,
	})
	if err == nil && s.set != nil {
		err = s.doc.SetSnapshotSetID(s.set.id)
	}
	if err != nil {
		s.log.Error("backup components document", "error", err) // the type was checked: cannot be
	}
}

// documentInstance is the instance id under which the writer's components stand
// in the document: its own, or in a restore that of the backup.
func (p *participant) documentInstance() vss.GUID {
	if !p.restores.IsZero() {
		return p.restores
	}
	return p.instance
}

// part is the writer's part of the document, as a copy of its own; nil if it
// has none.
func (s *service) part(p *participant) *metadata.WriterComponents {
	s.docMu.Lock()
	defer s.docMu.Unlock()
	w, ok := s.doc.Clone().Writer(p.documentInstance())
	if !ok {
		return nil
	}
	return w
}

// mergePart keeps what a writer changed in its part: nothing but what is a
// writer's to change, and that in the events for it.
func (s *service) mergePart(p *participant, kind writer.EventKind, w *metadata.WriterComponents) error {
	s.docMu.Lock()
	defer s.docMu.Unlock()
	before, ok := s.doc.Writer(p.documentInstance())
	if !ok {
		return vss.Errorf(vss.ErrUnexpected, kind.String(), p.instanceName, "it has no part in the document")
	}
	err := s.checkPart(before, kind, w)
	if err == nil {
		err = s.checkDirected(p, kind, w)
	}
	if err == nil {
		err = s.checkLists(p, kind, w)
	}
	if err == nil {
		err = s.doc.MergeWriterPart(p.documentInstance(), w.Part())
	}
	if err != nil {
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, kind.String(), p.instanceName, "its changes to the document: %w", err)
	}
	return nil
}

// takeIn reads and checks the document a writer answered Identify with.
func (g *gathering) takeIn(ctx context.Context, p *participant, doc []byte) error {
	m, err := metadata.ParseWriterMetadata(doc)
	if err != nil {
		return err
	}
	id := m.Identity()
	p.meta, p.document = m, doc
	p.instance, p.class, p.name, p.instanceName = id.InstanceID, id.ClassID, id.Name, id.InstanceName
	// The document's own name is the one that backups are found by again; what a
	// writer was found or configured under may be another.
	if p.instanceName == "" && p.spec != nil {
		p.instanceName = p.spec.Name
	}
	if p.instanceName == "" {
		p.instanceName = p.name
	}
	if p.instance.IsZero() || p.class.IsZero() {
		return vss.Errorf(vss.ErrInvalidXMLDocument, "Identify", p.instanceName, "the document has no writer id or instance id")
	}
	return boundedErr(ctx, func(context.Context) error { return g.checkOwner(p, m) })
}

// checkOwner refuses a writer of another program that declares files or places
// that are not its user's: it could have them read, or written to in a restore.
func (g *gathering) checkOwner(p *participant, m *metadata.WriterMetadata) error {
	if p.socket == "" || p.uid == nil {
		return nil
	}
	var specs []vss.FileSpec
	for _, c := range m.Components() {
		for _, set := range c.FileSets {
			specs = append(specs, set.FileSpec)
			if set.AlternatePath != "" {
				specs = append(specs, vss.FileSpec{Path: set.AlternatePath, Pattern: set.Pattern, Recursive: set.Recursive})
			}
		}
	}
	for _, to := range m.AlternateLocationMappings() {
		specs = append(specs, vss.FileSpec{Path: to.AlternatePath, Pattern: to.Pattern, Recursive: to.Recursive})
	}
	for _, spec := range specs {
		foreign, err := g.service.foreignFile(*p.uid, spec)
		if err != nil {
			return err
		}
		if foreign != "" {
			return errForeign(p.socket, *p.uid, foreign)
		}
	}
	return nil
}

// foreignFile gives something that a file specification names, or would name if
// it were restored, and that is not the user's; empty if there is nothing.
func (s *service) foreignFile(uid uint32, spec vss.FileSpec) (string, error) {
	dir, err := vss.ExpandEnv(spec.Path, lookupEnv)
	if err != nil {
		return "", err
	}
	only := ""
	if !spec.Recursive && !vss.HasWildcard(spec.Pattern) {
		only = spec.Pattern
	}
	return foreignBelow(uid, dir, spec.Recursive, only, func(name string) bool {
		return vss.MatchPattern(spec.Pattern, name, s.host.Style.Fold())
	})
}

// checkDirected refuses directed targets of a writer that runs as another user, to
// files which are not that user's: the restore would write there as root.
func (s *service) checkDirected(p *participant, kind writer.EventKind, w *metadata.WriterComponents) error {
	if p.uid == nil || kind != writer.EventPreRestore {
		return nil
	}
	seen := map[vss.FileSpec]bool{}
	for _, c := range w.Components() {
		for _, t := range c.DirectedTargets() {
			spec := vss.FileSpec{Path: t.DestinationPath, Pattern: t.DestinationName}
			if seen[spec] {
				continue
			}
			seen[spec] = true
			foreign, err := s.foreignFile(*p.uid, spec)
			if err != nil {
				return err
			}
			if foreign != "" {
				return vss.Errorf(vss.ErrWriterErrorNonRetryable, "AddDirectedTarget", c.FullPath(),
					"the writer runs as uid %d, which does not own %s; it may direct nothing there", *p.uid, foreign)
			}
		}
	}
	return nil
}

// storedWriters gives kinds the writers of the backup to be restored.
func (g *gathering) storedWriters() ([]writer.Stored, error) {
	list := make([]writer.Stored, 0, len(g.stored))
	for _, w := range g.stored {
		m, err := metadata.ParseWriterMetadata(w.Document)
		if err != nil {
			return nil, fmt.Errorf("stored writer metadata: %w", err)
		}
		list = append(list, writer.Stored{Metadata: m, Owner: writer.Owner{UID: w.UID, GID: w.GID}})
	}
	return list, nil
}

// find returns the writer instance a call names.
func (s *service) find(op string, instance vss.GUID) (*participant, error) {
	i := slices.IndexFunc(s.writers, func(p *participant) bool { return p.instance == instance })
	if i < 0 {
		return nil, vss.Errorf(vss.ErrObjectNotFound, op, "writer instance "+instance.String(), "no such writer answered Identify")
	}
	return s.writers[i], nil
}

// AddComponent implements [session.Writers].
func (s *service) AddComponent(ctx context.Context, c session.Component) error {
	const op = "AddComponent"
	_, leave, err := s.enter(ctx, op, inBackup|gathered, prepared|snapped|setFailed|aborted)
	if err != nil {
		return err
	}
	defer leave()
	if s.noWriters() {
		return vss.Errorf(vss.ErrBadState, op, c.Name, "the context %v has no writers", s.context)
	}
	p, err := s.find(op, c.Instance)
	if err != nil {
		return err
	}
	if p.class != c.Writer {
		return vss.Errorf(vss.ErrObjectNotFound, op, c.Name, "writer instance %v is of class %v", p.instance, p.class)
	}
	info, ok := p.meta.Component(c.LogicalPath, c.Name)
	if !ok || info.Type != c.Type {
		return vss.Errorf(vss.ErrObjectNotFound, op, vss.FullPath(c.LogicalPath, c.Name), "writer %s has no such component of type %v", p.instanceName, c.Type)
	}
	key := metadata.WriterKey{InstanceID: p.instance, ClassID: p.class, Schema: p.meta.BackupSchema()}
	if _, err := s.doc.AddComponent(key, c.Type, c.LogicalPath, c.Name); err != nil {
		return err
	}
	p.in = true
	return nil
}

// component finds a component that stands in the document.
func (s *service) component(c session.Component) (*metadata.Component, error) {
	if !c.Instance.IsZero() {
		if w, ok := s.doc.Writer(c.Instance); ok {
			if mc, ok := w.Component(c.LogicalPath, c.Name); ok {
				return mc, nil
			}
		}
		return nil, vss.Errorf(vss.ErrObjectNotFound, "find component", vss.FullPath(c.LogicalPath, c.Name), "it is not in the document")
	}
	return s.doc.Component(vss.ComponentID{WriterClass: c.Writer, LogicalPath: c.LogicalPath, Name: c.Name})
}

// change is the frame of calls that set something on a component.
func (s *service) change(c session.Component, fn func(*metadata.Component) error) error {
	s.docMu.Lock()
	defer s.docMu.Unlock()
	mc, err := s.component(c)
	if err != nil {
		return err
	}
	return fn(mc)
}

// beforePrepare is the frame of calls that come before PrepareForBackup.
func (s *service) beforePrepare(ctx context.Context, op string, c session.Component, fn func(*metadata.Component) error) error {
	_, leave, err := s.enter(ctx, op, inBackup|gathered, prepared|aborted)
	if err != nil {
		return err
	}
	defer leave()
	return s.change(c, fn)
}

// SetBackupOptions implements [session.Writers].
func (s *service) SetBackupOptions(ctx context.Context, c session.Component, options string) error {
	return s.beforePrepare(ctx, "SetBackupOptions", c, func(mc *metadata.Component) error { return mc.SetBackupOptions(options) })
}

// SetPreviousBackupStamp implements [session.Writers].
func (s *service) SetPreviousBackupStamp(ctx context.Context, c session.Component, stamp string) error {
	return s.beforePrepare(ctx, "SetPreviousBackupStamp", c, func(mc *metadata.Component) error {
		return mc.SetPreviousBackupStamp(vss.BackupStamp(stamp))
	})
}

// SetBackupSucceeded implements [session.Writers].
func (s *service) SetBackupSucceeded(ctx context.Context, c session.Component, ok bool) error {
	const op = "SetBackupSucceeded"
	_, leave, err := s.enter(ctx, op, inBackup|prepared, setFailed|completed|aborted)
	if err != nil {
		return err
	}
	defer leave()
	if s.set != nil && len(s.set.copies) > 0 && !s.has(snapped) {
		return vss.Errorf(vss.ErrBadState, op, "", "it must come after DoSnapshotSet")
	}
	return s.change(c, func(mc *metadata.Component) error { return mc.SetBackupSucceeded(ok) })
}

// SetSelectedForRestore implements [session.Restorer].
func (s *service) SetSelectedForRestore(ctx context.Context, c session.Component, selected bool, instance vss.GUID) error {
	return s.choosing(ctx, "SetSelectedForRestore", func() error {
		return s.change(c, func(mc *metadata.Component) error {
			stored := mc.Writer()
			c.Instance = stored.InstanceID
			p, err := s.restorer(c, instance)
			if err != nil {
				return err
			}
			if !instance.IsZero() && instance != stored.InstanceID && p.meta.BackupSchema()&vss.SchemaRestoreWithMove == 0 {
				return vss.Errorf(vss.ErrInvalidArgument, "SetSelectedForRestoreEx", c.Name,
					"writer %s does not support restore with move", p.instanceName)
			}
			if selected {
				if !p.restores.IsZero() && p.restores != stored.InstanceID {
					return vss.Errorf(vss.ErrObjectAlreadyExists, "SetSelectedForRestore", c.Name,
						"writer %s already restores another instance's components", p.instanceName)
				}
				p.in, p.restores = true, stored.InstanceID
			}
			if err := mc.SetSelectedForRestore(selected, instance); err != nil {
				return err
			}
			if !selected && p.restores == stored.InstanceID && !s.anySelected(stored.InstanceID) {
				p.in, p.restores = false, vss.GUID{} // R-SEL-29
			}
			return nil
		})
	})
}

// anySelected reports whether a component of a writer instance of the backup is
// selected for restore.
func (s *service) anySelected(instance vss.GUID) bool {
	w, ok := s.doc.Writer(instance)
	return ok && slices.ContainsFunc(w.Components(), func(c *metadata.Component) bool {
		selected, _ := c.SelectedForRestore()
		return selected
	})
}

// AddRestoreSubcomponent implements [session.Restorer].
func (s *service) AddRestoreSubcomponent(ctx context.Context, c session.Component, path, name string) error {
	return s.choosing(ctx, "AddRestoreSubcomponent", func() error {
		return s.change(c, func(mc *metadata.Component) error {
			if selected, _ := mc.SelectedForRestore(); !selected {
				return vss.Errorf(vss.ErrBadState, "AddRestoreSubcomponent", vss.FullPath(path, name),
					"%s must be selected for restore before", mc.FullPath()) // R-SEL-24
			}
			return mc.AddRestoreSubcomponent(metadata.RestoreSubcomponent{LogicalPath: path, Name: name})
		})
	})
}

// SetRestoreOptions implements [session.Restorer].
func (s *service) SetRestoreOptions(ctx context.Context, c session.Component, options string) error {
	return s.choosing(ctx, "SetRestoreOptions", func() error {
		return s.change(c, func(mc *metadata.Component) error { return mc.SetRestoreOptions(options) })
	})
}

// SetAdditionalRestores implements [session.Restorer].
func (s *service) SetAdditionalRestores(ctx context.Context, c session.Component, more bool) error {
	return s.choosing(ctx, "SetAdditionalRestores", func() error {
		return s.change(c, func(mc *metadata.Component) error { return mc.SetAdditionalRestores(more) })
	})
}

// withSchema is the frame of restore calls for which the writer must have a bit
// in its schema.
func (s *service) withSchema(ctx context.Context, op string, bit vss.BackupSchema, c session.Component, fn func(*metadata.Component) error) error {
	return s.choosing(ctx, op, func() error {
		return s.change(c, func(mc *metadata.Component) error {
			if mc.Writer().Schema&bit == 0 {
				return vss.Errorf(vss.ErrNotSupported, op, c.Name, "its writer's schema lacks %v", bit)
			}
			return fn(mc)
		})
	})
}

// SetAuthoritativeRestore implements [session.Restorer].
func (s *service) SetAuthoritativeRestore(ctx context.Context, c session.Component, on bool) error {
	return s.withSchema(ctx, "SetAuthoritativeRestore", vss.SchemaAuthoritativeRestore, c,
		func(mc *metadata.Component) error { return mc.SetAuthoritativeRestore(on) })
}

// SetRollForward implements [session.Restorer].
func (s *service) SetRollForward(ctx context.Context, c session.Component, t vss.RollForwardType, point string) error {
	return s.withSchema(ctx, "SetRollForward", vss.SchemaRollForwardRestore, c,
		func(mc *metadata.Component) error { return mc.SetRollForward(t, point) })
}

// SetRestoreName implements [session.Restorer].
func (s *service) SetRestoreName(ctx context.Context, c session.Component, name string) error {
	return s.withSchema(ctx, "SetRestoreName", vss.SchemaRestoreRename, c,
		func(mc *metadata.Component) error { return mc.SetRestoreName(name) })
}

// AddNewTarget implements [session.Restorer].
func (s *service) AddNewTarget(ctx context.Context, c session.Component, spec vss.FileSpec, path string) error {
	return s.withSchema(ctx, "AddNewTarget", vss.SchemaNewTarget, c, func(mc *metadata.Component) error {
		return mc.AddNewTarget(metadata.NewTarget{FileSpec: spec, NewPath: path})
	})
}

// AddAlternativeLocationMapping implements [session.Restorer].
func (s *service) AddAlternativeLocationMapping(ctx context.Context, c session.Component, spec vss.FileSpec, destination string) error {
	return s.reporting(ctx, "AddAlternativeLocationMapping", func() error {
		return s.change(c, func(mc *metadata.Component) error {
			return mc.AddAlternativeLocationMapping(metadata.AlternateLocationMapping{FileSpec: spec, AlternatePath: destination})
		})
	})
}

// SetRangesFilePath implements [session.Restorer].
func (s *service) SetRangesFilePath(ctx context.Context, c session.Component, partialFile int, path string) error {
	return s.reporting(ctx, "SetRangesFilePath", func() error {
		return s.change(c, func(mc *metadata.Component) error { return mc.SetRangesFilePath(partialFile, path) })
	})
}

// SetFileRestoreStatus implements [session.Restorer].
func (s *service) SetFileRestoreStatus(ctx context.Context, c session.Component, st vss.FileRestoreStatus) error {
	return s.reporting(ctx, "SetFileRestoreStatus", func() error {
		return s.change(c, func(mc *metadata.Component) error { return mc.SetFileRestoreStatus(st) })
	})
}
