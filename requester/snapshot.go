package requester

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// maxVolumesPerSet is the model's limit.
const maxVolumesPerSet = 64

// refusal says that a session must be made again without shadow copies of some
// volumes: none can be taken out of a set.
type refusal struct{ volumes map[string]string }

func (r *refusal) Error() string {
	for _, why := range r.volumes {
		return why
	}
	return "refused"
}

// addAll adds the explicit components (step 4) and the volumes (steps 5 and 6),
// and asks what the shadow copies will cost.
func (a *attempt) addAll(ctx context.Context) error {
	for _, c := range a.sel.Explicit {
		if err := a.sess.AddComponent(ctx, c.Session()); err != nil {
			return fmt.Errorf("add component %s: %w", c.Label(), err)
		}
	}
	list := a.snapshotVolumes()
	if len(list) > maxVolumesPerSet {
		return vss.Errorf(vss.ErrMaximumNumberOfVolumesReached, "make shadow copies", "",
			"%d volumes are chosen and a set has at most %d; choose fewer paths", len(list), maxVolumesPerSet)
	}
	if len(list) == 0 && len(a.sel.Explicit) == 0 {
		return nil
	}
	set, err := a.sess.StartSnapshotSet(ctx)
	if err != nil {
		return err
	}
	if a.req.KeepBaseShadow > 0 {
		a.shadowSet = set
	}
	refused := map[string]string{}
	for _, v := range list {
		id, err := a.sess.AddToSnapshotSet(ctx, v.ID, a.req.Provider, a.scope(v))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			refused[v.ID] = err.Error()
			continue
		}
		v.snapshot = id
	}
	if err := a.estimate(ctx, refused); err != nil {
		return err
	}
	if len(refused) > 0 {
		return &refusal{refused}
	}
	return nil
}

func (a *attempt) estimate(ctx context.Context, refused map[string]string) error {
	estimates, err := a.sess.Estimates(ctx)
	if err != nil {
		return err
	}
	for _, e := range estimates {
		v := a.volumes[e.Volume]
		if v == nil {
			return fmt.Errorf("estimate of volume %s, which is not in the set", e.Volume)
		}
		v.estimate = e
		if e.Refusal != "" {
			refused[e.Volume] = e.Refusal
		}
	}
	return nil
}

// scope is the candidate files of one volume: a rule, from which providers that
// take files one by one make the list in the hold.
func (a *attempt) scope(v *volumeState) session.Scope {
	s := session.Scope{Fold: a.fold}
	for _, w := range a.writers {
		id := w.Instance.String() // by which the service knows whose files must be still
		in := provider.Claim{Writer: id}
		out := provider.Claim{Writer: id}
		// Excludes are tested against the normal path, never against the
		// alternate one (R-SET-11): files read there are a claim without any.
		spit := provider.Claim{Writer: id}
		for _, c := range w.Components {
			for _, cl := range a.claims.Of(c) {
				a.scopeClaim(v, c, cl, &in, &out, &spit)
			}
		}
		in.Exclude = a.claims.excludesOf(w, v.ID)
		out.Exclude = in.Exclude
		if len(in.Files) > 0 {
			s.Claims = append(s.Claims, in)
		}
		if len(spit.Files) > 0 {
			s.Claims = append(s.Claims, spit)
		}
		if len(out.Files) > 0 || len(in.Files) == 0 && len(out.Exclude) > 0 {
			s.Foreign = append(s.Foreign, out)
		}
	}
	for _, ar := range a.areas {
		if ar.volume != v.ID {
			continue
		}
		s.Unclaimed = append(s.Unclaimed, provider.FileSet{Dir: ar.name, Pattern: "*", Recursive: true})
		if ar.name != "." {
			// The area may be a single file.
			s.Unclaimed = append(s.Unclaimed, provider.FileSet{Dir: path.Dir(ar.name), Pattern: path.Base(ar.name)})
		}
	}
	s.Exclude = append(s.Exclude, provider.FileSet{Dir: areaName, Pattern: "*", Recursive: true})
	return s
}

// scopeClaim enters one claim: as one to be copied, or as a foreign one. Files
// taken as plain ones are nobody's.
func (a *attempt) scopeClaim(v *volumeState, c *Component, cl *Claim, in, out, spit *provider.Claim) {
	t := a.typing(c)
	taken := a.sel.Has(c) && t.NeedsShadow(cl.File)
	switch {
	case taken && cl.Alternate:
		if cl.From == v.ID && !cl.Nested {
			read := cl.Set
			read.Dir = cl.Dir
			spit.Files = append(spit.Files, read)
		}
		if cl.Volume == v.ID {
			out.Files = append(out.Files, cl.Set) // the normal place is claimed and not read
		}
	case taken && cl.Volume == v.ID:
		in.Files = append(in.Files, cl.Set)
	case cl.Volume == v.ID && (a.sel.Has(c) || !a.req.AsPlainFiles):
		out.Files = append(out.Files, cl.Set)
	}
}

// reach opens sessions until one has a set that no estimate refuses, and calls
// use with it. Each further session leaves out what the one before was refused.
func reach(ctx context.Context, open Opener, req *Request, rep Reporter, past *histories, use func(*attempt) error) error {
	refused := map[string]string{}
	for {
		before := len(refused)
		err := reachOnce(ctx, open, req, rep, refused, past, use)
		var again *refusal
		if !errors.As(err, &again) {
			return err
		}
		for id, why := range again.volumes {
			refused[id] = why
		}
		if len(refused) == before {
			return fmt.Errorf("estimate shadow copies: %w", again)
		}
	}
}

func reachOnce(ctx context.Context, open Opener, req *Request, rep Reporter, refused map[string]string, past *histories, use func(*attempt) error) error {
	sess, err := open(ctx)
	if err != nil {
		return err
	}
	a := newAttempt(sess, req, rep, refused, past)
	defer a.close(ctx)
	if err := a.begin(ctx); err != nil {
		return err
	}
	if err := a.choose(ctx); err != nil {
		return err
	}
	if err := a.addAll(ctx); err != nil {
		return err
	}
	return use(a)
}

// close gives up what is still under way and ends the session. It works also
// when the context has ended. What goes wrong in it changes nothing of what was
// saved, so it is a warning.
func (a *attempt) close(ctx context.Context) {
	for _, l := range a.begun {
		l.close()
	}
	for _, t := range a.live {
		t.Close()
	}
	if !a.done {
		ctx := context.WithoutCancel(ctx)
		if err := a.sess.AbortBackup(ctx); err != nil && !errors.Is(err, vss.ErrBadState) {
			a.rep.Warning("abort backup: " + err.Error())
		}
	}
	a.dropShadows(context.WithoutCancel(ctx))
	if err := a.sess.Close(); err != nil {
		a.rep.Warning("end the session: " + err.Error())
	}
}
