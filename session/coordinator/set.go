package coordinator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
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
	lock   *os.File // held while the set, or an auto-release copy of it, exists
	keeper *hold.Keeper
	duty   uint64
	entry  *journalEntry
	copies []*shadow
	kept   bool // finished and persistent
}

// shadow is one shadow copy of the set.
type shadow struct {
	ref     provider.Ref
	prov    provider.Provider
	caps    provider.Capabilities
	scope   provider.Scope
	snap    provider.Snapshot
	copied  provider.Copied
	state   vss.SnapshotState
	created time.Time
	receipt session.VolumeReceipt

	mu    sync.Mutex
	stuck bool // a call of the provider was given up
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
	lock, err := lockState(s.opts.StateDir)
	if err != nil {
		return vss.GUID{}, err
	}
	if err := s.journal().recover(ctx, s.opts.Providers, s.log); err != nil {
		s.log.Warn("what an interrupted run left behind is not all removed", "error", err)
	}
	t := &snapshotSet{id: vss.NewGUID(), lock: lock}
	t.entry = &journalEntry{SetID: t.id, Context: s.context, Created: time.Now(), PID: os.Getpid()}
	if err := s.appointKeeper(ctx, t); err != nil {
		lock.Close()
		return vss.GUID{}, err
	}
	s.set = t
	s.setDocumentState()
	s.reached(setOpen)
	return t.id, nil
}

// appointKeeper starts the keeper and gives it the set to look after.
func (s *service) appointKeeper(ctx context.Context, t *snapshotSet) error {
	lease := s.limits.Hold + abortLimit/2
	k, err := s.people.keeper(ctx, s.opts, lease, func(undo json.RawMessage) error { return s.noteStopped(t, undo) })
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
	id, err := k.Assign(ctx, hold.Duty{Kind: dutySet, Data: data})
	if err != nil {
		return err
	}
	t.keeper, t.duty = k, id
	return nil
}

// noteStopped keeps in the journal what undoes a stop that would outlive us all.
func (s *service) noteStopped(t *snapshotSet, undo json.RawMessage) error {
	e := *t.entry
	e.Stopped = undo
	return s.journal().write(&e)
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
		caps, err := p.Supports(ctx, v, area)
		return p, caps, nil, err
	}
	var refused []session.Refusal
	for _, t := range []vss.ProviderType{vss.ProviderHardware, vss.ProviderSoftware, vss.ProviderSystem} {
		for _, p := range s.opts.Providers {
			info := p.Info()
			if info.Type != t {
				continue
			}
			caps, err := p.Supports(ctx, v, area)
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
	ctx, leave, err := s.enter(ctx, "AddToSnapshotSet", inBackup|setOpen, snapped|setFailed|completed|aborted)
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
	c := &shadow{prov: p, caps: caps, scope: scope, state: vss.SnapshotPreparing}
	c.ref = provider.Ref{Provider: p.Info().ID, SetID: t.id, SnapshotID: vss.NewGUID(), Volume: v, Area: s.area(v)}
	t.entry.Copies = append(t.entry.Copies, journalCopy{Ref: c.ref, Provider: p.Info().Name, Scope: &c.scope,
		Atomic: caps.Atomic, NeedsScope: caps.NeedsScope})
	if err := s.journal().write(t.entry); err != nil {
		t.entry.Copies = t.entry.Copies[:len(t.entry.Copies)-1]
		return vss.GUID{}, err
	}
	c.snap, err = p.BeginPrepare(ctx, provider.Request{Ref: c.ref, Context: s.context, Scope: scope,
		HoldLimit: s.limits.Hold, Unclaimed: true})
	if err != nil {
		return vss.GUID{}, providerError("BeginPrepareSnapshot", c, err)
	}
	c.receipt = session.VolumeReceipt{Snapshot: c.ref.SnapshotID, Volume: v.ID, Root: v.Root,
		Provider: p.Info().Name, Atomic: caps.Atomic}
	t.copies = append(t.copies, c)
	return c.ref.SnapshotID, nil
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
		e.Estimate, err = c.snap.Estimate(ctx)
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if err != nil {
			e.Refusal, e.Code = err.Error(), vss.CodeOf(err)
		}
		list = append(list, e)
	}
	return list, nil
}

// together runs fn for all copies at the same time and waits until all have
// ended or ctx does. The first failure ends the others' context. A call that
// does not come back soon after its context has ended is left behind.
func (t *snapshotSet) together(ctx context.Context, op string, fn func(context.Context, *shadow) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make(chan error, len(t.copies))
	for _, c := range t.copies {
		go func() {
			err := providerError(op, c, c.call(ctx, fn))
			if err != nil {
				cancel(err)
			}
			results <- err
		}()
	}
	var first error
	for range t.copies {
		if err := <-results; err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		// The failure that ended the others, rather than one it caused.
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	return first
}

// call runs one call of the provider, which may never return. One that returns
// after it was given up has its copy deleted, as the set has failed by then.
func (c *shadow) call(ctx context.Context, fn func(context.Context, *shadow) error) error {
	done := make(chan error, 1)
	var once sync.Mutex
	var returned, given bool
	go func() {
		err := fn(ctx, c)
		once.Lock()
		returned = true
		late := given
		once.Unlock()
		if late {
			c.prov.Delete(context.WithoutCancel(ctx), c.ref)
			return
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(graceAfterLimit):
	}
	once.Lock()
	defer once.Unlock()
	if returned {
		return <-done
	}
	given = true
	c.mu.Lock()
	c.stuck = true
	c.mu.Unlock()
	return context.Cause(ctx)
}

// isStuck reports whether a call for the copy was left behind.
func (c *shadow) isStuck() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuck
}

// dropSet gives the set up, or lets its auto-release copies go, and ends the
// keeper's duty. A finished persistent set stays.
func (s *service) dropSet() error {
	t := s.set
	if t == nil || t.lock == nil {
		return nil
	}
	var errs []error
	if !t.kept {
		errs = append(errs, s.deleteCopies(t))
	}
	ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
	defer cancel()
	if err := errors.Join(errs...); err == nil {
		if t.keeper != nil {
			if err := t.keeper.Discharge(ctx, t.duty); err != nil {
				s.log.Warn("keeper", "error", err)
			}
		}
	}
	t.lock.Close()
	t.lock = nil
	return errors.Join(errs...)
}

// deleteCopies removes every copy of the set, whatever its stage, and the
// journal entry when all are gone. A copy with a call left behind stays in the
// journal: it is deleted when the call returns, or at the next start.
func (s *service) deleteCopies(t *snapshotSet) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.limits.Prepare)
	defer cancel()
	var errs []error
	left := false
	for _, c := range t.copies {
		if c.isStuck() {
			left = true
			continue
		}
		if c.state != vss.SnapshotCreated {
			errs = append(errs, providerError("AbortSnapshots", c, c.snap.Abort(ctx)))
		}
		errs = append(errs, providerError("DeleteSnapshots", c, c.prov.Delete(ctx, c.ref)))
		c.state = vss.SnapshotDeleted
	}
	if err := errors.Join(errs...); err != nil || left {
		return err
	}
	return s.journal().remove(t.id)
}
