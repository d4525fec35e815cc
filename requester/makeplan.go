package requester

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// MakePlan finds out what a backup would do, up to the point where nothing has
// been frozen or copied, and undoes what it began. A level of consistency out
// of reach is told in the plan, not an error.
//
// What a component builds upon only the repository knows; without it a backup of
// a type that goes by that is planned as if there were something. See
// [MakePlansTo].
func MakePlan(ctx context.Context, open Opener, r Request, rep Reporter) (*Plan, error) {
	return makePlan(ctx, open, nil, r, rep)
}

// makePlan is MakePlan for a backup into a repository, which is opened only if it
// is needed; nil: there is none.
func makePlan(ctx context.Context, open Opener, repo RepositoryOpener, r Request, rep Reporter) (*Plan, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	rep = orQuiet(rep)
	var plan *Plan
	var past *histories
	if repo != nil {
		past = &histories{open: func(ctx context.Context) (*repository.Repository, error) {
			opened, err := repo(ctx)
			if err != nil {
				return nil, &OpenError{err}
			}
			return opened, nil
		}}
	}
	err := reach(ctx, open, &r, rep, past, func(a *attempt) error {
		plan = a.plan(ctx)
		rep.Plan(plan)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return plan, nil
}

// check refuses requests that cannot be.
func (r *Request) check() error {
	switch t := r.backupType(); t {
	case vss.BackupTypeFull, vss.BackupTypeCopy, vss.BackupTypeIncremental, vss.BackupTypeDifferential, vss.BackupTypeLog:
	default:
		return vss.Errorf(vss.ErrInvalidArgument, "back up", "", "%s is no type of backup", t) // R-TYPE-1
	}
	if r.KeepBaseShadow < 0 || r.KeepBaseShadow > MaxKeepBaseShadow {
		return vss.Errorf(vss.ErrInvalidArgument, "back up", "", "%d shadow copies of each volume are to be kept; 0 to %d can be", r.KeepBaseShadow, MaxKeepBaseShadow)
	}
	if r.NoWriters && (!r.Selectors.Empty() || r.SystemState) {
		return vss.Errorf(vss.ErrInvalidArgument, "back up", "", "without writers there are no components to choose")
	}
	if len(r.Paths) == 0 && !r.Selectors.Includes() && !r.SystemState {
		return vss.Errorf(vss.ErrInvalidArgument, "back up", "", "nothing is chosen: name a path, a writer or a component")
	}
	return nil
}

// plan describes what the attempt has decided.
func (a *attempt) plan(ctx context.Context) *Plan {
	p := &Plan{
		Host: PlanHost{a.host.ID, a.host.Name, a.host.OS, a.host.Style.String(), a.host.Native, a.host.Privileged},
		Type: a.req.backupType().Word(), Paths: a.places, Required: a.req.Consistency.String(), NoPartial: a.req.NoPartial,
		LeftOut: a.leftOut, LeftOutCount: a.leftOuts,
	}
	for _, id := range a.order {
		if v := a.volumes[id]; v.claimed || v.unclaimed {
			p.Volumes = append(p.Volumes, a.planVolume(v))
		}
	}
	for _, w := range a.writers {
		p.Writers = append(p.Writers, a.planWriter(w))
	}
	for _, err := range a.broken {
		p.Writers = append(p.Writers, PlanWriter{Name: "?", Error: err.Error(), Type: p.Type})
	}
	p.FreezeEstimate = a.freezeEstimate()
	a.planShadows(ctx, p)
	a.planLevel(p)
	a.planOutside(ctx, p)
	a.planNotes(p)
	return p
}

func (a *attempt) planVolume(v *volumeState) PlanVolume {
	e := v.estimate
	pv := PlanVolume{
		ID: v.ID, Root: v.Root, FileSystem: v.FSType, Provider: v.support.Provider.Name, ProviderID: v.support.Provider.ID,
		Refusal: v.refusal, Atomic: v.support.Capabilities.Atomic,
		Claimed: v.claimed, Unclaimed: v.unclaimed, Area: e.Area, Room: e.Room, Free: e.Free, Hold: e.Hold,
		Files: e.Files, Bytes: e.Bytes, Notes: e.Notes,
	}
	for _, r := range v.support.Refused {
		pv.Refused = append(pv.Refused, PlanRefusal{r.Subject, r.Reason})
	}
	if note := v.support.Capabilities.Note; note != "" {
		pv.Notes = append(slices.Clone(pv.Notes), note)
	}
	if v.unclaimed && !v.TimesTell {
		pv.Notes = append(slices.Clone(pv.Notes), "on "+v.FSType+" file times do not tell of every change, so that every backup reads every file")
	}
	if v.refusal != "" || !v.copied() {
		pv.Provider, pv.ProviderID, pv.Atomic = "", vss.GUID{}, false
	}
	if v.claimed {
		pv.Level = a.claimedLevel(v).String()
	}
	if v.unclaimed {
		pv.UnclaimedLevel = v.unclaimedLevel().String()
	}
	return pv
}

// claimedLevel is the level of files of components: their writers bring them to
// a consistent state, or their components fail.
func (a *attempt) claimedLevel(v *volumeState) session.Level {
	if v.refusal != "" {
		return session.LevelNone // only what its writer lets be read live
	}
	return session.LevelApp
}

// unclaimedLevel is the level of data of no writer: all of it at one instant
// only where the provider takes the volume in one operation.
func (v *volumeState) unclaimedLevel() session.Level {
	if v.refusal == "" && v.support.Provider.Name != "" && v.support.Capabilities.Atomic && !v.support.Capabilities.NeedsScope {
		return session.LevelCrash
	}
	return session.LevelNone
}

func (a *attempt) planWriter(w *Writer) PlanWriter {
	pw := PlanWriter{
		Name: w.Name, InstanceName: w.InstanceName, Class: w.Class, Instance: w.Instance,
		Discovered: w.Info.Discovered, Required: w.Info.Required, ReadsPaused: w.Info.ReadsPaused, Weak: w.Info.Weak,
		Stillness: stillness(w.Info), Type: a.req.backupType().Word(),
	}
	if asked := a.req.backupType(); !w.Schema.Supports(asked) {
		t := DecideType(asked, w, ComponentHistory{}, a.req.StrictType)
		pw.TypeNote = strings.Join(append(t.Notes, t.LeftOut), "")
	}
	for _, c := range w.Components {
		pw.Components = append(pw.Components, a.planComponent(c))
	}
	a.planHeld(w, &pw)
	return pw
}

// planHeld tells whether a writer of which something is chosen will have its
// processes stopped, or cannot have them stopped though it would have to be.
func (a *attempt) planHeld(w *Writer, pw *PlanWriter) {
	if !slices.ContainsFunc(w.Components, a.sel.Has) {
		return
	}
	for _, v := range a.volumes {
		for _, h := range v.estimate.Held {
			switch {
			case h.Instance != w.Instance:
			case h.Refusal != "":
				pw.Unstill = h.Refusal
			default:
				pw.Stopped, pw.ReadsPaused = true, true
			}
		}
	}
}

func stillness(i session.WriterInfo) string {
	switch {
	case i.FilesStill:
		return "files still"
	case i.NothingHeld:
		return "nothing held"
	}
	return "commits held"
}

func (a *attempt) planComponent(c *Component) PlanComponent {
	pc := PlanComponent{LogicalPath: c.LogicalPath, Name: c.Name, Type: c.Type.Word(), Selectable: c.Selectable,
		Selected: "no", Files: len(c.Files)}
	for _, cl := range a.claims.Of(c) {
		if !slices.Contains(pc.Volumes, cl.From) {
			pc.Volumes = append(pc.Volumes, cl.From)
		}
	}
	switch d := a.sel.Defining[c]; {
	case d == c:
		pc.Selected, pc.Why, pc.Level = "explicit", a.sel.Why[c], c.level().String()
	case d != nil:
		pc.Selected, pc.Set, pc.Level = "implicit", d.FullPath(), c.level().String()
		pc.Why = "in the set of " + d.FullPath()
	default:
		pc.Why = "not selected"
		if bar, ok := a.sel.Out[c]; ok {
			pc.Why = bar.Why
		}
	}
	if pc.Selected == "explicit" {
		t := a.typing(c)
		pc.BackupType, pc.TypeNotes = t.Type.Word(), t.Notes
		if t.Base != nil && !t.Base.Record.IsZero() {
			pc.Base, pc.BaseTime = t.Base.Record.String(), t.Base.Time
		}
	}
	return pc
}

// freezeEstimate is how long applications wait: as long as the slowest volume,
// as all commit at the same time.
func (a *attempt) freezeEstimate() (d time.Duration) {
	for _, v := range a.volumes {
		d = max(d, v.estimate.Hold)
	}
	return d
}

// planLevel finds the level of the whole, and whether the one asked for is in
// reach. Data of no writer can be no better than crash-consistent, so that
// asking for app asks crash of it.
func (a *attempt) planLevel(p *Plan) {
	level, any := session.LevelApp, false
	need := func(have, want session.Level, what string) {
		if have < want {
			p.Unreachable = append(p.Unreachable, fmt.Sprintf("%s: %s is in reach, %s is wanted", what, have, want))
		}
		if !any || have < level {
			level, any = have, true
		}
	}
	for _, c := range a.sel.Explicit {
		need(c.level(), a.req.Consistency, "component "+c.Label())
	}
	for _, id := range a.order {
		if v := a.volumes[id]; v.unclaimed {
			need(v.unclaimedLevel(), min(a.req.Consistency, session.LevelCrash), "data of no writer on "+v.Root)
		}
	}
	if a.req.Consistency == session.LevelApp {
		for _, l := range a.leftOut {
			if !l.Asked && l.Component != "" {
				p.Unreachable = append(p.Unreachable, fmt.Sprintf("component %s of %s is left out: %s", l.Component, l.Writer, l.Reason))
			}
		}
	}
	if !any {
		level = session.LevelNone
	}
	p.Level, p.Reachable = level.String(), len(p.Unreachable) == 0
}

// planOutside lists files of chosen components that lie outside the paths.
func (a *attempt) planOutside(ctx context.Context, p *Plan) {
	if len(a.areas) == 0 {
		return
	}
	for _, w := range a.writers {
		for _, c := range w.Components {
			if !a.sel.Has(c) {
				continue
			}
			t := a.typing(c)
			for _, g := range a.claims.groups(c, &t, false, nil) {
				a.outsideOf(ctx, g, p)
			}
		}
	}
}

func (a *attempt) outsideOf(ctx context.Context, g *claimGroup, p *Plan) {
	if inAreas(a.areas, g.From, g.dir, a.fold) {
		return
	}
	v, err := a.volume(ctx, g.From)
	if err != nil {
		return
	}
	t, err := a.liveTree(ctx, g.From)
	if err != nil {
		return
	}
	_ = g.visit(ctx, t, "", func(name string, e session.Entry, err error) error {
		if err != nil || e.Mode.IsDir() || inAreas(a.areas, g.From, name, a.fold) || a.claims.Excludes(g.Component.Writer, g.From, name) {
			return nil
		}
		p.OutsideCount++
		if len(p.Outside) < maxLeftOut {
			p.Outside = append(p.Outside, volumePath(a.style, v.Volume, name))
		}
		return nil
	})
}

func (a *attempt) planNotes(p *Plan) {
	p.Warnings = append(p.Warnings, a.warnings...)
	if a.past == nil && usesHistory(a.req.backupType()) && len(a.sel.Explicit) > 0 {
		p.Warnings = append(p.Warnings, "planned without the repository: components that find no backup in it to build upon are saved whole")
	}
	a.warnResting(p)
	for i := range p.Writers {
		if w := &p.Writers[i]; w.Unstill != "" {
			p.Warnings = append(p.Warnings, w.Name+" will be refused: "+w.Unstill)
		}
	}
	for _, w := range a.writers {
		for _, c := range w.Components {
			for _, d := range a.sel.Remote[c] {
				p.Warnings = append(p.Warnings, fmt.Sprintf("%s depends on %s, which is another machine's and not part of this backup", c.Label(), d))
			}
		}
	}
}
