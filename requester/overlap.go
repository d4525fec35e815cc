package requester

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// underPaths gives the host's path of one file of the component that lies under
// a chosen path, or "".
func (a *attempt) underPaths(ctx context.Context, c *Component) (string, error) {
	if found, ok := a.under[c]; ok {
		return found, nil
	}
	found, err := a.findUnderPaths(ctx, c)
	if err == nil {
		a.under[c] = found
	}
	return found, err
}

func (a *attempt) findUnderPaths(ctx context.Context, c *Component) (string, error) {
	t := a.typing(c)
	for _, g := range a.claims.groups(c, &t, true, nil) {
		for _, ar := range a.areas {
			if ar.volume != g.Volume {
				continue
			}
			found, err := a.overlap(ctx, g, ar)
			if err != nil || found != "" {
				return found, err
			}
		}
	}
	return "", nil
}

// overlap looks for a file that is both in a group of claims and in the area, as
// the volume is now; the list that counts is made from the shadow copy
// (R-SET-14).
func (a *attempt) overlap(ctx context.Context, g *claimGroup, ar area) (string, error) {
	dir := g.dir
	switch {
	case withinName(ar.name, dir, a.fold):
	case g.Set.Recursive && withinName(dir, ar.name, a.fold):
		dir = ar.name
	case path.Dir(ar.name) == dir:
		// The area may be one file of the directory.
	default:
		return "", nil
	}
	v, err := a.volume(ctx, g.Volume)
	if err != nil {
		return "", err
	}
	if g.File.Mask&vss.CreatedDuringBackup != 0 || g.Alternate {
		return a.placed(ctx, g, ar, dir)
	}
	t, err := a.liveTree(ctx, g.Volume)
	if err != nil {
		return "", err
	}
	found := ""
	visit := func(name string, e session.Entry, err error) error {
		if err != nil || e.Mode.IsDir() || !ar.has(g.Volume, name, a.fold) || a.claims.Excludes(g.Component.Writer, g.Volume, name) {
			return nil
		}
		found = volumePath(a.style, v.Volume, name)
		return errFound
	}
	if dir == ar.name && g.Set.Recursive && dir != "." {
		if e, err := t.Lstat(ctx, dir); err == nil && !e.Mode.IsDir() {
			if g.index.Matches(dir) {
				_ = visit(dir, e, nil)
			}
			return found, nil
		}
	}
	if err := g.visit(ctx, t, dir, visit); err != nil && !errors.Is(err, errFound) {
		return "", err
	}
	return found, nil
}

// placed is overlap for files that are written during the backup, or read
// elsewhere, and need not be there now: their place decides. dir is where both
// meet.
func (a *attempt) placed(ctx context.Context, g *claimGroup, ar area, dir string) (string, error) {
	v, err := a.volume(ctx, g.Volume)
	if err != nil {
		return "", err
	}
	name := "" // of the one file that the area is
	if ar.name != g.dir && withinName(g.dir, ar.name, a.fold) {
		t, err := a.liveTree(ctx, g.Volume)
		if err != nil {
			return "", err
		}
		switch e, err := t.Lstat(ctx, ar.name); {
		case err == nil && !e.Mode.IsDir():
			dir, name = path.Dir(ar.name), path.Base(ar.name)
		case !g.Set.Recursive:
			return "", nil
		}
	}
	for _, cl := range g.claims {
		if name != "" && !vss.MatchPattern(cl.Set.Pattern, name, a.fold) {
			continue
		}
		set := provider.FileSet{Dir: dir, Pattern: cl.Set.Pattern, Recursive: cl.Set.Recursive}
		if name != "" {
			set.Pattern, set.Recursive = name, false
		}
		if !a.claims.excludesAll(cl.Component.Writer, cl.Volume, set, a.fold) {
			return volumePath(a.style, v.Volume, path.Join(dir, set.Pattern)), nil
		}
	}
	return "", nil
}

var errFound = errors.New("found")

// conflicts settles files that two writers of the selection claim: a configured
// writer beats a discovered one, anything else is an error. It reports whether
// a component is out because of it, so that the selection must be made again.
func (a *attempt) conflicts(ctx context.Context) (changed bool, err error) {
	number := map[*Writer]int{}
	for i, w := range a.writers {
		number[w] = i
	}
	for _, w := range a.writers {
		for _, c := range w.Components {
			if !a.sel.Has(c) {
				continue
			}
			for _, x := range a.claims.Of(c) {
				a.claims.rivals(x, func(y *Claim) bool {
					first, second := x, y
					if number[y.Component.Writer] < number[w] {
						first, second = y, x
					}
					var lost bool
					lost, err = a.conflict(ctx, first, second)
					changed = changed || lost
					return err == nil
				})
				if err != nil {
					return false, err
				}
			}
		}
	}
	return changed, nil
}

