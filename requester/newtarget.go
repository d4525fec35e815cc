package requester

import (
	"context"
	"fmt"
	"slices"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// at gives an entry of the set at the place it is restored to: its own, or below
// the new target of its file set (R-RES-21).
func (s *setRun) at(e *repository.Entry, fold bool) (*repository.Entry, error) {
	for _, t := range s.told.newTargets {
		if e.Attrs[AttrComponent] != t.member.FullPath() || e.Attrs[AttrSpec] != specText(t.file.Spec) {
			continue
		}
		to, ok := t.of(e.Path, fold)
		if !ok {
			return nil, fmt.Errorf("/%s does not lie below %s, and so has no place below the new target", e.Path, t.file.Spec.Path)
		}
		c := e.Clone()
		c.Path = to
		return &c, nil
	}
	return e, nil
}

// toNewTargets gives entries of a set at the places they are restored to: those of
// file sets that have a new target, and apart from them the rest.
func (s *setRun) toNewTargets(entries []*repository.Entry, fold bool) (there, rest []*repository.Entry, err error) {
	for _, e := range entries {
		to, err := s.at(e, fold)
		switch {
		case err != nil:
			return nil, nil, err
		case to != e:
			there = append(there, to)
		default:
			rest = append(rest, e)
		}
	}
	return there, rest, nil
}

// of gives the same instructions for the component as another record of its has it:
// new targets of the file sets that it had then.
//
// A file set that the chosen record has no more goes where those below its directory go.
func (t *instructions) of(c *Component, style vss.PathStyle) instructions {
	out := *t
	out.newTargets = nil
	for _, n := range t.newTargets {
		if n.below != nil {
			continue
		}
		m := c.Writer.find(n.member.LogicalPath, n.member.Name)
		if m == nil {
			continue
		}
		for i := range m.Files {
			if m.Files[i].Spec.Equal(n.file.Spec, style) {
				out.newTargets = append(out.newTargets, &newTarget{member: m, file: &m.Files[i], path: n.path, from: n.from, to: n.to, root: n.root})
			}
		}
	}
	for _, b := range t.below {
		for _, m := range c.Set() {
			if b.has(m) {
				out.newTargets = append(out.newTargets, b.targets(m, style, out.newTargets)...)
			}
		}
	}
	return out
}

// newTargetsBlocked says why files cannot go to new targets; empty if they can.
// Whatever the restore method is, they replace what is there.
func (r *restore) newTargetsBlocked(ctx context.Context, f *filler, s *setRun, entries []*repository.Entry) (string, error) {
	for _, t := range s.told.newTargets {
		up := above(t.root)
		if t.root == "" || up == "" {
			continue
		}
		there, err := f.target.Lstat(ctx, up)
		switch {
		case err == nil && there.Mode.IsDir():
		case err == nil || isMissing(err):
			return fmt.Sprintf("there is no directory %s for the new target %s; make it, with the owner and mode it should have", r.shown(up), HostPath(r.style, t.root)), nil
		default:
			return err.Error(), ctx.Err()
		}
	}
	p, err := (&looker{target: f.target, shown: r.shown}).look(ctx, entries)
	if err != nil || p.Blocked == "" {
		return "", err
	}
	return p.blocked(), nil
}

// newPlace reports whether a table path lies in a new target of the set: the user
// sent it there, whatever the record is of.
func (s *setRun) newPlace(table string, fold bool) bool {
	return s != nil && slices.ContainsFunc(s.told.newTargets, func(t *newTarget) bool { return t.to == "" || withinName(t.to, table, fold) })
}

// of gives the place of a file below the new target.
func (t *newTarget) of(table string, fold bool) (string, bool) {
	switch {
	case t.from == "":
		return tableName(t.to, table), true
	case !withinName(t.from, table, fold):
		return "", false
	case len(table) == len(t.from):
		return t.to, true
	}
	return tableName(t.to, table[len(t.from)+1:]), true
}

// dirBefore gives the directory that one below a new target was, for its attributes:
// the same path where no new target leads there.
func (r *restore) dirBefore(dir string) string {
	for _, s := range r.sets {
		for _, t := range s.told.newTargets {
			back := &newTarget{from: t.to, to: t.from}
			if was, ok := back.of(dir, r.style.Fold()); ok {
				return was
			}
		}
	}
	return dir
}
