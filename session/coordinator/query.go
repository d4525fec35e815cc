package coordinator

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// properties describes one copy.
func (s *service) properties(c *shadow, count int, ctxt vss.SnapshotContext, purpose, exposed string) session.SnapshotProperties {
	return session.SnapshotProperties{
		ID: c.ref.SnapshotID, SetID: c.ref.SetID, Count: count, Volume: c.ref.Volume.ID, VolumeRoot: c.ref.Volume.Root,
		Device: c.copied.Root, Exposed: exposed, Host: s.host.Name, Provider: describeProvider(c.prov),
		Attributes: vss.SnapshotAttributes(ctxt), Context: ctxt, Created: c.created, State: vss.SnapshotCreated, Purpose: purpose,
	}
}

// findKept finds a finished copy of an earlier session.
func (s *service) findKept(ctx context.Context, id vss.GUID) (*shadow, error) {
	e, i, err := s.journalOf(id)
	if err != nil {
		return nil, err
	}
	c, err := s.reopen(ctx, e.Copies[i])
	if err != nil {
		return nil, err
	}
	c.created = e.Created
	return c, nil
}

// kept lists the finished persistent sets. What of the journal cannot be read is
// logged: it must not keep the rest from being used.
func (s *service) kept() []*journalEntry {
	entries, err := s.journal().entries()
	if err != nil {
		s.log.Warn("part of the journal cannot be read; persistent shadow copies may be missing", "error", err)
	}
	return slices.DeleteFunc(entries, func(e *journalEntry) bool { return !e.Keep })
}

