package coordinator

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// service is one session. Fields below mu are guarded by it; the rest belong to
// whichever call is running, of which there is one at a time (see enter).
type service struct {
	opts   Options
	limits session.Limits
	log    *slog.Logger
	id     vss.GUID
	host   session.Host
	slots  *Slots

	mu        sync.Mutex
	phase     phase
	running   string
	interrupt context.CancelCauseFunc
	idle      chan struct{}

	context vss.SnapshotContext
	state   session.BackupState
	rtype   vss.RestoreType
	docMu   sync.Mutex // writers answer at the same time
	doc     *metadata.BackupComponents
	stored  []session.StoredWriter
	filter  classFilter

	writers []*participant
	people  staff
	set     *snapshotSet
	held    *heldSet // of HoldWriters
	receipt session.Receipt

	statuses    []session.WriterStatus
	absent      []session.WriterStatus // of writers that failed Identify
	statusKnown bool

	// background is Aborts, which nobody waits for until the end.
	background background
}

var _ session.Session = (*service)(nil)

// Open begins a session. Nothing is started yet but what an interrupted run
// left behind is removed, if no other run is under way.
func Open(ctx context.Context, o Options) (session.Session, error) {
	if o.StateDir == "" {
		return nil, vss.Errorf(vss.ErrInvalidArgument, "open", "coordinator", "no state directory is given")
	}
	// With it, the directory above the areas that lie in it: a provider makes
	// only its own.
	if err := os.MkdirAll(filepath.Join(o.StateDir, areasDir), 0o700); err != nil {
		return nil, err
	}
	if err := checkState(o.StateDir); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Slots == nil {
		o.Slots = new(Slots)
	}
	if o.Executable == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		o.Executable = exe
	}
	s := &service{
		opts: o, limits: withDefaults(o.Limits), log: o.Log, id: vss.NewGUID(),
		slots: o.Slots, doc: metadata.NewBackupComponents(),
	}
	var err error
	if s.host, err = describeHost(); err != nil {
		return nil, err
	}
	if err := s.tidy(ctx); err != nil {
		s.log.Warn("what an interrupted run left behind is not all removed; the next run tries again", "error", err)
	}
	return s, nil
}

// tidy works off the journal, if there is anything in it that is to go, unless
// another run holds the lock: then it may be that run's.
func (s *service) tidy(ctx context.Context) error {
	list, err := s.journal().entries()
	if err != nil {
		s.log.Warn("part of the journal cannot be read; what it names is not removed", "error", err)
	}
	if !slices.ContainsFunc(list, func(e *journalEntry) bool { return !e.Keep }) {
		return nil
	}
	lock, err := lockState(s.opts.StateDir)
	switch {
	case errors.Is(err, vss.ErrSnapshotSetInProgress), errors.Is(err, vss.ErrNotSupported):
		return nil
	case err != nil:
		return err
	}
	defer lock.Close()
	return s.journal().recover(ctx, s.opts.Providers, s.log)
}

func (s *service) journal() journal {
	return journal{filepath.Join(s.opts.StateDir, "journal")}
}

func describeHost() (session.Host, error) {
	name, err := os.Hostname()
	if err != nil {
		return session.Host{}, err
	}
	id, err := hostID()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return session.Host{}, err
	}
	if id == "" {
		id = "name:" + name
	}
	return session.Host{ID: id, Name: name, OS: runtime.GOOS, Style: vss.POSIX, Privileged: os.Geteuid() == 0}, nil
}

// Host implements [session.Session].
func (s *service) Host(context.Context) (session.Host, error) { return s.host, nil }

// SessionID implements [session.Session].
func (s *service) SessionID(context.Context) (vss.GUID, error) { return s.id, nil }

// InitializeForBackup implements [session.Setup].
func (s *service) InitializeForBackup(ctx context.Context, document []byte) error {
	_, leave, err := s.enter(ctx, "InitializeForBackup", 0, inBackup|inRestore)
	if err != nil {
		return err
	}
	defer leave()
	if document != nil {
		return vss.Errorf(vss.ErrNotSupported, "InitializeForBackup", "", "transported shadow copies cannot be imported on this host")
	}
	s.reached(inBackup)
	return nil
}

// SetContext implements [session.Setup].
func (s *service) SetContext(ctx context.Context, c vss.SnapshotContext) error {
	_, leave, err := s.enter(ctx, "SetContext", inBackup, contextSet|gathered|setOpen|prepared)
	if err != nil {
		return err
	}
	defer leave()
	switch c {
	case vss.ContextBackup, vss.ContextFileShareBackup, vss.ContextNASRollback, vss.ContextAppRollback,
		vss.ContextClientAccessible, vss.ContextClientAccessibleWriters:
	default:
		return vss.Errorf(vss.ErrUnsupportedContext, "SetContext", c.String(), "shadow copies are not made in it")
	}
	s.context = c
	s.reached(contextSet)
	return nil
}

