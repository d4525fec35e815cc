package coordinator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/hold"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// maxVolumes is how many volumes a set may have.
const maxVolumes = 64

// snapshotSet is the shadow copy set of a session.
type snapshotSet struct {
	id     vss.GUID
	lock   *os.File     // held while the set, or an auto-release copy of it, exists
	keeper *hold.Keeper // nil as long as there is nothing to look after
	entry  *setEntry
	copies []*shadow
	stuck  bool // a call for a copy that is not in copies was left behind
	kept   bool // finished and persistent
}

// shadow is one shadow copy of the set. It belongs to whoever runs the session's
// call; the provider's own calls, which may never return, see only what does not
// change (see [snapshotSet.together]).
type shadow struct {
	ref     provider.Ref
	prov    provider.Provider
	caps    provider.Capabilities
	scope   provider.Scope
	live    string // the volume's root, for what is not in the copy; may be empty
	snap    provider.Snapshot
	copied  provider.Copied
	state   vss.SnapshotState
	stuck   bool        // a call of the provider was left behind
	deleted atomic.Bool // by DeleteSnapshots, while its tree may be asked for
	created time.Time
	receipt session.VolumeReceipt
}

// describe names the copies to a writer.
func (t *snapshotSet) describe(made bool) []writer.Snapshot {
	list := make([]writer.Snapshot, 0, len(t.copies))
	for _, c := range t.copies {
		d := writer.Snapshot{ID: c.ref.SnapshotID, VolumeID: c.ref.Volume.ID, VolumeRoot: c.ref.Volume.Root}
		if made {
			d.DeviceRoot = c.copied.Root
		}
		list = append(list, d)
	}
	return list
}

// StartSnapshotSet implements [session.Snapshots].
func (s *service) StartSnapshotSet(ctx context.Context) (vss.GUID, error) {
	ctx, leave, err := s.enter(ctx, "StartSnapshotSet", inBackup, setOpen|snapped|setFailed|completed|aborted)
	if err != nil {
		return vss.GUID{}, err
	}
	defer leave()
	lock, err := waitForLock(ctx, s.opts.StateDir)
	if err != nil {
		return vss.GUID{}, err
	}
	if err := s.journal().recover(ctx, s.opts.Providers, s.log); err != nil {
		s.log.Warn("what an interrupted run left behind is not all removed", "error", err)
	}
	t := &snapshotSet{id: vss.NewGUID(), lock: lock}
	t.entry = &setEntry{journal: s.journal(), entry: journalEntry{SetID: t.id, Context: s.context, Created: time.Now(), PID: os.Getpid()}}
	s.set = t
	s.setDocumentState()
	s.reached(setOpen)
	return t.id, nil
}

// lockPatience is how long a set waits for the lock: about as long as another run
// needs that only cleans up.
const lockPatience = time.Second

// waitForLock takes the lock, with a little patience.
func waitForLock(ctx context.Context, dir string) (*os.File, error) {
	for end := time.Now().Add(lockPatience); ; {
		lock, err := lockState(dir)
		if !errors.Is(err, vss.ErrSnapshotSetInProgress) || time.Now().After(end) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lockPatience / 50):
		}
	}
}

// appointKeeper starts the keeper and gives it the set to look after. That is due
// before the first copy is begun, or somebody is held: a set in which neither
// happens, as that of a log backup, needs nobody to undo it.
func (s *service) appointKeeper(ctx context.Context, t *snapshotSet) error {
	// A service that hangs is waited for a while longer than one that gives up by
	// itself needs, and no longer than as much again as the hold may take.
	lease := s.limits.Hold + min(abortLimit/2, s.limits.Hold)
	k, err := s.people.keeper(ctx, s.opts, lease, func(undo json.RawMessage) error {
		return s.noteStopped(t, undo)
	})
	if err != nil {
		return err
	}
	if note := k.Note(); note != "" {
		s.log.Info("keeper", "note", note)
	}
	data, err := json.Marshal(setDuty{s.opts.StateDir, t.id})
	if err != nil {
		return err
	}
	if _, err := k.Assign(ctx, hold.Duty{Kind: dutySet, Data: data}); err != nil {
		return err
	}
	t.keeper = k
	return nil
}

// area is the directory copies of a volume are made in.
func (s *service) area(v provider.Volume) string {
	if s.host.Privileged && !v.ReadOnly && v.Root != "" {
		return filepath.Join(v.Root, AreaName)
	}
	sum := sha256.Sum256([]byte(v.ID))
	return filepath.Join(s.opts.StateDir, areasDir, hex.EncodeToString(sum[:8]))
}

// areasDir is the directory of the state directory that has the areas of volumes
// on which an area of their own cannot be made.
const areasDir = "shadow"

// AreaName is the directory at a volume's root in which shadow copies lie. It
// is never part of a backup.
const AreaName = ".sombra"

