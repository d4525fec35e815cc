package requester

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// decide finds out for each component set where its files go, before any file of
// any is written: what depends on a set that is refused is refused, too
// (R-SEL-31).
func (r *restore) decide(ctx context.Context, f *filler) error {
	targets, err := r.targets(ctx)
	if err != nil {
		return err
	}
	if err := r.stopServices(ctx, f.target); err != nil {
		return err
	}
	for _, s := range r.sets {
		if s.refused != "" {
			continue
		}
		target, asked := targets[s.set.Component.key()]
		if !asked {
			target = vss.RestoreTargetOriginal
		}
		if err := r.decideSet(ctx, f, s, target); err != nil {
			return err
		}
	}
	r.refuseDependents()
	return nil
}

// decideSet decides for one set.
func (r *restore) decideSet(ctx context.Context, f *filler, s *setRun, target vss.RestoreTarget) error {
	fold := r.style.Fold()
	there, rest, err := s.toNewTargets(s.strange(), fold)
	if err != nil {
		r.refuse(s, err.Error())
		return nil
	}
	if blocked, err := r.newTargetsBlocked(ctx, f, s, there); err != nil || blocked != "" {
		if err == nil {
			r.refuse(s, blocked)
		}
		return err
	}
	m := s.method()
	view := RestoreView{Running: r.running(s)}
	if view.Original, err = r.lookFor(ctx, f, s, rest); err != nil {
		return err
	}
	if m.UsesMappings(target) {
		if err := r.viewAlternate(ctx, f, s, &view); err != nil {
			return err
		}
	}
	if m.UsesReboot() && (m.Method == vss.RestoreMethodAtReboot || view.Original.Blocked != "") {
		if view.NoReboot, err = r.noReboot(ctx, f, s); err != nil {
			return err
		}
	}
	s.follow(target, &view)
	s.decision = Decide(m, target, view)
	if why := s.strays(target); why != "" {
		s.decision = Decision{Refusal: why}
	}
	s.result.Branch = s.decision.Branch.String()
	switch s.decision.Branch {
	case BranchRefused:
		r.refuse(s, s.decision.Refusal)
		return nil
	case BranchReboot:
		s.atOnce()
	case BranchDirected:
		s.asBackedUp()
		return r.planDirected(ctx, f, s)
	case BranchAlternate:
		if err := r.mayDivert(ctx, s); err != nil || s.refused != "" {
			return err
		}
		for _, n := range s.diversion.used {
			s.result.Mappings = append(s.result.Mappings, n.mapping.Spec.String()+" to "+r.shown(n.to))
		}
	}
	if err := r.partialsInWay(ctx, f, s); err != nil || s.refused != "" {
		return err
	}
	if s.decision.Branch == BranchOriginal && view.Original.There != "" || s.decision.Branch == BranchAlternate && view.Alternate.There != "" {
		return r.holdTogether(ctx, f, s)
	}
	return nil
}

// partialsInWay refuses a set with partial files that cannot be restored to where
// they go.
func (r *restore) partialsInWay(ctx context.Context, f *filler, s *setRun) error {
	var entries []*repository.Entry
	for _, e := range s.entries {
		if !isPartial(e) {
			continue
		}
		to, _, err := r.placeOf(s, e)
		if err != nil {
			r.refuse(s, err.Error())
			return nil
		}
		entries = append(entries, to)
	}
	why, err := r.checkPartials(ctx, f, entries)
	if err == nil && why != "" {
		r.refuse(s, why)
	}
	return err
}

// viewAlternate looks at the places that the alternate location mappings give.
func (r *restore) viewAlternate(ctx context.Context, f *filler, s *setRun, v *RestoreView) error {
	of, err := r.setRoutes(ctx, s)
	if err != nil {
		return err
	}
	s.routes = of
	_, rest, err := s.toNewTargets(s.looked(), r.style.Fold())
	if err != nil {
		return err
	}
	d := divert(rest, of)
	if d.unmapped != "" {
		v.Unmapped = r.shown(d.unmapped)
		return nil
	}
	s.diversion = d
	strange := slices.DeleteFunc(slices.Clone(d.entries), func(e *repository.Entry) bool { return s.own(e.Path) })
	v.Alternate, err = r.lookFor(ctx, f, s, strange)
	return err
}

// lookFor looks at places for a method. For IF_NOT_THERE a file that is the very
// one to be restored does not count as there: nothing of it would be replaced, and
// a restore that was stopped can be run again.
//
// In a dry run a file that a process uses does not count as blocked if a writer would
// be told of the restore before: stopping the process is what it does then.
func (r *restore) lookFor(ctx context.Context, f *filler, s *setRun, entries []*repository.Entry) (Presence, error) {
	m := s.method()
	l := looker{target: f.target, shown: r.shown}
	if m.Given && m.Method == vss.RestoreMethodIfNotThere {
		l.same = f.isThere
	}
	p, err := l.look(ctx, entries)
	if err != nil || p.Blocked != "" {
		return p, err
	}
	used, err := r.obstacles(ctx, f, entries, &p, r.req.DryRun && s.live)
	if used != "" && p.Blocked == "" {
		r.warn("%s: %s; its writer is asked to let go of its files first", s.set.Component.Label(), used)
	}
	return p, err
}