// rivals calls fn for claims of other writers that could share files with cl.
// Of two claims that could, each is a rival of the other, or the one of the
// directory above is a rival of the one below.
func (c *Claims) rivals(cl *Claim, fn func(*Claim) bool) {
	v := c.volumes[cl.Volume]
	other := func(y *Claim) bool { return y.Component.Writer == cl.Component.Writer || fn(y) }
	if cl.Set.Recursive || vss.HasWildcard(cl.Set.Pattern) {
		v.claims.Near(cl.Set, other)
		return
	}
	v.claims.Each(path.Join(cl.Set.Dir, cl.Set.Pattern), other)
}

// conflict settles what two claims share, if anything.
func (a *attempt) conflict(ctx context.Context, x, y *Claim) (lost bool, err error) {
	c, d := x.Component, y.Component
	for _, out := range []*Component{c, d} {
		if _, barred := a.wish.Barred[out]; barred || !a.sel.Has(out) {
			return false, nil
		}
	}
	if !setsMeet(x, y, a.fold) {
		return false, nil
	}
	file, err := a.common(ctx, x, y)
	if err != nil || file == "" {
		return false, err
	}
	return true, a.settle(c, d, file)
}

func (a *attempt) settle(c, d *Component, file string) error {
	loser, winner := d, c
	if c.Writer.Info.Discovered && !d.Writer.Info.Discovered {
		loser, winner = c, d
	} else if c.Writer.Info.Discovered == d.Writer.Info.Discovered {
		return vss.Errorf(vss.ErrInvalidArgument, "select components", "",
			"%s is claimed by %s and by %s; exclude one of them by name", file, c.Label(), d.Label())
	}
	a.wish.Barred[loser] = Bar{Covered: true,
		Why: fmt.Sprintf("%s is claimed by %s, which is configured, while this writer was only discovered", file, winner.Label())}
	return nil
}

// setsMeet is a quick test whether two claims of one volume can share a file.
func setsMeet(x, y *Claim, fold bool) bool {
	meet := x.Set.Dir == y.Set.Dir ||
		x.Set.Recursive && withinName(x.Set.Dir, y.Set.Dir, fold) ||
		y.Set.Recursive && withinName(y.Set.Dir, x.Set.Dir, fold)
	return meet && vss.PatternsMeet(x.Set.Pattern, y.Set.Pattern, fold)
}

// common finds a file that is there and that both claims hold.
func (a *attempt) common(ctx context.Context, x, y *Claim) (string, error) {
	t, err := a.liveTree(ctx, x.Volume)
	if err != nil {
		return "", err
	}
	v, err := a.volume(ctx, x.Volume)
	if err != nil {
		return "", err
	}
	set := x.Set
	if withinName(set.Dir, y.Set.Dir, a.fold) && set.Dir != y.Set.Dir {
		set.Dir = y.Set.Dir // the deeper of the two
		set.Recursive = set.Recursive && y.Set.Recursive
	}
	found := ""
	err = matchSet(ctx, t, set, a.fold, func(name string, e session.Entry, err error) error {
		if err != nil && errors.Is(err, fs.ErrNotExist) || e.Mode.IsDir() || !y.Set.Matches(name, a.fold) ||
			a.claims.Excludes(x.Component.Writer, x.Volume, name) || a.claims.Excludes(y.Component.Writer, y.Volume, name) {
			return nil
		}
		found = volumePath(a.style, v.Volume, name)
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return "", err
	}
	return found, nil
}

// allUnderPaths reports whether everything a component set claims lies under the
// chosen paths.
func (a *attempt) allUnderPaths(def *Component) bool {
	for _, m := range def.Set() {
		for _, cl := range a.claims.Of(m) {
			if !inAreas(a.areas, cl.Volume, cl.Set.Dir, a.fold) {
				return false
			}
		}
	}
	return true
}

// uncovered gives the host's path of one file of a component and its set that lies
// under no chosen path and is claimed by nothing that takes part, or "".
func (a *attempt) uncovered(ctx context.Context, def *Component) (found string, err error) {
	for _, c := range def.Set() {
		t := a.typing(c)
		for _, g := range a.claims.groups(c, &t, true, nil) {
			if inAreas(a.areas, g.Volume, g.dir, a.fold) {
				continue
			}
			v, err := a.volume(ctx, g.Volume)
			if err != nil {
				return "", err
			}
			tree, err := a.liveTree(ctx, g.Volume)
			if err != nil {
				return "", err
			}
			err = g.visit(ctx, tree, "", func(name string, e session.Entry, err error) error {
				if err != nil || e.Mode.IsDir() || inAreas(a.areas, g.Volume, name, a.fold) || a.claims.Excludes(c.Writer, g.Volume, name) {
					return nil
				}
				f := a.claims.Find(g.Volume, name)
				if slices.ContainsFunc(f.Claims, func(cl *Claim) bool { return a.sel.Has(cl.Component) || a.sel.Out[cl.Component].Elsewhere }) {
					return nil
				}
				found = volumePath(a.style, v.Volume, name)
				return errFound
			})
			if found != "" {
				return found, nil
			}
			if err != nil {
				return "", err
			}
		}
	}
	return "", nil
}