// lockKept keeps two processes from changing what the journal says of a finished
// set at the same time.
func (s *service) lockKept(ctx context.Context) (unlock func(), err error) {
	for {
		f, err := lockFile(filepath.Join(s.opts.StateDir, "kept.lock"))
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, errLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// eachKept calls fn for every finished persistent copy that is still there.
func (s *service) eachKept(ctx context.Context, fn func(*shadow, *journalEntry, journalCopy)) error {
	var errs []error
	for _, e := range s.kept() {
		for _, jc := range e.Copies {
			c, err := s.reopen(ctx, jc)
			if errors.Is(err, vss.ErrObjectNotFound) {
				continue // deleted behind our back; DeleteSnapshots forgets it
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			c.created = e.Created
			fn(c, e, jc)
		}
	}
	return errors.Join(errs...)
}

// reopen makes a finished copy readable again.
func (s *service) reopen(ctx context.Context, jc journalCopy) (*shadow, error) {
	p := providerByID(s.opts.Providers, jc.Ref.Provider)
	if p == nil {
		return nil, vss.Errorf(vss.ErrProviderNotRegistered, "open", "shadow copy "+jc.Ref.SnapshotID.String(), "its provider %s is not in this program", jc.Provider)
	}
	copied, err := bounded(ctx, func(ctx context.Context) (provider.Copied, error) { return p.Locate(ctx, jc.Ref) }, nil)
	if err != nil {
		return nil, err
	}
	c := &shadow{ref: jc.Ref, prov: p, copied: copied, state: vss.SnapshotCreated}
	c.caps = provider.Capabilities{Atomic: jc.Atomic, NeedsScope: jc.NeedsScope}
	if jc.Scope != nil {
		c.scope = *jc.Scope
		// Beside the copy its tree shows the volume as it is now, but only
		// where that can still be found.
		if v, err := s.people.volume(ctx, jc.Ref.Volume.ID); err == nil {
			c.live = v.Root
		}
	}
	return c, nil
}

// SnapshotProperties implements [session.Snapshots].
func (s *service) SnapshotProperties(ctx context.Context, id vss.GUID) (session.SnapshotProperties, error) {
	ctx, leave, err := s.enter(ctx, "GetSnapshotProperties", 0, 0)
	if err != nil {
		return session.SnapshotProperties{}, err
	}
	defer leave()
	if c := s.own(id); c != nil {
		return s.properties(c, len(s.set.copies), s.context, s.state.Purpose, ""), nil
	}
	list, err := s.query(ctx)
	if err != nil {
		return session.SnapshotProperties{}, err
	}
	for _, p := range list {
		if p.ID == id {
			return p, nil
		}
	}
	return session.SnapshotProperties{}, vss.Errorf(vss.ErrObjectNotFound, "GetSnapshotProperties", id.String(), "no such shadow copy")
}

// QuerySnapshots implements [session.Snapshots].
func (s *service) QuerySnapshots(ctx context.Context) ([]session.SnapshotProperties, error) {
	ctx, leave, err := s.enter(ctx, "Query", 0, 0)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.query(ctx)
}

func (s *service) query(ctx context.Context) ([]session.SnapshotProperties, error) {
	var list []session.SnapshotProperties
	err := s.eachKept(ctx, func(c *shadow, e *journalEntry, jc journalCopy) {
		list = append(list, s.properties(c, len(e.Copies), e.Context, e.Purpose, jc.Exposed))
	})
	return list, err
}

// QueryProviders implements [session.Snapshots].
func (s *service) QueryProviders(context.Context) ([]session.Provider, error) {
	list := make([]session.Provider, 0, len(s.opts.Providers))
	for _, p := range s.opts.Providers {
		list = append(list, describeProvider(p))
	}
	return list, nil
}

// DeleteSnapshots implements [session.Snapshots].
func (s *service) DeleteSnapshots(ctx context.Context, id vss.GUID, kind vss.ObjectType) (int, error) {
	ctx, leave, err := s.enter(ctx, "DeleteSnapshots", 0, 0)
	if err != nil {
		return 0, err
	}
	defer leave()
	if kind != vss.ObjectSnapshotSet && kind != vss.ObjectSnapshot {
		return 0, vss.Errorf(vss.ErrInvalidArgument, "DeleteSnapshots", kind.String(), "only a shadow copy or a set can be deleted")
	}
	if n, own, err := s.deleteOwn(ctx, id, kind); own {
		return n, err
	}
	unlock, err := s.lockKept(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	for _, e := range s.kept() {
		chosen := func(c journalCopy) bool { return c.Ref.SnapshotID == id }
		if kind == vss.ObjectSnapshotSet {
			chosen = func(journalCopy) bool { return e.SetID == id }
		}
		if slices.ContainsFunc(e.Copies, chosen) {
			return s.deleteFrom(ctx, e, chosen)
		}
	}
	return 0, vss.Errorf(vss.ErrObjectNotFound, "DeleteSnapshots", id.String(), "no such shadow copy or set; see sombra shadow list")
}

// deleteOwn deletes copies of this session's own set that would go with the
// session; own tells whether the id is one of theirs.
func (s *service) deleteOwn(ctx context.Context, id vss.GUID, kind vss.ObjectType) (n int, own bool, err error) {
	t := s.set
	if t == nil || t.kept || !s.has(snapped) || s.has(aborted) {
		return 0, false, nil
	}
	for _, c := range t.copies {
		if c.deleted.Load() || kind == vss.ObjectSnapshot && c.ref.SnapshotID != id || kind == vss.ObjectSnapshotSet && t.id != id {
			continue
		}
		if err := boundedErr(ctx, func(ctx context.Context) error { return c.prov.Delete(ctx, c.ref) }); err != nil {
			return n, true, providerError("DeleteSnapshots", c, err)
		}
		c.deleted.Store(true)
		n, own = n+1, true
		err := t.entry.change(func(e *journalEntry) {
			e.Copies = slices.DeleteFunc(e.Copies, func(jc journalCopy) bool { return jc.Ref.SnapshotID == c.ref.SnapshotID })
		})
		if err != nil {
			return n, true, err
		}
	}
	return n, own, nil
}

// deleteFrom deletes the chosen copies of a set, one after another, and stops at
// the first error, as the model does.
func (s *service) deleteFrom(ctx context.Context, e *journalEntry, chosen func(journalCopy) bool) (int, error) {
	deleted := 0
	for i := 0; i < len(e.Copies); {
		c := e.Copies[i]
		if !chosen(c) {
			i++
			continue
		}
		if c.Exposed != "" {
			if err := unexpose(c.Exposed); err != nil {
				return deleted, err
			}
		}
		p := providerByID(s.opts.Providers, c.Ref.Provider)
		if p == nil {
			return deleted, vss.Errorf(vss.ErrProviderNotRegistered, "DeleteSnapshots", c.Ref.SnapshotID.String(), "its provider %s is not in this program", c.Provider)
		}
		if err := boundedErr(ctx, func(ctx context.Context) error { return p.Delete(ctx, c.Ref) }); err != nil {
			return deleted, fmt.Errorf("delete shadow copy %s: %w", c.Ref.SnapshotID, err)
		}
		deleted++
		if own := s.own(c.Ref.SnapshotID); own != nil {
			own.deleted.Store(true)
		}
		e.Copies = append(e.Copies[:i], e.Copies[i+1:]...)
		if err := s.journal().write(e); err != nil {
			return deleted, err
		}
	}
	if len(e.Copies) == 0 {
		return deleted, s.journal().remove(e.SetID)
	}
	return deleted, nil
}

// ExposeSnapshot implements [session.Snapshots].
func (s *service) ExposeSnapshot(ctx context.Context, id vss.GUID, at string) (string, error) {
	ctx, leave, err := s.enter(ctx, "ExposeSnapshot", 0, 0)
	if err != nil {
		return "", err
	}
	defer leave()
	unlock, err := s.lockKept(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	e, i, err := s.journalOf(id)
	if err != nil {
		return "", err
	}
	if e.Copies[i].Exposed != "" {
		return "", vss.Errorf(vss.ErrObjectAlreadyExists, "ExposeSnapshot", id.String(), "it is exposed at %s", e.Copies[i].Exposed)
	}
	c, err := s.reopen(ctx, e.Copies[i])
	if err != nil {
		return "", err
	}
	root, done, err := openArea(c.ref.Area, c.copied.Root)
	if err != nil {
		return "", err
	}
	defer done()
	if err := expose(root, at); err != nil {
		return "", err
	}
	e.Copies[i].Exposed = at
	if err := s.journal().write(e); err != nil {
		return "", errors.Join(err, unexpose(at))
	}
	return at, nil
}

// UnexposeSnapshot implements [session.Snapshots].
func (s *service) UnexposeSnapshot(ctx context.Context, id vss.GUID) error {
	ctx, leave, err := s.enter(ctx, "UnexposeSnapshot", 0, 0)
	if err != nil {
		return err
	}
	defer leave()
	unlock, err := s.lockKept(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	e, i, err := s.journalOf(id)
	if err != nil {
		return err
	}
	if e.Copies[i].Exposed == "" {
		return vss.Errorf(vss.ErrBadState, "UnexposeSnapshot", id.String(), "it is not exposed")
	}
	if err := unexpose(e.Copies[i].Exposed); err != nil {
		return err
	}
	e.Copies[i].Exposed = ""
	return s.journal().write(e)
}

// journalOf finds the entry and the place in it of a finished copy.
func (s *service) journalOf(id vss.GUID) (*journalEntry, int, error) {
	for _, e := range s.kept() {
		for i, c := range e.Copies {
			if c.Ref.SnapshotID == id {
				return e, i, nil
			}
		}
	}
	return nil, 0, vss.Errorf(vss.ErrObjectNotFound, "find", "shadow copy "+id.String(), "no such persistent shadow copy; see sombra shadow list")
}

// ImportSnapshots implements [session.Snapshots]: no Linux mechanism transports
// shadow copies.
func (s *service) ImportSnapshots(context.Context) error {
	return vss.Errorf(vss.ErrNotSupported, "ImportSnapshots", "", "shadow copies of this host cannot be transported")
}

// BreakSnapshotSet implements [session.Snapshots]: it is for hardware copies.
func (s *service) BreakSnapshotSet(_ context.Context, id vss.GUID) error {
	return vss.Errorf(vss.ErrNotSupported, "BreakSnapshotSet", id.String(), "only hardware shadow copies can be broken off")
}

// RevertToSnapshot implements [session.Snapshots].
func (s *service) RevertToSnapshot(_ context.Context, id vss.GUID, _ bool) error {
	return vss.Errorf(vss.ErrNotSupported, "RevertToSnapshot", id.String(), "no provider here can put a whole volume back; restore from a backup")
}
