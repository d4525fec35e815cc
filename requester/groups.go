package requester

import (
	"context"
	"path"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// claimGroup is claims of one component for which one directory is listed, or
// one tree walked, once for all: a document may hold thousands for the same.
type claimGroup struct {
	*Claim // the first: what is said of directories is said of it
	dir    string
	claims []*Claim
	index  *provider.SetIndex[*Claim] // nil for a single name, which needs no listing
}

// groupKey is what the claims of a group have in common.
type groupKey struct {
	volume, dir, from, fromDir                              string
	recursive, alternate, nested, snapshot, saved, duringIt bool
}

// groups puts together the claims that ok takes, in their order. They are read
// where the files are read in a backup, or, if normal is set, where they belong.
func (c *Claims) groups(comp *Component, t *Typing, normal bool, ok func(*Claim) bool) (out []*claimGroup) {
	known := map[groupKey]*claimGroup{}
	for _, cl := range c.list[comp] {
		if ok != nil && !ok(cl) {
			continue
		}
		dir := cl.Dir
		if normal {
			dir = cl.Set.Dir
		}
		if !cl.Set.Recursive && !vss.HasWildcard(cl.Set.Pattern) {
			out = append(out, &claimGroup{Claim: cl, dir: dir, claims: []*Claim{cl}})
			continue
		}
		key := groupKey{cl.Volume, cl.Set.Dir, cl.From, cl.Dir, cl.Set.Recursive, cl.Alternate, cl.Nested,
			t.FromShadow(cl.File), t.Saves(cl.File), cl.File.Mask&vss.CreatedDuringBackup != 0}
		g := known[key]
		if g == nil {
			g = &claimGroup{Claim: cl, dir: dir, index: provider.NewSetIndex[*Claim](c.fold)}
			known[key] = g
			out = append(out, g)
		}
		g.claims = append(g.claims, cl)
		g.index.Add(provider.FileSet{Dir: dir, Pattern: cl.Set.Pattern, Recursive: cl.Set.Recursive}, cl)
	}
	return out
}

// at gives the group's claim that the file of this name is in: the first that is
// found, or for a directory the group's first.
func (g *claimGroup) at(name string, isDir bool) *Claim {
	first := g.Claim
	if g.index != nil && !isDir {
		g.index.Each(name, func(cl *Claim) bool {
			first = cl
			return false
		})
	}
	return first
}

// visit visits the group's objects in a tree, below its directory or, if in is
// not empty, below that part of it. A single name that is not there is visited
// with fs.ErrNotExist.
func (g *claimGroup) visit(ctx context.Context, t session.Tree, in string, visit visitor) error {
	if g.index == nil {
		return lookAt(ctx, t, path.Join(g.dir, g.Set.Pattern), visit)
	}
	if in == "" {
		in = g.dir
	}
	return listObjects(ctx, t, in, g.Set.Recursive, g.index.Matches, visit)
}