// obstacleBatch is how many names are asked about at once.
const obstacleBatch = 20_000

// obstacles asks the host what else keeps files from being replaced or made. Use by a
// process is, if that may end, not taken for an obstacle, and told.
func (r *restore) obstacles(ctx context.Context, f *filler, entries []*repository.Entry, p *Presence, mayEnd bool) (used string, err error) {
	names := make([]string, 0, min(len(entries), obstacleBatch))
	ask := func() error {
		list, err := f.target.Obstacles(ctx, names)
		names = names[:0]
		for _, o := range list {
			if !o.Used || !mayEnd {
				p.block(r.shown(o.Name), clip(o.Why, 300))
			} else if used == "" {
				used = fmt.Sprintf("%s is in use now (%s)", r.shown(o.Name), clip(o.Why, 300))
			}
		}
		return err
	}
	for _, e := range entries {
		if e.Type == repository.Directory || e.Attrs[AttrOutcome] == "failed" || validName(e.Path, r.style == vss.Windows) != nil {
			continue
		}
		if names = append(names, e.Path); len(names) == obstacleBatch {
			if err := ask(); err != nil || p.Blocked != "" {
				return used, err
			}
		}
	}
	if len(names) == 0 {
		return used, nil
	}
	err = ask()
	return used, err
}

// setRoutes gives the routes of each component of a set.
func (r *restore) setRoutes(ctx context.Context, s *setRun) (func(component string) *routes, error) {
	byName := map[string]*routes{}
	for _, c := range s.set.Component.Set() {
		n, err := r.routesOf(ctx, c)
		if err != nil {
			return nil, err
		}
		byName[c.FullPath()] = n
	}
	return func(component string) *routes { return byName[component] }, nil
}

// mayDivert refuses a set whose mappings lead to where nothing of this restore may
// be written: the document they are from is the medium's.
func (r *restore) mayDivert(ctx context.Context, s *setRun) error {
	if at := s.diversion.clashes(r.style.Fold()); at != "" {
		r.refuse(s, fmt.Sprintf("its alternate location mappings send two files to %s", r.shown(at)))
		return nil
	}
	for _, n := range s.diversion.used {
		ok, err := r.mayWriteTo(ctx, s.set.Component.Writer, n)
		if err != nil {
			return err
		}
		if !ok {
			r.refuse(s, fmt.Sprintf("its alternate location mapping leads to %s, which is outside of all paths the backup says it is of, "+
				"and no running writer offers it; if it is to be written to, say so with --allow-destination %[1]s", r.shown(n.to)))
			return nil
		}
	}
	for _, e := range s.diversion.entries {
		whose, err := r.otherOwner(ctx, e.Path, s)
		if err != nil {
			return err
		}
		if whose != "" && e.Type != repository.Directory {
			r.refuse(s, fmt.Sprintf("its alternate location mapping leads to %s, which this restore writes as a file of %s, too", r.shown(e.Path), whose))
			return nil
		}
	}
	return nil
}

// mayWriteTo reports whether a mapping's destination may be written to: it lies in
// what the backup says it is of, a running writer offers the same mapping, or the
// user says so.
func (r *restore) mayWriteTo(ctx context.Context, w *Writer, n *route) (bool, error) {
	if declares(r.places, n.to, r.style.Fold()) {
		return true, nil
	}
	for _, dir := range r.req.Destinations {
		if r.style.IsAbs(dir) && declares([]string{TablePath(r.style, dir)}, n.to, r.style.Fold()) {
			return true, nil
		}
	}
	live, err := r.liveWriters(ctx)
	if err != nil {
		return false, err
	}
	for _, l := range live {
		if l.Class == w.Class && l.InstanceName == w.InstanceName && slices.ContainsFunc(l.Restore.Mappings, func(m Mapping) bool {
			return m.Spec.Equal(n.mapping.Spec, r.style) && r.style.Equal(m.Destination, n.mapping.Destination)
		}) {
			return true, nil
		}
	}
	return false, nil
}

// liveWriters are the documents of the writers that run. What they offer tells
// what may be done by a stored document, and never what is done (R-RES-1).
func (r *restore) liveWriters(ctx context.Context) ([]*Writer, error) {
	if r.living != nil || r.stored == nil || r.req.NoWriters || len(r.sets) == 0 {
		return r.living, nil
	}
	infos, err := r.sess.WriterMetadata(ctx)
	if err != nil {
		return nil, err
	}
	r.living, _ = readWriters(infos) // one that cannot be read offers nothing
	if r.living == nil {
		r.living = []*Writer{}
	}
	return r.living, nil
}