// choose finds the provider for a volume: the one asked for, else the first
// that serves it, hardware before software before system. The refusals of the
// better ones come with it.
func (s *service) choose(ctx context.Context, id vss.GUID, v provider.Volume) (provider.Provider, provider.Capabilities, []session.Refusal, error) {
	area := s.area(v)
	if !id.IsZero() {
		p := providerByID(s.opts.Providers, id)
		if p == nil {
			return nil, provider.Capabilities{}, nil, vss.Errorf(vss.ErrProviderNotRegistered, "choose", "provider "+id.String(), "no such provider; see sombra providers")
		}
		caps, err := supports(ctx, p, v, area)
		return p, caps, nil, err
	}
	var refused []session.Refusal
	for _, t := range []vss.ProviderType{vss.ProviderHardware, vss.ProviderSoftware, vss.ProviderSystem} {
		for _, p := range s.opts.Providers {
			info := p.Info()
			if info.Type != t {
				continue
			}
			caps, err := supports(ctx, p, v, area)
			if ctx.Err() != nil {
				return nil, caps, nil, context.Cause(ctx)
			}
			if err == nil {
				return p, caps, refused, nil
			}
			refused = append(refused, session.Refusal{Subject: info.Name, Reason: cause(err)})
		}
	}
	var reasons []error
	for _, r := range refused {
		reasons = append(reasons, errors.New(r.Subject+": "+r.Reason))
	}
	return nil, provider.Capabilities{}, refused, &vss.Error{Op: "choose provider for", Object: v.Root,
		Code: vss.ErrVolumeNotSupported, Err: errors.Join(reasons...)}
}

func supports(ctx context.Context, p provider.Provider, v provider.Volume, area string) (provider.Capabilities, error) {
	return bounded(ctx, func(ctx context.Context) (provider.Capabilities, error) { return p.Supports(ctx, v, area) }, nil)
}

// cause is what is particular in a refusal: the rest of the text says only that
// it is one.
func cause(err error) string {
	var e *vss.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}

func describeProvider(p provider.Provider) session.Provider {
	i := p.Info()
	return session.Provider{ID: i.ID, Name: i.Name, Type: i.Type, Version: i.Version}
}

// IsVolumeSupported implements [session.Snapshots].
func (s *service) IsVolumeSupported(ctx context.Context, id vss.GUID, volume string) (session.Support, error) {
	if err := s.open("IsVolumeSupported"); err != nil {
		return session.Support{}, err
	}
	v, err := s.people.volume(ctx, volume)
	if err != nil {
		return session.Support{}, err
	}
	p, caps, refused, err := s.choose(ctx, id, v)
	if err != nil {
		return session.Support{Refused: refused}, err
	}
	return session.Support{Provider: describeProvider(p), Capabilities: caps, Refused: refused}, nil
}

// AddToSnapshotSet implements [session.Snapshots].
func (s *service) AddToSnapshotSet(ctx context.Context, volume string, id vss.GUID, scope session.Scope) (vss.GUID, error) {
	ctx, leave, err := s.enter(ctx, "AddToSnapshotSet", inBackup|setOpen, holding|snapped|setFailed|completed|aborted)
	if err != nil {
		return vss.GUID{}, err
	}
	defer leave()
	t := s.set
	if len(t.copies) >= maxVolumes {
		return vss.GUID{}, vss.Errorf(vss.ErrMaximumNumberOfVolumesReached, "AddToSnapshotSet", volume, "a set has at most %d volumes", maxVolumes)
	}
	for _, c := range t.copies {
		if c.ref.Volume.ID == volume {
			return vss.GUID{}, vss.Errorf(vss.ErrObjectAlreadyExists, "AddToSnapshotSet", volume, "the volume is in the set")
		}
	}
	if err := s.checkClaims(volume, scope); err != nil {
		return vss.GUID{}, err
	}
	v, err := s.people.volume(ctx, volume)
	if err != nil {
		return vss.GUID{}, err
	}
	p, caps, _, err := s.choose(ctx, id, v)
	if err != nil {
		return vss.GUID{}, err
	}
	if caps.HoldFileSystem {
		return vss.GUID{}, vss.Errorf(vss.ErrNotSupported, "AddToSnapshotSet", v.Root, "provider %s wants the file system frozen", p.Info().Name)
	}
	c := &shadow{prov: p, caps: caps, scope: scope, live: v.Root, state: vss.SnapshotPreparing}
	c.ref = provider.Ref{Provider: p.Info().ID, SetID: t.id, SnapshotID: vss.NewGUID(), Volume: v, Area: s.area(v)}
	if t.keeper == nil {
		if err := s.appointKeeper(ctx, t); err != nil {
			return vss.GUID{}, err
		}
	}
	if err := s.beginPrepare(ctx, c); err != nil {
		return vss.GUID{}, err
	}
	c.receipt = session.VolumeReceipt{Snapshot: c.ref.SnapshotID, Volume: v.ID, Root: v.Root,
		Provider: p.Info().Name, Atomic: caps.Atomic}
	t.copies = append(t.copies, c)
	return c.ref.SnapshotID, nil
}

