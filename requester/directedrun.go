package requester

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// planDirected checks where a set's writer directed it in PreRestore (R-RES-23 to
// R-RES-25), and refuses the set if it cannot be restored so.
func (r *restore) planDirected(ctx context.Context, f *filler, s *setRun) error {
	list, err := r.directedTargets(ctx, s)
	if err != nil {
		return err
	}
	files, err := planDirected(list, r.directing(ctx, f, s))
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.refuse(s, fmt.Sprintf("its writer's restore target is %s, and it cannot be restored so: %v", vss.RestoreTargetDirected, err))
		return nil
	}
	for _, file := range files {
		key := r.foldName(file.path)
		if by := r.directedTo[key]; by != nil {
			r.refuse(s, fmt.Sprintf("its writer directs to %s, and so does that of %s", r.shown(file.path), by.Label()))
			return nil
		}
		if r.directedTo == nil {
			r.directedTo = map[string]*Component{}
		}
		r.directedTo[key] = s.set.Component
	}
	s.directed = files
	return nil
}

// directed restores a component set as planned. Files that its writer did not
// direct anywhere are left out (R-RES-26).
func (r *restore) directed(ctx context.Context, f *filler, s *setRun) error {
	used := map[*repository.Entry]bool{}
	for _, file := range s.directed {
		for _, p := range file.pieces {
			used[p.source] = true
		}
		if err := f.putDirected(ctx, file, s); err != nil {
			return err
		}
	}
	for _, e := range s.entries {
		if e.Type == repository.Directory || used[e] {
			continue
		}
		r.leave(LeftOut{Path: r.shown(e.Path), Writer: s.set.Component.Writer.Label(), Component: s.set.Component.FullPath(),
			Reason: fmt.Sprintf("its writer's restore target is %s, and directs it nowhere", vss.RestoreTargetDirected)}) // R-RES-26
	}
	return nil
}

// directedTargets reads what the writer directed.
func (r *restore) directedTargets(ctx context.Context, s *setRun) ([]metadata.DirectedTarget, error) {
	data, err := r.sess.BackupComponents(ctx)
	if err != nil {
		return nil, err
	}
	doc, err := metadata.ParseBackupComponents(data)
	if err != nil {
		return nil, err
	}
	c := s.set.Component
	if w, ok := doc.Writer(c.Writer.Instance); ok {
		if mc, ok := w.Component(c.LogicalPath, c.Name); ok {
			return mc.DirectedTargets(), nil
		}
	}
	return nil, nil
}

// directing gives what the directed targets of a set are checked against.
func (r *restore) directing(ctx context.Context, f *filler, s *setRun) *directing {
	sources := map[string]*repository.Entry{}
	for _, e := range s.entries {
		sources[r.foldName(e.Path)] = e
	}
	dirs := r.setDirs(ctx, s)
	foreign := r.foreign(ctx, s)
	return &directing{
		style: r.style, shown: r.shown, size: func(e *repository.Entry) int64 { return e.Content.Size() },
		place: func(dir, name string) (string, error) {
			if foreign {
				return r.placeWithoutLinks(ctx, dir, name)
			}
			return r.place(ctx, dir, name)
		},
		there: func(table string) (session.Entry, error) { return f.target.Lstat(ctx, table) },
		other: func(table string) (string, error) { return r.otherOwner(ctx, table, s) },
		under: func(table string) bool {
			if e := sources[r.foldName(table)]; e != nil && e.Attrs[AttrMatched] != "" {
				return true // new with the writer's own list: a file set of its own
			}
			return dirs(table)
		},
		source: func(table string) (*directedSource, error) {
			e := sources[r.foldName(table)]
			if e == nil {
				return nil, nil
			}
			src := &directedSource{entry: e}
			if isPartial(e) {
				ranges, err := held(ctx, r.rec, e)
				if err != nil {
					return nil, err
				}
				src.held = ranges
			}
			return src, nil
		},
	}
}

func (r *restore) foldName(table string) string {
	if r.style.Fold() {
		return strings.ToLower(table)
	}
	return table
}

// place gives the table path of a file that a document of this host names.
func (r *restore) place(ctx context.Context, dir, name string) (string, error) {
	loc, err := placeDir(ctx, r.sess, r.style, dir)
	if err != nil {
		return "", err
	}
	v, err := r.sess.Volume(ctx, loc.Volume)
	if err != nil {
		return "", err
	}
	return tableName(tableName(TablePath(r.style, v.Root), loc.Name), name), nil
}

