package requester

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// saveAll makes the file list from the shadow copies and saves what is on it:
// component by component of each writer instance, then the data of no writer.
func (c *copier) saveAll(ctx context.Context) error {
	if err := c.saveParents(ctx); err != nil {
		return err
	}
	seen := map[string]*Writer{} // by whom files were saved that several claims have
	for _, def := range c.a.sel.Explicit {
		if c.a.failed[def] != "" {
			continue
		}
		if err := c.saveLists(ctx, def); err != nil {
			return err
		}
		for _, m := range def.Set() {
			if err := c.saveComponent(ctx, def, m, seen); err != nil {
				return err
			}
		}
	}
	for _, ar := range c.a.areas {
		if err := c.saveArea(ctx, ar); err != nil {
			return err
		}
	}
	if err := c.past.finish(ctx); err != nil {
		return err
	}
	if err := c.past.damage(); err != nil {
		c.a.warn("part of the last backup's file list cannot be read, and the files in it are read again: %v; see: sombra check", err)
	}
	return c.work.Wait()
}

// saveComponent saves the files of one member of a component set.
func (c *copier) saveComponent(ctx context.Context, def, m *Component, seen map[string]*Writer) error {
	t := c.a.typing(def)
	groups := c.a.claims.groups(m, &t, false, func(cl *Claim) bool {
		return (t.Lists(cl.File) || c.a.writerLists.Of(cl.File) != nil) && !(cl.Alternate && cl.Nested)
	})
	met := map[*FileSet]bool{}
	for _, g := range groups {
		if err := c.saveGroup(ctx, def, g, seen, met); err != nil {
			return err
		}
	}
	for _, g := range groups {
		for _, cl := range g.claims {
			if err := c.checkMet(cl, def, met); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkMet fails a component that lacks a file one of its specifications names
// (R-SET-5), unless it may come into being during the backup (R-SET-29).
func (c *copier) checkMet(cl *Claim, def *Component, met map[*FileSet]bool) error {
	f := cl.File
	if met[f] || vss.HasWildcard(f.Spec.Pattern) || f.Mask&vss.CreatedDuringBackup != 0 {
		return nil
	}
	met[f] = true // once is enough
	v := c.a.volumes[cl.Volume]
	j := job{volume: v, table: tableName(v.table, path.Join(cl.Set.Dir, cl.Set.Pattern)), cl: cl, def: def}
	return c.note(&j, fmt.Errorf("the file specification %s names it and it is not there", f.Spec))
}

// saveGroup saves what a group of claims matches: read from the alternate path
// if there is one, recorded under the normal one (R-SET-12). It notes the file
// sets of which a file was met.
func (c *copier) saveGroup(ctx context.Context, def *Component, g *claimGroup, seen map[string]*Writer, met map[*FileSet]bool) error {
	a := c.a
	from, err := a.volume(ctx, g.From)
	if err != nil {
		return err
	}
	normal, err := a.volume(ctx, g.Volume)
	if err != nil {
		return err
	}
	typing := a.typing(def)
	mustCopy := typing.FromShadow(g.File)
	t, err := c.claimTree(ctx, g.Claim, from, mustCopy)
	if err != nil {
		return err
	}
	return g.visit(ctx, t, "", func(name string, e session.Entry, err error) error {
		cl := g.at(name, e.Mode.IsDir())
		place := path.Join(g.Set.Dir, relName(g.Dir, name))
		j := job{tree: t, from: from.ID, name: name, volume: normal, table: tableName(normal.table, place), entry: e, cl: cl, def: def, live: !mustCopy}
		if e.Mode.IsDir() {
			met[g.File] = met[g.File] || g.index == nil // it is there, and no file
			return c.saveClaimedDir(ctx, &j, err)
		}
		if err != nil && isMissing(err) {
			return nil // see checkMet
		}
		g.meet(name, met)
		switch {
		case a.claims.Excludes(cl.Component.Writer, g.Volume, place): // R-SET-10, R-SET-11
			return nil
		case e.MountPoint && c.isRoot(j.table), a.writerLists.PartialAt(g.Volume, place, a.style) != nil:
			return nil
		case err != nil:
			return c.failNew(ctx, &j, err)
		}
		switch by := c.again(g.Volume, place, j.table, cl.Component.Writer, seen); {
		case by == nil:
		case by == cl.Component.Writer:
			return nil
		default: // read elsewhere, so that nobody could know before
			return c.note(&j, fmt.Errorf("it is claimed by %s too, whose file was saved in its place; exclude one of them by name", by.Label()))
		}
		return c.saveClaimed(ctx, &j, &typing)
	})
}

// saveClaimed saves a file of one of the component's specifications: by the list
// of differenced files if that has it (R-SET-41), else by the mask. What the type
// does not save has the base's content.
func (c *copier) saveClaimed(ctx context.Context, j *job, typing *Typing) error {
	if since := c.a.writerLists.Of(j.cl.File); since != nil {
		j.matched, j.lacked = matchedDifferenced, !typing.Saves(j.cl.File)
		_, err := c.saveDifferenced(ctx, j, since, false)
		return err
	}
	if !typing.Saves(j.cl.File) {
		if filled, err := c.fill(ctx, j); filled || err != nil {
			return err
		}
	}
	return c.save(ctx, j)
}

// again gives the writer for one of whose claims the file was saved already
// (R-SET-6), nil if there is none. Only files with several claims are remembered:
// most have one.
func (c *copier) again(volume, place, table string, w *Writer, seen map[string]*Writer) *Writer {
	if len(c.a.claims.Find(volume, place).Claims) < 2 {
		return nil
	}
	by := seen[table]
	if by == nil {
		seen[table] = w
	}
	return by
}

// meet notes the file sets that a file is in and that name it.
func (g *claimGroup) meet(name string, met map[*FileSet]bool) {
	if g.index == nil {
		met[g.File] = true
		return
	}
	g.index.Each(name, func(cl *Claim) bool {
		if !vss.HasWildcard(cl.Set.Pattern) {
			met[cl.File] = true
		}
		return true
	})
}

// saveClaimedDir saves a directory in a component's tree, or notes why it
// could not be listed.
func (c *copier) saveClaimedDir(ctx context.Context, j *job, err error) error {
	var listing *dirError
	switch {
	case errors.As(err, &listing):
		if isMissing(err) {
			return nil // made after the shadow copy, and gone again
		}
		return c.note(j, err) // the directory has its entry already
	case err != nil:
		entry, _ := newEntry(j.table, j.entry, c.device[j.volume.ID])
		entry.Attrs = c.attrs(j)
		return c.fail(ctx, j, entry, err)
	case j.entry.MountPoint && c.isRoot(j.table):
		return nil
	}
	return c.save(ctx, j)
}

// claimTree is where a claim's files are read: the shadow copy, or, where the
// writer allows it and there is no copy or the file is made after it, the
// volume itself (R-SET-27).
func (c *copier) claimTree(ctx context.Context, cl *Claim, from *volumeState, mustCopy bool) (session.Tree, error) {
	if !mustCopy && cl.File.Mask&vss.CreatedDuringBackup != 0 {
		return c.a.liveTree(ctx, from.ID)
	}
	t, shadow, err := c.tree(ctx, from)
	if err == nil && mustCopy && !shadow {
		return nil, fmt.Errorf("read %s: there is no shadow copy of %s", cl.File.Spec, from.Root)
	}
	return t, err
}

// relName gives name's path from dir, both from the same root.
func relName(dir, name string) string {
	if dir == "." || name == dir {
		return strings.TrimPrefix(strings.TrimPrefix(name, dir), "/")
	}
	return strings.TrimPrefix(name[min(len(dir), len(name)):], "/")
}

// isRoot reports whether a table path is where a volume of the backup begins:
// the volume's own entry counts, not that of the empty directory under it.
func (c *copier) isRoot(table string) bool {
	for _, v := range c.a.volumes {
		if v.table == table && (v.claimed || v.unclaimed) {
			return true
		}
	}
	return false
}

// saveArea saves the data of no writer in one area.
func (c *copier) saveArea(ctx context.Context, ar area) error {
	a := c.a
	v, err := a.volume(ctx, ar.volume)
	if err != nil {
		return err
	}
	t, _, err := c.tree(ctx, v)
	if err != nil {
		return err
	}
	top, err := t.Lstat(ctx, ar.name)
	if err != nil {
		return c.unreadable(ctx, t, v, ar.name, session.Entry{Name: path.Base(ar.name)}, err)
	}
	if err := c.visitPlain(ctx, t, v, &listedObject{name: ar.name, entry: top}); err != nil {
		return ignoreSkip(err)
	}
	if !top.Mode.IsDir() {
		return nil
	}
	l := a.begun[ar]
	if l == nil {
		l = a.listArea(ctx, t, v, ar.name, c.past == nil || bareSystem(v.FSType))
	}
	if err := l.each(func(o *listedObject) error { return c.visitPlain(ctx, t, v, o) }); err != nil {
		return err
	}
	return c.stillArea(ctx, t, v, ar.name, top)
}

// listArea begins to list what is in an area.
func (a *attempt) listArea(ctx context.Context, t session.Tree, v *volumeState, name string, bare bool) *lister {
	w := &walker{tree: t, ahead: listedAhead, bare: bare}
	w.enters = func(name string) bool { return !a.patterns.Match(tableName(v.table, name)) }
	return w.listAhead(ctx, name)
}

// beginListing begins to list the first area, of which there is no shadow copy to be
// waited for: the repository is still being opened. A volume without cheap listings
// is not begun with, as it is not known yet whether there is a base to compare with.
func (a *attempt) beginListing(ctx context.Context) error {
	if len(a.areas) == 0 {
		return nil
	}
	ar := a.areas[0]
	v, err := a.volume(ctx, ar.volume)
	if err != nil || !bareSystem(v.FSType) {
		return err
	}
	t, err := a.liveTree(ctx, v.ID)
	if err != nil {
		return err
	}
	if top, err := t.Lstat(ctx, ar.name); err != nil || !top.Mode.IsDir() || a.patterns.Match(tableName(v.table, ar.name)) {
		return nil // saveArea tells
	}
	a.begun = map[area]*lister{ar: a.listArea(ctx, t, v, ar.name, true)}
	return nil
}

// listedAhead is how many directories are listed ahead of the walk.
const listedAhead = 16

// unreadable is an object of no writer whose attributes cannot be had.
func (c *copier) unreadable(ctx context.Context, t session.Tree, v *volumeState, name string, e session.Entry, err error) error {
	j := job{tree: t, from: v.ID, name: name, volume: v, table: tableName(v.table, name), entry: e}
	if _, listing := err.(*dirError); listing {
		return c.note(&j, err) // the directory has its entry already
	}
	entry := repository.Entry{Root: rootID, Path: j.table, Type: repository.Regular, Attrs: c.attrs(&j)}
	return c.fail(ctx, &j, entry, err)
}

// visitPlain decides on one object under a chosen path.
func (c *copier) visitPlain(ctx context.Context, t session.Tree, v *volumeState, o *listedObject) error {
	a, name, e, err := c.a, o.name, &o.entry, o.err
	j := job{tree: t, from: v.ID, name: name, volume: v, table: tableName(v.table, name), entry: o.entry, live: true}
	switch {
	case a.patterns.Match(j.table):
		return errSkip
	case err != nil && c.failedAlready(v.ID, name, err):
		return nil
	case err != nil && c.vanishedDir(ctx, t, v, name, err):
		c.gone(&j)
		return nil
	case err != nil:
		return c.unreadable(ctx, t, v, name, o.entry, err)
	case e.MountPoint && c.isRoot(j.table), c.isListed(v.ID, name):
		return nil
	case e.MountPoint && !e.Mode.IsDir():
		return nil // a file mounted over another: listed with the volumes
	case !e.Mode.IsDir() && c.above[j.table]:
		return c.note(&j, errors.New("it was a directory with files of components in it when the backup began"))
	case e.Mode.IsDir():
		if c.claimedDir(v.ID, name) || c.ownedDir(v.ID, name) {
			return nil
		}
		return c.save(ctx, &j)
	}
	f := a.claims.Find(v.ID, name)
	if f.Excluded == nil && len(f.Claims) == 0 && (f.Spit == nil || !c.taken(f.Spit.Component)) {
		if e.Links > 1 {
			return c.savePlainLink(ctx, j)
		}
		return c.save(ctx, &j)
	}
	return c.claimed(ctx, j, f)
}

// failedAlready reports whether what cannot be read was met with a component
// that takes part, and has failed it.
func (c *copier) failedAlready(volume, name string, err error) bool {
	if _, listing := err.(*dirError); listing {
		return c.claimedDir(volume, name)
	}
	return slices.ContainsFunc(c.a.claims.Find(volume, name).Claims, func(cl *Claim) bool {
		return c.taken(cl.Component) && c.a.lists(cl)
	})
}

// claimedDir reports whether a directory was saved with a component.
func (c *copier) claimedDir(volume, name string) bool {
	if c.trees == nil {
		c.trees = c.claimedTrees()
	}
	t := c.trees[volume]
	return t != nil && t.Covers(name)
}

// ownedDir reports whether a directory is no data of nobody, though it was not saved:
// all that is in it is a component's, of which the type of this backup takes nothing
// there. A restore would put it where its writer has refused the rest.
func (c *copier) ownedDir(volume, name string) bool {
	if c.owned == nil {
		c.owned = c.treesOf(func(cl *Claim) bool { return cl.Set.Pattern == "*" })
	}
	t := c.owned[volume]
	return t != nil && t.Covers(name)
}

// claimedTrees are the directories of which all below is saved with components,
// by volume.
func (c *copier) claimedTrees() map[string]*provider.SetIndex[*Claim] {
	return c.treesOf(c.a.lists)
}

// treesOf are the directories of the recursive claims that ok takes, of components
// that take part, by volume.
func (c *copier) treesOf(ok func(*Claim) bool) map[string]*provider.SetIndex[*Claim] {
	out := map[string]*provider.SetIndex[*Claim]{}
	for _, def := range c.a.sel.Explicit {
		if c.a.failed[def] != "" {
			continue
		}
		for _, m := range def.Set() {
			for _, cl := range c.a.claims.Of(m) {
				if !cl.Set.Recursive || cl.Alternate || !ok(cl) {
					continue
				}
				if out[cl.Volume] == nil {
					out[cl.Volume] = provider.NewSetIndex[*Claim](c.a.fold)
				}
				out[cl.Volume].Add(cl.Set, cl)
			}
		}
	}
	return out
}

// taken reports whether a component takes part and has not failed.
func (c *copier) taken(comp *Component) bool {
	def := c.a.sel.Defining[comp]
	return def != nil && c.a.failed[def] == ""
}

// claimed deals with a file under a chosen path that is some writer's.
func (c *copier) claimed(ctx context.Context, j job, f Finding) error {
	for _, cl := range f.Claims {
		if c.taken(cl.Component) {
			return nil // saved with its component, or not wanted by its mask
		}
		if c.a.sel.Out[cl.Component].Elsewhere {
			return nil
		}
	}
	if len(f.Claims) == 0 {
		return nil // excluded by its writer, or held at an alternate path
	}
	if c.a.req.AsPlainFiles {
		return c.save(ctx, &j)
	}
	c.leaveClaimed(j, f.Claims[0], "")
	return nil
}

func (c *copier) leaveClaimed(j job, cl *Claim, how string) {
	why, asked := c.whyNot(cl.Component)
	c.leave(LeftOut{Path: c.path(j), Writer: cl.Component.Writer.Label(), Component: cl.Component.FullPath(),
		Reason: how + why, Asked: asked})
}

// whyNot tells why a component has no part.
func (c *copier) whyNot(comp *Component) (why string, asked bool) {
	if def := c.a.sel.Defining[comp]; def != nil {
		return "its component failed: " + c.a.failed[def], false
	}
	if bar, ok := c.a.sel.Out[comp]; ok {
		return bar.Why, bar.Asked
	}
	return "its component is not selected", false
}

// savePlainLink saves a file with several names of which this one is nobody's.
// If another name is a component's, so is the file.
func (c *copier) savePlainLink(ctx context.Context, j job) error {
	cl, err := c.a.foreignInode(ctx, j.volume, j.entry.Inode, c.taken)
	if err != nil {
		return err
	}
	if cl != nil && !c.a.req.AsPlainFiles {
		c.leaveClaimed(j, cl, "it is another name of a file of this component: ")
		return nil
	}
	return c.save(ctx, &j)
}

// foreignInode tells whether a file with several names is claimed, by another
// name, by a component that is not taken.
func (a *attempt) foreignInode(ctx context.Context, v *volumeState, number uint64, taken func(*Component) bool) (*Claim, error) {
	if a.inodes == nil {
		a.inodes = map[string]map[uint64]*Claim{}
	}
	known, ok := a.inodes[v.ID]
	if !ok {
		known = map[uint64]*Claim{}
		a.inodes[v.ID] = known
		t, err := a.liveTree(ctx, v.ID)
		if err != nil {
			return nil, err
		}
		for comp := range a.claims.list {
			if taken(comp) {
				continue
			}
			typing := a.typing(comp)
			for _, g := range a.claims.groups(comp, &typing, true, func(cl *Claim) bool { return cl.Volume == v.ID }) {
				err := g.visit(ctx, t, "", func(name string, e session.Entry, err error) error {
					if err == nil && e.Mode.IsRegular() && e.Links > 1 && !a.claims.Excludes(comp.Writer, v.ID, name) {
						known[e.Inode] = g.at(name, false)
					}
					return nil
				})
				if err != nil {
					return nil, err
				}
			}
		}
	}
	return known[number], nil
}

// saveParents saves the directories above what is chosen, so that they can be
// made again as they were where they are missing.
func (c *copier) saveParents(ctx context.Context) error {
	c.above = map[string]bool{}
	for _, top := range c.tops() {
		for _, dir := range parentsOf(top) {
			if c.above[dir] {
				continue
			}
			c.above[dir] = true
			if err := c.saveParent(ctx, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// tops are the table paths that data begins at.
func (c *copier) tops() (tops []string) {
	for _, ar := range c.a.areas {
		if v := c.a.volumes[ar.volume]; v != nil {
			tops = append(tops, tableName(v.table, ar.name))
		}
	}
	claimed := func(cl *Claim) {
		if v := c.a.volumes[cl.Volume]; v != nil {
			dir := tableName(v.table, cl.Set.Dir)
			tops = append(tops, path.Join(dir, probe)) // the directory itself counts
		}
	}
	for _, def := range c.a.sel.Explicit {
		for _, m := range def.Set() {
			for _, cl := range c.a.claims.Of(m) {
				claimed(cl)
			}
		}
	}
	if p := c.a.writerLists; p != nil {
		for _, s := range p.New {
			claimed(s.Claim)
		}
		for _, f := range p.Partial {
			claimed(f.Claim)
		}
	}
	return tops
}

// saveParent saves one directory above the data; one that cannot be looked at
// is made with default attributes by a restore.
func (c *copier) saveParent(ctx context.Context, table string) error {
	loc, err := placeDir(ctx, c.a.sess, c.a.style, HostPath(c.a.style, table))
	if err != nil {
		return ctx.Err()
	}
	v, err := c.a.volume(ctx, loc.Volume)
	if err != nil {
		return ctx.Err()
	}
	t, err := c.a.liveTree(ctx, loc.Volume)
	if err != nil {
		return ctx.Err()
	}
	e, err := t.Lstat(ctx, loc.Name)
	if err != nil || !e.Mode.IsDir() {
		return ctx.Err()
	}
	entry, _ := newEntry(table, e, c.device[v.ID])
	entry.Attrs = map[string]string{AttrRole: "parent", AttrVolume: v.ID}
	return c.b.Add(ctx, entry)
}
