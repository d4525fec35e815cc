package coordinator

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/hold"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// refuseUnstill decides whose processes must be stopped, and puts out, before
// anything is frozen, the writers that cannot give the stillness that the copies
// of their files need.
func (r *run) refuseUnstill(ctx context.Context) error {
	for _, p := range r.inTheSet() {
		p.still = p.desc.Stillness != writer.FilesStill && r.needsStill(ctx, p)
		if !p.still || p.stoppable() {
			continue
		}
		p.fail(writer.EventPrepareForSnapshot, r.unstill(p), nil)
		r.abortSoon(p)
	}
	return r.requiredFailure()
}

// unstill is why a writer is refused whose files cannot be had still.
func (s *service) unstill(p *participant) error {
	why := p.unnamed
	if why == "" {
		why = "it names no processes to stop"
	}
	holds, way := "its Freeze holds commits only", "its files are copied one by one or lie on several volumes; put them on one btrfs subvolume"
	if p.desc.Stillness == writer.NothingHeld {
		holds, way = "its Freeze holds nothing", "the set is not one copy of one volume; back it up alone, from one btrfs subvolume"
	}
	if s.held != nil {
		way = "nobody said that the snapshot shows all of its files at one instant"
	}
	return vss.Errorf(vss.ErrWriterErrorNonRetryable, "PrepareForSnapshot", p.instanceName, "%s and %s, but %s", holds, why, way)
}

// needsStill reports whether what a writer's Freeze gives does not suffice for
// the copies of the set.
//
// Where commits are held, its own files must be taken by one operation of one
// provider: what is acknowledged nowhere cannot be in one copy and missing in
// another, whenever those are made. Where nothing is held, that operation must
// be the whole set, since what it acknowledges between two of them may be seen,
// and followed, in the later one.
func (s *service) needsStill(ctx context.Context, p *participant) bool {
	if s.held != nil {
		return !s.held.Atomic
	}
	own := s.copiesOf(ctx, p)
	if len(own) == 0 {
		return false // nothing of it is in the set, as in a backup of its logs alone
	}
	if slices.ContainsFunc(own, func(c *shadow) bool { return !c.caps.Atomic }) || len(own) > 1 {
		return true
	}
	return p.desc.Stillness == writer.NothingHeld && (len(s.set.copies) > 1 || s.declaresElsewhere(ctx, p, own[0].ref.Volume.ID))
}

// copiesOf gives the copies of the set that have, or may have, files of a writer.
func (s *service) copiesOf(ctx context.Context, p *participant) (own []*shadow) {
	named := slices.ContainsFunc(s.set.copies, func(c *shadow) bool {
		return slices.ContainsFunc(c.scope.Claims, p.claims) || slices.ContainsFunc(c.scope.Foreign, p.claims)
	})
	for _, c := range s.set.copies {
		if named && slices.ContainsFunc(c.scope.Claims, p.claims) || !named && s.declaresOn(ctx, p, c.ref.Volume.ID) {
			own = append(own, c)
		}
	}
	return own
}

// heldFor tells whose processes the set, as it is now, will have stopped for a
// copy, and who will be refused since it names none.
func (s *service) heldFor(ctx context.Context, c *shadow) (list []session.HeldWriter) {
	for _, p := range s.writers {
		if p.out || p.desc.Stillness == writer.FilesStill || !slices.Contains(s.copiesOf(ctx, p), c) || !s.needsStill(ctx, p) {
			continue
		}
		h := session.HeldWriter{Instance: p.instance}
		if !p.stoppable() {
			h.Refusal = cause(s.unstill(p))
		}
		list = append(list, h)
	}
	return list
}

// stoppable reports whether a writer's processes can be stopped if need be.
func (p *participant) stoppable() bool { return p.desc.NamesProcesses && p.unnamed == "" }

// declaresOn reports whether a writer may have files on a volume, by its own
// document: for sets whose maker did not say which files are whose. In doubt it
// may.
func (s *service) declaresOn(ctx context.Context, p *participant, volume string) bool {
	return s.declares(ctx, p, func(at string, recursive bool) bool { return at == "" || at == volume || recursive })
}

// declaresElsewhere reports whether a writer's document names a directory that
// is not known to be on the volume. What is mounted below one that is would have
// to be in the set too, as another copy.
func (s *service) declaresElsewhere(ctx context.Context, p *participant, volume string) bool {
	return s.declares(ctx, p, func(at string, _ bool) bool { return at != volume })
}