// foreign reports whether the writer that restores a set runs as another user, or
// may do so.
func (r *restore) foreign(ctx context.Context, s *setRun) bool {
	live, err := r.liveWriters(ctx)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(live, func(l *Writer) bool { return l.Info.Foreign && l.Class == s.set.Component.Writer.Class })
}

// placeWithoutLinks is place for what a writer of another user names. Where it leads
// was looked at when the writer said so, and that user can have put a link on the
// way since: root would follow it.
func (r *restore) placeWithoutLinks(ctx context.Context, dir, name string) (string, error) {
	loc, err := placeDir(ctx, r.sess, r.style, dir)
	if err != nil {
		return "", err
	}
	table, err := r.place(ctx, dir, name)
	if err != nil {
		return "", err
	}
	if goesUp(dir) || tableName(TablePath(r.style, loc.Path), name) != table {
		return "", fmt.Errorf("%s is reached through a link, and the writer runs as another user; it must give the path without links", r.shown(table))
	}
	return table, nil
}

// setDirs tells whether a table path lies at or under the directory of a file set
// of the component or of a member that is restored with it.
func (r *restore) setDirs(ctx context.Context, s *setRun) func(table string) bool {
	var dirs []string
	seen := map[string]bool{}
	for _, m := range s.set.Component.Set() {
		if !s.set.Covers(m) {
			continue
		}
		for _, file := range m.Files {
			if seen[file.Spec.Path] {
				continue
			}
			seen[file.Spec.Path] = true
			// One that names no directory of this host holds none of its files.
			if p, err := r.place(ctx, file.Spec.Path, probe); err == nil {
				dirs = append(dirs, above(p))
			}
		}
	}
	return func(table string) bool {
		dir := path.Dir(table)
		for _, d := range dirs {
			if d == "" || withinName(d, dir, r.style.Fold()) {
				return true
			}
		}
		return false
	}
}

// otherOwner says who else restores a file to the path in this run.
func (r *restore) otherOwner(ctx context.Context, table string, s *setRun) (string, error) {
	e, err := r.rec.Table().Lookup(ctx, rootID, table)
	if err != nil {
		if errors.Is(err, repository.ErrNotFound) {
			return "", nil
		}
		return "", err
	}
	key, claimed := entryKey(e)
	switch {
	case !claimed && r.unclaimed && e.Attrs[AttrRole] != "parent" && r.picks(e.Path):
		return "no writer", nil
	case !claimed || key == s.set.Component.key():
		return "", nil
	}
	for _, o := range r.sets {
		if o.set.Component.key() == key && o.refused == "" {
			return o.set.Component.Label(), nil
		}
	}
	return "", nil
}

// putDirected restores one file that others are directed to.
func (f *filler) putDirected(ctx context.Context, file *directedFile, set *setRun) error {
	if f.dry {
		return nil // unreachable: writers direct in PreRestore, which a dry run does not send
	}
	if file.whole != nil {
		e := moved(file.whole, file.path)
		if isPartial(file.whole) { // and yet all of it is held
			delete(e.Attrs, AttrPartial)
		}
		return f.put(ctx, e, set)
	}
	e := moved(file.like, file.path)
	e.Size = file.size()
	f.work.Go(func() error {
		if file.there {
			return f.finish(e, set, f.changeFile(ctx, &change{name: file.path, pieces: file.pieces, size: -1, like: file.like}, set))
		}
		return f.finish(e, set, f.composed(ctx, file))
	})
	return nil
}

// moved is an entry at another place. It is a file of its own there.
func moved(e *repository.Entry, to string) *repository.Entry {
	c := e.Clone()
	c.Path, c.HardLink = to, 0
	return &c
}

// composed makes a file of pieces of others.
func (f *filler) composed(ctx context.Context, file *directedFile) error {
	if err := f.parents(ctx, file.path); err != nil {
		return err
	}
	n, err := f.target.Create(ctx, file.path)
	if err != nil {
		return err
	}
	defer n.Close()
	err = f.eachPiece(ctx, file.pieces, func(to int64, data []byte) error {
		_, err := n.WriteAt(data, to)
		return err
	})
	if err != nil {
		return err
	}
	return n.Commit(ctx, sessionEntry(file.like))
}