// beginPrepare has the provider begin a copy, after writing down that it will be
// there. A copy of which nothing was begun is struck out again.
func (s *service) beginPrepare(ctx context.Context, c *shadow) error {
	if err := checkArea(c.ref.Area); err != nil {
		return providerError("BeginPrepareSnapshot", c, err)
	}
	t := s.set
	jc := journalCopy{Ref: c.ref, Provider: c.prov.Info().Name, Scope: &c.scope, Atomic: c.caps.Atomic, NeedsScope: c.caps.NeedsScope}
	if err := t.entry.change(func(e *journalEntry) { e.Copies = append(e.Copies, jc) }); err != nil {
		return err
	}
	req := provider.Request{Ref: c.ref, Context: s.context, Scope: c.scope, HoldLimit: s.limits.Hold, Unclaimed: true}
	snap, err := bounded(ctx, func(ctx context.Context) (provider.Snapshot, error) { return c.prov.BeginPrepare(ctx, req) },
		func(snap provider.Snapshot, err error) {
			if err == nil {
				snap.Abort(context.WithoutCancel(ctx))
			}
		})
	c.snap = snap
	if err == nil {
		return nil
	}
	if isLeft(err) {
		t.stuck = true
		return err
	}
	if jerr := t.entry.change(func(e *journalEntry) { e.Copies = e.Copies[:len(e.Copies)-1] }); jerr != nil {
		s.log.Warn("the journal names a copy that was not begun", "error", jerr)
	}
	return providerError("BeginPrepareSnapshot", c, err)
}

// providerError gives a provider's failure the model's form: codes outside the
// allowed ones become VSS_E_UNEXPECTED_PROVIDER_ERROR.
func providerError(op string, c *shadow, err error) error {
	if err == nil {
		return nil
	}
	code := vss.CodeOf(err)
	switch code {
	case vss.ErrInsufficientStorage, vss.ErrHoldWritesTimeout, vss.ErrFlushWritesTimeout, vss.ErrProviderVeto,
		vss.ErrVolumeNotSupported, vss.ErrVolumeNotSupportedByProvider, vss.ErrMaximumNumberOfSnapshotsReached,
		vss.ErrUnsupportedContext, vss.ErrObjectNotFound, vss.ErrBadState:
	default:
		code = vss.ErrUnexpectedProviderError
	}
	return &vss.Error{Op: op, Object: c.ref.Volume.Root + " (" + c.prov.Info().Name + ")", Code: code, Err: err}
}

// Estimates implements [session.Snapshots].
func (s *service) Estimates(ctx context.Context) ([]session.Estimate, error) {
	ctx, leave, err := s.enter(ctx, "Estimates", inBackup|setOpen, snapped|setFailed|aborted)
	if err != nil {
		return nil, err
	}
	defer leave()
	list := make([]session.Estimate, 0, len(s.set.copies))
	for _, c := range s.set.copies {
		e := session.Estimate{Snapshot: c.ref.SnapshotID, Volume: c.ref.Volume.ID,
			Provider: describeProvider(c.prov), Area: c.ref.Area, Atomic: c.caps.Atomic}
		e.Estimate, err = bounded(ctx, c.snap.Estimate, nil)
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if err != nil {
			e.Refusal, e.Code = err.Error(), vss.CodeOf(err)
		}
		if !s.noWriters() && !s.opts.NoFreeze {
			e.Held = s.heldFor(ctx, c)
		}
		list = append(list, e)
	}
	return list, nil
}

// dropSet gives the set up, or lets its auto-release copies go. A finished
// persistent set stays. The keeper has nothing to do then, and finds nothing in
// the journal if it looks.
func (s *service) dropSet() error {
	t := s.set
	if t == nil || t.lock == nil {
		return nil
	}
	var errs []error
	if !t.kept {
		errs = append(errs, s.deleteCopies(t))
	}
	t.lock.Close()
	t.lock = nil
	return errors.Join(errs...)
}

// deleteCopies removes every copy of the set, whatever its stage, and the
// journal entry when all are gone. A copy with a call left behind stays in the
// journal: it is deleted when the call returns, or at the next start.
func (s *service) deleteCopies(t *snapshotSet) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), s.limits.Prepare,
		vss.Errorf(vss.ErrProviderVeto, "DeleteSnapshots", "", "not deleted within %v; the next run tries again", s.limits.Prepare))
	defer cancel()
	var errs []error
	left := t.stuck
	for _, c := range t.copies {
		if c.deleted.Load() {
			continue
		}
		if c.stuck {
			left = true
			c.abortStuck()
			continue
		}
		if c.state != vss.SnapshotCreated {
			errs = append(errs, providerError("AbortSnapshots", c, boundedErr(ctx, c.snap.Abort)))
		}
		errs = append(errs, providerError("DeleteSnapshots", c, boundedErr(ctx, func(ctx context.Context) error { return c.prov.Delete(ctx, c.ref) })))
		c.state = vss.SnapshotDeleted
	}
	if err := errors.Join(errs...); err != nil || left {
		return err
	}
	return t.entry.remove()
}

// abortStuck lets the provider know that a copy is given up of which a call was
// left behind, so that it frees what that call has open when it comes back.
func (c *shadow) abortStuck() {
	ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
	defer cancel()
	_ = boundedErr(ctx, c.snap.Abort) // what is left is in the journal
}
