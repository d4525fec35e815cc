package coordinator

import (
	"context"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// phase is how far a session has come: the states VSS-wise named INIT, META,
// SETOPEN, PREP, SNAP and DONE, PRER and POSTR, as bits, since some are
// independent of each other.
type phase uint32

const (
	inBackup  phase = 1 << iota // InitializeForBackup
	inRestore                   // InitializeForRestore
	contextSet
	stateSet
	gathered // GatherWriterMetadata
	freed    // FreeWriterMetadata
	setOpen  // StartSnapshotSet
	prepared // PrepareForBackup
	snapped  // DoSnapshotSet
	setFailed
	completed // BackupComplete
	aborted
	preRestored
	postRestored
	holding // HoldWriters, from its beginning
	closed
)

var phaseNames = []struct {
	p    phase
	name string
}{
	{inBackup, "InitializeForBackup"}, {inRestore, "InitializeForRestore"}, {contextSet, "SetContext"},
	{stateSet, "SetBackupState"}, {gathered, "GatherWriterMetadata"}, {freed, "FreeWriterMetadata"},
	{setOpen, "StartSnapshotSet"}, {prepared, "PrepareForBackup"}, {snapped, "DoSnapshotSet"},
	{setFailed, "a failed DoSnapshotSet"}, {completed, "BackupComplete"}, {aborted, "AbortBackup"},
	{preRestored, "PreRestore"}, {postRestored, "PostRestore"}, {holding, "HoldWriters"}, {closed, "Close"},
}

func (p phase) String() string {
	var names []string
	for _, n := range phaseNames {
		if p&n.p != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ", ")
}

// enter begins a call of the model. It fails with VSS_E_BAD_STATE, and nothing
// has changed, if another call is running, if not all of need has happened, or
// if any of not has. The context it returns ends with the call's own or when
// AbortBackup or Close interrupts. The caller must call leave.
func (s *service) enter(ctx context.Context, op string, need, not phase) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != "" {
		return nil, nil, vss.Errorf(vss.ErrBadState, op, "", "%s is still running", s.running)
	}
	if missing := need &^ s.phase; missing != 0 {
		return nil, nil, vss.Errorf(vss.ErrBadState, op, "", "it must come after %v", missing)
	}
	if past := (not | closed) & s.phase; past != 0 {
		return nil, nil, vss.Errorf(vss.ErrBadState, op, "", "it must not come after %v", past)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s.running, s.interrupt, s.idle = op, cancel, make(chan struct{})
	leave := func() {
		cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running, s.interrupt = "", nil
		close(s.idle)
	}
	return ctx, leave, nil
}

// stop interrupts the running call, if there is one, waits for its end, and
// enters in its place. It cannot fail.
func (s *service) stop(op string) (leave func()) {
	for {
		s.mu.Lock()
		if s.running == "" {
			s.running, s.interrupt, s.idle = op, func(error) {}, make(chan struct{})
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.running, s.interrupt = "", nil
				close(s.idle)
			}
		}
		s.interrupt(vss.Errorf(vss.ErrBadState, s.running, "", "interrupted by %s", op))
		idle := s.idle
		s.mu.Unlock()
		<-idle
	}
}

func (s *service) reached(p phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase |= p
}

func (s *service) has(p phase) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase&p == p
}