// declares reports whether is says yes to one of the directories that a writer's
// document names: to the id of its volume, empty where that cannot be told.
func (s *service) declares(ctx context.Context, p *participant, is func(volume string, recursive bool) bool) bool {
	for _, c := range p.meta.Components() {
		for _, set := range c.FileSets {
			for _, dir := range []string{set.Path, set.AlternatePath} {
				if dir == "" {
					continue
				}
				var volume string
				if loc, err := s.resolve(ctx, dir); err == nil {
					volume = loc.Volume
				}
				if is(volume, set.Recursive) {
					return true
				}
			}
		}
	}
	return false
}

// claims reports whether a claim in a scope is the writer's; see
// [provider.Claim].
func (p *participant) claims(c provider.Claim) bool { return c.Writer == p.instance.String() }

// checkClaims refuses a scope with a claim of a writer that is not in this
// session: its files would be copied as if nobody had to hold them still.
func (s *service) checkClaims(volume string, scope provider.Scope) error {
	if s.noWriters() {
		return nil // nobody is held
	}
	for _, c := range scope.Claims {
		if !slices.ContainsFunc(s.writers, func(p *participant) bool { return p.claims(c) }) {
			return vss.Errorf(vss.ErrInvalidArgument, "AddToSnapshotSet", volume,
				"a claim names writer instance %q, and no such writer answered Identify", c.Writer)
		}
	}
	return nil
}

// stopProcesses stops the processes of the writers whose Freeze does not
// suffice. A writer whose processes cannot be stopped is out alone; the failure
// returned is one for all.
func (r *run) stopProcesses(ctx context.Context) error {
	start := time.Now()
	defer func() {
		if r.stopped {
			r.receipt.Stopping = time.Since(start)
		}
	}()
	for _, p := range r.pick(func(p *participant) bool { return p.frozen && !p.out && p.still }) {
		err := r.stopFor(ctx, p)
		if err == nil {
			p.receipt.Stopped, p.receipt.Stillness = true, writer.FilesStill.String()
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, hold.ErrKeeperLost) || errors.Is(err, hold.ErrLeaseExpired) {
			return holdBroken("stop", err)
		}
		// It is frozen, and gets Thaw like the others, when its processes
		// can handle it again.
		p.fail(writer.EventFreeze, err, nil)
	}
	return r.requiredFailure()
}

// stopFor stops the processes that one writer named.
func (r *run) stopFor(ctx context.Context, p *participant) error {
	refuse := func(format string, args ...any) error {
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, "Freeze", p.instanceName,
			format+", and without stopping its processes its files are not still", args...)
	}
	if len(p.processes) == 0 {
		return refuse("it named no processes to stop")
	}
	if p.uid != nil {
		if pid, err := foreignProcess(*p.uid, p.processes); err != nil {
			return refuse("who owns process %d cannot be found out (%w)", pid, err)
		} else if pid != 0 {
			return refuse("it named process %d, which is not of its own user (uid %d)", pid, *p.uid)
		}
	}
	r.stopped = true // also if Stop fails half-way
	got, err := r.set.keeper.Stop(ctx, p.processes)
	if err != nil {
		if errors.Is(err, hold.ErrKeeperLost) || errors.Is(err, hold.ErrLeaseExpired) {
			return err
		}
		return refuse("they could not be stopped (%w)", err)
	}
	p.receipt.Processes = len(got.PIDs)
	r.receipt.Stopped += len(got.PIDs)
	if m := string(got.Method); r.receipt.Stop == "" || got.Method != hold.Ptrace {
		r.receipt.Stop = m
	}
	switch {
	case len(got.Skipped) > 0:
		return refuse("it named process %d, which belongs to this program and must run", got.Skipped[0])
	case len(got.Gone) == len(p.processes):
		return refuse("all processes that it named have ended")
	}
	return nil
}

// holdBroken is the failure of a set whose processes were not held throughout.
func holdBroken(op string, err error) error {
	return vss.Errorf(vss.ErrHoldWritesTimeout, op, "processes", "%w", err)
}

// resumeProcesses lets the stopped processes go on. Its error says that they were
// not all held from being stopped until now, so that what was copied of their
// files may be anything.
func (r *run) resumeProcesses() error {
	if !r.stopped {
		return nil
	}
	r.stopped = false
	ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
	defer cancel()
	if err := r.set.keeper.Resume(ctx); err != nil {
		return holdBroken("resume", err)
	}
	return nil
}