// noWriters reports whether the context leaves writers out.
func (s *service) noWriters() bool {
	return vss.SnapshotAttributes(s.context)&vss.AttrNoWriters != 0
}

// autoRelease reports whether shadow copies go when the session goes.
func (s *service) autoRelease() bool {
	return vss.SnapshotAttributes(s.context)&vss.AttrNoAutoRelease == 0
}

// maxPurpose bounds [session.BackupState].Purpose.
const maxPurpose = 200

// SetBackupState implements [session.Setup].
func (s *service) SetBackupState(ctx context.Context, st session.BackupState) error {
	_, leave, err := s.enter(ctx, "SetBackupState", inBackup, prepared)
	if err != nil {
		return err
	}
	defer leave()
	switch st.Type {
	case vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeDifferential, vss.BackupTypeLog, vss.BackupTypeCopy:
	default:
		return vss.Errorf(vss.ErrInvalidArgument, "SetBackupState", st.Type.String(), "not a type of backup that can be asked for")
	}
	if len(st.Purpose) > maxPurpose {
		return vss.Errorf(vss.ErrInvalidArgument, "SetBackupState", "", "a purpose of %d bytes, more than %d", len(st.Purpose), maxPurpose)
	}
	s.state = st
	s.setDocumentState()
	s.reached(stateSet)
	return nil
}

// InitializeForRestore implements [session.Setup].
func (s *service) InitializeForRestore(ctx context.Context, document []byte, stored []session.StoredWriter) error {
	_, leave, err := s.enter(ctx, "InitializeForRestore", 0, inBackup|inRestore)
	if err != nil {
		return err
	}
	defer leave()
	doc, err := metadata.ParseBackupComponents(document)
	if err != nil {
		return err
	}
	s.doc, s.stored = doc, stored
	s.reached(inRestore)
	return nil
}

// SetRestoreState implements [session.Setup].
func (s *service) SetRestoreState(ctx context.Context, t vss.RestoreType) error {
	_, leave, err := s.enter(ctx, "SetRestoreState", inRestore, preRestored)
	if err != nil {
		return err
	}
	defer leave()
	if t != vss.RestoreTypeByCopy {
		return vss.Errorf(vss.ErrNotSupported, "SetRestoreState", t.String(), "this host restores by copying only")
	}
	s.rtype = t
	return nil
}

// SaveAsXML implements [session.Setup].
func (s *service) SaveAsXML(ctx context.Context) ([]byte, error) {
	_, leave, err := s.enter(ctx, "SaveAsXML", 0, setFailed)
	if err != nil {
		return nil, err
	}
	defer leave()
	switch {
	case s.has(inRestore):
	case !s.has(prepared) && !s.noWriters():
		return nil, vss.Errorf(vss.ErrBadState, "SaveAsXML", "", "it must come after PrepareForBackup")
	case s.set != nil && len(s.set.copies) > 0 && !s.has(snapped):
		return nil, vss.Errorf(vss.ErrBadState, "SaveAsXML", "", "it must come after DoSnapshotSet, in which writers still change the document")
	}
	return s.doc.SaveAsXML(), nil
}

// BackupComponents implements [session.Writers].
func (s *service) BackupComponents(ctx context.Context) ([]byte, error) {
	_, leave, err := s.enter(ctx, "GetWriterComponents", 0, 0)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.doc.SaveAsXML(), nil
}

// AbortBackup implements [session.Writers].
func (s *service) AbortBackup(ctx context.Context) error {
	leave := s.stop("AbortBackup")
	defer leave()
	if s.has(completed) || s.has(aborted) || s.has(closed) || !s.has(inBackup) {
		return nil
	}
	s.reached(aborted)
	s.letGo()
	s.abortWriters()
	return s.dropSet()
}

// Close implements [session.Session].
func (s *service) Close() error {
	leave := s.stop("Close")
	defer leave()
	if s.has(closed) {
		return nil
	}
	if !s.has(completed) && !s.has(aborted) && s.has(inBackup) {
		s.letGo()
		s.abortWriters()
	}
	s.shutdownWriters()
	errs := []error{s.dropSet()}
	s.background.wait(abortLimit)
	errs = append(errs, s.people.dismiss())
	s.slots.free(s.id)
	s.reached(closed)
	return errors.Join(errs...)
}
