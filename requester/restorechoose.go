package requester

import (
	"context"
	"fmt"
	"slices"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// choose reads the record and decides what is restored.
func (r *restore) choose(ctx context.Context) (err error) {
	if r.table, err = readTable(ctx, r.rec.Table()); err != nil {
		return err
	}
	if r.req.NoWriters {
		if err := r.withoutDocuments(ctx); err != nil {
			return err
		}
		return r.choosePlain()
	}
	if r.stored, err = readStored(ctx, r.rec); err != nil {
		return err
	}
	if len(r.table.entries) > 0 && r.stored.doc == nil {
		return fmt.Errorf("%w: the file table has files of components and there is no document %s", ErrDocuments, DocBCD)
	}
	return r.chooseSets()
}

// withoutDocuments says so if a restore from the file table alone happens where
// there is no other way.
func (r *restore) withoutDocuments(ctx context.Context) error {
	_, err := readStored(ctx, r.rec)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.warn("the record's documents cannot be used (%v); files are restored from the file table alone", err)
	}
	return nil
}

// choosePlain chooses by the facts in the file table.
func (r *restore) choosePlain() error {
	named := !r.req.Selectors.Empty()
	r.unclaimed = !r.req.Selectors.Includes()
	chosen, err := r.req.Selectors.Match(r.table.writers)
	if err != nil {
		return err
	}
	for _, w := range r.table.writers {
		for _, c := range w.Components {
			entries := r.table.entries[c.key()]
			if len(entries) == 0 {
				continue
			}
			_, in := chosen.Include[c]
			_, out := chosen.Exclude[c]
			if out || r.req.Selectors.Includes() && !in {
				continue
			}
			if !named {
				entries = r.filter(entries)
			}
			if len(entries) == 0 {
				continue
			}
			set := &RestoreSet{Component: c}
			r.sets = append(r.sets, r.newSet(set, entries))
		}
	}
	if named && r.req.Selectors.Includes() && len(r.sets) == 0 {
		return vss.Errorf(vss.ErrObjectNotFound, "restore", "", "nothing in the record is of the components named")
	}
	return nil
}

// filter keeps entries that the patterns choose.
func (r *restore) filter(entries []*repository.Entry) []*repository.Entry {
	return slices.DeleteFunc(slices.Clone(entries), func(e *repository.Entry) bool { return !r.picks(e.Path) })
}

// picks reports whether the patterns choose a path.
func (r *restore) picks(table string) bool {
	return (r.include.Empty() || r.include.Match(table)) && !r.exclude.Match(table)
}

func (r *restore) newSet(set *RestoreSet, entries []*repository.Entry) *setRun {
	c := set.Component
	run := &setRun{set: set, entries: entries, result: ComponentResult{
		Writer: c.Writer.Name, InstanceName: c.Writer.InstanceName, Class: c.Writer.Class, Instance: c.Writer.Instance,
		LogicalPath: c.LogicalPath, Name: c.Name, Type: c.Type.Word(), Succeeded: true,
		Status: vss.FileRestoreStatusNone.String(),
	}}
	if c.Writer.Restore.Given {
		run.result.Method = c.Writer.Restore.Method.Word()
	}
	for _, s := range set.Subcomponents {
		run.result.Members = append(run.result.Members, s.FullPath())
	}
	return run
}

// chooseSets chooses component sets by the documents and the rules.
func (r *restore) chooseSets() error {
	chosen, err := r.req.Selectors.Match(r.stored.writers)
	if err != nil {
		return err
	}
	wish := RestoreWish{Excluded: chosen.Exclude}
	switch {
	case r.req.Selectors.Includes():
		wish.Wanted = chosen.Include
	case !r.include.Empty() || !r.exclude.Empty():
		wish.Wanted = r.touched()
	}
	r.unclaimed = !r.req.Selectors.Includes()
	sel, err := SelectForRestore(r.stored.explicit, r.stored.defining, wish)
	if err != nil {
		return err
	}
	for c, bar := range sel.Out {
		r.leave(LeftOut{Writer: c.Writer.Label(), Component: c.FullPath(), Reason: bar.Why, Asked: bar.Asked})
	}
	for c, deps := range sel.Remote {
		for _, d := range deps {
			r.warn("%s depends on %s, which must be restored there", c.Label(), d)
		}
	}
	for _, set := range sel.Sets {
		c := set.Component
		if !r.stored.succeeded[c] {
			r.leave(LeftOut{Writer: c.Writer.Label(), Component: c.FullPath(),
				Reason: "it was not saved whole; what there is of it can be restored without writers"})
			continue
		}
		r.sets = append(r.sets, r.newSet(set, r.covered(set)))
	}
	if wish.Wanted == nil || r.unclaimed {
		r.leaveUnknown()
	}
	return nil
}

// leaveUnknown lists the files that the file table gives to components which the
// documents do not have.
func (r *restore) leaveUnknown() {
	known := map[setKey]bool{}
	for _, c := range r.stored.explicit {
		known[c.key()] = true
	}
	for key, entries := range r.table.entries {
		n := 0
		for _, e := range entries {
			if e.Type != repository.Directory && r.picks(e.Path) {
				n++
			}
		}
		if !known[key] && n > 0 {
			r.leave(LeftOut{Path: r.shown(entries[0].Path), Writer: entries[0].Attrs[AttrWriter], Component: key.path,
				Reason: fmt.Sprintf("the record's documents have no such component; its %d files can be restored without writers (--no-writers)", n)})
		}
	}
}

// touched gives the explicit components with a file that the patterns choose.
func (r *restore) touched() map[*Component]string {
	out := map[*Component]string{}
	for _, c := range r.stored.explicit {
		for _, e := range r.table.entries[c.key()] {
			if e.Type != repository.Directory && r.picks(e.Path) {
				out[c] = "holds " + r.shown(e.Path)
				break
			}
		}
	}
	return out
}

// covered gives the entries of a set's members that are restored. Files of a
// member that the documents lack are reported.
func (r *restore) covered(set *RestoreSet) (out []*repository.Entry) {
	members := map[string]bool{}
	for _, m := range set.Component.Set() {
		members[m.FullPath()] = set.Covers(m)
	}
	unknown := map[string]int{}
	for _, e := range r.table.entries[set.Component.key()] {
		covers, known := members[e.Attrs[AttrComponent]]
		switch {
		case covers:
			out = append(out, e)
		case !known:
			unknown[e.Attrs[AttrComponent]]++
		}
	}
	for name, n := range unknown {
		r.leave(LeftOut{Writer: set.Component.Writer.Label(), Component: clip(name, 200),
			Reason: fmt.Sprintf("the record's documents have no such component in the set of %s; its %d files can be restored without writers (--no-writers)",
				set.Component.FullPath(), n)})
	}
	return out
}
