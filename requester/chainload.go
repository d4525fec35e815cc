package requester

import (
	"context"
	"fmt"
	"slices"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// chainRun is a restore of several records, oldest first.
type chainRun struct {
	*restore // of the chosen record; its result is the whole's
	past     *PastRecords
	links    []*linkRun
	comps    []*chainComp
	trial    bool // nothing is restored: another record is looked at
}

// linkRun is one operation: the restore of one record's part.
type linkRun struct {
	*restore
	link *ChainLink
	n    int // its place in the chain
	// parts are the components with a part in it, in the order of the chosen
	// record.
	parts []*setChain
}

// chainComp is a component set on its way through the links.
type chainComp struct {
	key   HistoryKey
	top   *setRun // as the chosen record has it
	parts []*setChain
	// written and collapsed say what each link does, the one way and the other;
	// collapsed is nil if the links must be restored one after the other, and
	// why says what for.
	written, collapsed []linkWork
	plan               filePlan
	why                string
	// mine are the paths that this restore has put.
	mine ownPaths
	// files and bytes are what is there in the end.
	files, bytes int64
	// stopped says why the later links are not restored.
	stopped string
}

// setChain is a component's part in one link: what its [setRun] must know.
type setChain struct {
	comp *chainComp
	n    int // which part of the component's it is
	link *linkRun
	run  *setRun
	typ  vss.BackupType
	more bool // later links have a part of it
}

// work is what the link does with the component's files.
func (s *setChain) work() *linkWork {
	if s.comp.collapsed != nil {
		return &s.comp.collapsed[s.n]
	}
	return &s.comp.written[s.n]
}

// historyKey is what a component is known by over records of a host.
func historyKey(host string, c *Component) HistoryKey {
	return HistoryKey{Host: host, Class: c.Writer.Class, InstanceName: c.Writer.InstanceName, LogicalPath: c.LogicalPath, Name: c.Name}
}

// chains finds out whether restoring what was chosen takes more records than this
// one. It gives nil if it does not; the error, a [*ChainError], says that something
// it takes is not there.
func (r *restore) chains(ctx context.Context) (*chainRun, error) {
	if r.extract || r.req.NoWriters || len(r.sets) == 0 {
		return nil, nil
	}
	past, err := ReadPastRecords(ctx, r.repo)
	if err != nil {
		return nil, err
	}
	chosen := past.Find(r.rec.ID)
	if chosen == nil {
		return nil, fmt.Errorf("restore: record %s cannot be read again: %w", r.rec.ID.Short(), repository.ErrNotFound)
	}
	if err := r.repo.Survey(ctx); err != nil {
		return nil, err
	}
	run := newChainRun(r, past, r.sets)
	holes, err := run.prepare(ctx, chosen)
	if err != nil {
		return nil, err
	}
	if len(holes) > 0 {
		for _, h := range holes {
			if err := run.lookBack(ctx, h, chosen); err != nil {
				return nil, err
			}
		}
		return nil, &ChainError{Holes: holes}
	}
	if len(run.links) == 1 {
		for _, s := range r.sets {
			s.chain = nil // as any other restore
		}
		return nil, nil
	}
	return run, nil
}

func newChainRun(r *restore, past *PastRecords, sets []*setRun) *chainRun {
	run := &chainRun{restore: r, past: past}
	for _, s := range sets {
		run.comps = append(run.comps, &chainComp{key: historyKey(r.rec.Host.ID, s.set.Component), top: s, mine: ownPaths{paths: map[string]leftFile{}}})
	}
	return run
}

// prepare plans the chains, reads all records, and looks whether everything is
// there.
func (c *chainRun) prepare(ctx context.Context, chosen *PastRecord) ([]*Hole, error) {
	var keys []HistoryKey
	byKey := map[HistoryKey]*chainComp{}
	for _, comp := range c.comps {
		keys, byKey[comp.key] = append(keys, comp.key), comp
	}
	plan, err := c.past.PlanChains(chosen, keys)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	holes := plan.Holes
	for _, link := range plan.Links {
		more, err := c.load(ctx, link, byKey)
		if err != nil {
			return nil, err
		}
		holes = append(holes, more...)
	}
	if len(holes) == 0 {
		if holes, err = c.verify(ctx); err != nil {
			return nil, err
		}
	}
	for _, h := range holes {
		h.Label = byKey[h.Key].top.set.Component.Label()
	}
	return holes, nil
}

// maxLookBack bounds the records that are read to find one that can be restored
// instead.
const maxLookBack = 20

// lookBack finds the newest record before the chosen one that a component can be
// restored from: one that was looked at as the chosen one was.
func (c *chainRun) lookBack(ctx context.Context, h *Hole, chosen *PastRecord) error {
	i := slices.IndexFunc(c.comps, func(comp *chainComp) bool { return comp.key == h.Key })
	for range maxLookBack {
		h.Instead = repository.ID{}
		if c.past.instead(h, chosen); h.Instead.IsZero() {
			return nil
		}
		try := newChainRun(c.restore, c.past, []*setRun{c.comps[i].top})
		try.trial = true
		holes, err := try.prepare(ctx, c.past.Find(h.Instead))
		if err != nil || len(holes) == 0 {
			return err
		}
	}
	h.Instead = repository.ID{}
	return nil
}

// load reads the record of a link: what it says of the components that have a
// part in it, and lists of them.
func (c *chainRun) load(ctx context.Context, link *ChainLink, byKey map[HistoryKey]*chainComp) (holes []*Hole, err error) {
	l := &linkRun{restore: c.restore, link: link, n: len(c.links)}
	if link.Past.ID != c.rec.ID || c.trial {
		l.restore, err = c.another(ctx, link.Past.Record)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	c.links = append(c.links, l)
	fault := func(key HistoryKey, why string) {
		h := &Hole{Key: key, By: link.Past.ID, Needed: link.Past.ID.String(), Why: why}
		link.Past.spoil(key, why)
		holes = append(holes, h)
	}
	for _, p := range link.Parts {
		if err != nil {
			fault(p.Key, fmt.Sprintf("cannot be used: %v", err))
			continue
		}
		comp := byKey[p.Key]
		part := &setChain{comp: comp, n: len(comp.parts), link: l, typ: p.Type, more: p.More}
		if l.restore == c.restore {
			part.run = comp.top
		} else if why := l.find(p.Key, comp, part); why != "" {
			fault(p.Key, why)
			continue
		} else if part.run == nil {
			continue // of what is chosen of the set nothing was there then
		}
		part.run.chain = part
		if part.run != comp.top {
			part.run.told = comp.top.told.of(part.run.set.Component, c.style)
		}
		comp.parts = append(comp.parts, part)
		l.parts = append(l.parts, part)
		for _, e := range part.run.entries {
			if e.Attrs[AttrOutcome] == "failed" {
				fault(p.Key, fmt.Sprintf("has not saved %s: %s", l.shown(e.Path), clip(e.Attrs[AttrError], 200)))
				break
			}
		}
	}
	slices.SortFunc(l.parts, func(a, b *setChain) int { return c.place(a.comp) - c.place(b.comp) })
	return holes, nil
}

func (c *chainRun) place(comp *chainComp) int { return slices.Index(c.comps, comp) }

// another makes ready the restore of an earlier record.
func (c *chainRun) another(ctx context.Context, rec *repository.Record) (l *restore, err error) {
	req := *c.req
	l = &restore{repo: c.repo, rec: rec, req: &req, rep: c.rep, style: c.style, origin: c.origin, include: c.include, exclude: c.exclude,
		res: &RestoreResult{Outcome: Complete, Record: rec.ID.String(), Started: now(), DryRun: req.DryRun}}
	if rec.Host.PathStyle != c.rec.Host.PathStyle {
		return l, fmt.Errorf("it is of a %s host", clip(rec.Host.PathStyle, 100))
	}
	if l.table, err = readTable(ctx, rec.Table()); err != nil {
		return l, err
	}
	l.stored, err = readStored(ctx, rec)
	return l, err
}

// find finds the component in the record of a link, and what is restored of it
// there: what is chosen of it in the chosen record. It gives no run if nothing of
// that was there.
func (l *linkRun) find(key HistoryKey, comp *chainComp, part *setChain) (why string) {
	for _, def := range l.stored.explicit {
		if historyKey(key.Host, def) != key {
			continue
		}
		if !l.stored.succeeded[def] {
			return "has not saved the component whole"
		}
		set := &RestoreSet{Component: def, Why: comp.top.set.Why}
		for _, m := range comp.top.set.Subcomponents {
			if there := def.Writer.find(m.LogicalPath, m.Name); there != nil && l.stored.defining[there] == def && there.SelectableForRestore {
				set.Subcomponents = append(set.Subcomponents, there)
			}
		}
		if len(comp.top.set.Subcomponents) > 0 && len(set.Subcomponents) == 0 {
			return ""
		}
		part.run = l.newSet(set, l.covered(set))
		part.run.told = comp.top.told.of(def, l.style)
		part.run.result.Told = comp.top.result.Told
		return ""
	}
	return "has no such component in its documents"
}

// verify decides what each link does with files, and looks whether all that it
// writes is in the repository.
func (c *chainRun) verify(ctx context.Context) (holes []*Hole, err error) {
	for _, comp := range c.comps {
		links := make([]linkFiles, len(comp.parts))
		for i, p := range comp.parts {
			links[i] = linkFiles{typ: p.typ, mark: readMark(p.link.rec.Started), entries: p.run.entries, carried: carried(p.run.set.Component)}
		}
		comp.plan = planFiles(links)
		p := &comp.plan
		comp.written, comp.why = p.sequential, p.why
		comp.files, comp.bytes = count(p.final)
		work := comp.written
		if comp.why == "" && !c.req.Sequential && len(links) > 1 {
			comp.collapsed = p.collapsed()
			work = comp.collapsed
		}
		hole, err := c.stored(ctx, comp, work)
		if err != nil {
			return nil, err
		}
		if hole != nil {
			holes = append(holes, hole)
		}
	}
	return holes, nil
}

// stored looks whether the content of all that is written is there.
func (c *chainRun) stored(ctx context.Context, comp *chainComp, work []linkWork) (*Hole, error) {
	for i := range work {
		if work[i].settled {
			continue // it was looked at
		}
		for _, e := range work[i].write {
			err := c.repo.Holds(ctx, e.Content)
			for _, s := range e.Streams {
				if err == nil {
					err = c.repo.Holds(ctx, s.Content)
				}
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				past := comp.reader(e)
				why := fmt.Sprintf("lacks data of %s: %v", c.shown(e.Path), err)
				past.spoil(comp.key, why)
				return &Hole{Key: comp.key, By: past.ID, Needed: past.ID.String(), Why: why}, nil
			}
		}
	}
	return nil, nil
}

// reader is the record whose backup read the data of an entry: a link of the chain.
func (c *chainComp) reader(e chainEntry) *PastRecord {
	for _, p := range c.parts {
		if e.Attrs[AttrRead] == readMark(p.link.rec.Started) {
			return p.link.link.Past
		}
	}
	return c.parts[e.from].link.link.Past
}

// carried tells which files of a set its writer may have let go of after they
// were backed up: those of its log lists, and of sets that a full backup does not
// save (D-29).
func carried(def *Component) func(*repository.Entry) bool {
	type spec struct{ component, spec string }
	known := map[spec]bool{}
	for _, m := range def.Set() {
		for i := range m.Files {
			f := &m.Files[i]
			if f.Kind == DatabaseLogList || !f.Mask.BackupRequired(vss.BackupTypeFull) {
				known[spec{m.FullPath(), specText(f.Spec)}] = true
			}
		}
	}
	return func(e *repository.Entry) bool { return known[spec{e.Attrs[AttrComponent], e.Attrs[AttrSpec]}] }
}