// refuseDependents refuses what depends on a component that is refused, until
// nothing more does: both or neither (R-SEL-31).
func (r *restore) refuseDependents() {
	for changed := true; changed; {
		changed = false
		for _, s := range r.sets {
			if s.refused != "" {
				continue
			}
			if m, on := r.dependsOnRefused(s); on != nil {
				r.refuse(s, fmt.Sprintf("%s depends on %s, which is not restored: %s", m.FullPath(), on.set.Component.Label(), on.refused))
				changed = true
			}
		}
	}
}

func (r *restore) dependsOnRefused(s *setRun) (*Component, *setRun) {
	for _, m := range s.set.Component.Set() {
		if !s.set.Covers(m) {
			continue
		}
		for _, d := range m.Dependencies {
			for _, o := range r.sets {
				if d.Computer == "" && o != s && o.refused != "" && o.holds(d) {
					return m, o
				}
			}
		}
	}
	return nil, nil
}

// holds reports whether the set has the component that another depends on.
func (s *setRun) holds(d Dependency) bool {
	return slices.ContainsFunc(s.set.Component.Set(), func(t *Component) bool {
		return s.set.Covers(t) && t.Writer.Class == d.Class && t.LogicalPath == d.LogicalPath && t.Name == d.Name
	})
}

// targets reads which restore targets writers set in PreRestore.
func (r *restore) targets(ctx context.Context) (map[setKey]vss.RestoreTarget, error) {
	out := map[setKey]vss.RestoreTarget{}
	if !slices.ContainsFunc(r.sets, func(s *setRun) bool { return s.live }) || r.req.DryRun {
		return out, nil
	}
	data, err := r.sess.BackupComponents(ctx)
	if err != nil {
		return nil, err
	}
	doc, err := metadata.ParseBackupComponents(data)
	if err != nil {
		return nil, err
	}
	for _, w := range doc.Writers() {
		for _, c := range w.Components() {
			out[setKey{w.Key().ClassID, c.FullPath()}] = c.RestoreTarget()
		}
	}
	return out, nil
}

// placeOf gives an entry of a set at the place where it is restored: below a new
// target, or where a mapping leads (by), or its own.
func (r *restore) placeOf(s *setRun, e *repository.Entry) (to *repository.Entry, by *route, err error) {
	if to, err = s.at(e, r.style.Fold()); err != nil || to != e || s.decision.Branch != BranchAlternate {
		return to, nil, err
	}
	if of := s.routes(e.Attrs[AttrComponent]); of != nil {
		if path, by, ok := of.of(e); ok {
			return withPath(e, path), by, nil
		}
	}
	return e, nil, fmt.Errorf("no alternate location mapping matches %s", r.shown(e.Path))
}

// putSet restores a set by what was decided.
func (r *restore) putSet(ctx context.Context, f *filler, s *setRun) error {
	if why, err := r.putRangesFiles(ctx, f, s); err != nil {
		return err
	} else if why != "" {
		r.refuse(s, why)
		return nil
	}
	if s.decision.Branch == BranchDirected {
		return r.directed(ctx, f, s)
	}
	if err := r.takeAway(ctx, f, s); err != nil {
		return err
	}
	for _, e := range s.puts() {
		to, by, err := r.placeOf(s, e)
		switch {
		case err != nil && e.Type == repository.Directory:
			continue // no mapping has it
		case err != nil:
			err = f.fail(e, s, err)
		case s.decision.Branch == BranchReboot && to == e:
			err = r.stage(ctx, f, e, s)
		case by != nil:
			err = r.putDiverted(ctx, f, e, to, by, s)
		default:
			err = r.put(ctx, f, to, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// putDiverted restores an entry to where a mapping leads. Directories that are
// there are not the application's alone, and keep their attributes.
func (r *restore) putDiverted(ctx context.Context, f *filler, e, to *repository.Entry, by *route, s *setRun) error {
	if e.Root != rootID {
		return r.put(ctx, f, e, s) // which refuses it
	}
	if err := validName(to.Path, r.style == vss.Windows); err != nil {
		return f.fail(to, s, err)
	}
	if !s.diversion.uses(by) { // of an entry that another record brings
		if ok, err := r.mayWriteTo(ctx, s.set.Component.Writer, by); err != nil || !ok {
			if err == nil {
				err = f.fail(to, s, errors.New("its alternate location mapping leads where this restore may not write"))
			}
			return err
		}
		s.diversion.used = append(s.diversion.used, by)
	}
	f.divert(e.Path, to.Path, by)
	if e.Type == repository.Directory && !s.own(to.Path) {
		if _, err := f.target.Lstat(ctx, to.Path); err == nil {
			return nil
		}
	}
	return f.put(ctx, to, s)
}

// tellMappings tells the writer which of its mappings were used: with the explicit
// component, and the file set as its document has it (R-RES-18, R-RES-19).
func (r *restore) tellMappings(ctx context.Context, s *setRun) error {
	if s.refused != "" || s.decision.Branch != BranchAlternate {
		return nil
	}
	for _, n := range s.diversion.used {
		if err := r.sess.AddAlternativeLocationMapping(ctx, s.set.Component.Session(), n.mapping.Spec, n.mapping.Destination); err != nil {
			return err
		}
	}
	return nil
}
