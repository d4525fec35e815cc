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
	seen := map[string]bool{}
	for _, def := range c.a.sel.Explicit {
		if c.a.failed[def] != "" {
			continue
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
	return c.work.Wait()
}

// saveComponent saves the files of one member of a component set.
func (c *copier) saveComponent(ctx context.Context, def, m *Component, seen map[string]bool) error {
	claims := c.a.claims.Of(m) // in the order of the file sets
	for i := range m.Files {
		f := &m.Files[i]
		var mine []*Claim
		for len(claims) > 0 && claims[0].File == f {
			mine, claims = append(mine, claims[0]), claims[1:]
		}
		if !f.Mask.BackupRequired(c.a.req.backupType()) {
			continue // R-SET-26
		}
		found := false
		var missing *job
		for _, cl := range mine {
			if cl.Alternate && cl.Nested {
				continue
			}
			err := c.saveClaim(ctx, def, cl, seen, &found, &missing)
			if err != nil {
				return err
			}
		}
		if missing != nil && !found && f.Mask&vss.CreatedDuringBackup == 0 {
			// R-SET-5, with the exception of R-SET-29.
			if err := c.note(missing, fmt.Errorf("the file specification %s names it and it is not there", f.Spec)); err != nil {
				return err
			}
		}
	}
	return nil
}

// saveClaim saves what one claim matches: read from the alternate path if there
// is one, recorded under the normal one (R-SET-12).
func (c *copier) saveClaim(ctx context.Context, def *Component, cl *Claim, seen map[string]bool, found *bool, missing **job) error {
	a := c.a
	from, err := a.volume(ctx, cl.From)
	if err != nil {
		return err
	}
	normal, err := a.volume(ctx, cl.Volume)
	if err != nil {
		return err
	}
	mustCopy := cl.File.Mask.SnapshotRequired(a.req.backupType())
	t, err := c.claimTree(ctx, cl, from, mustCopy)
	if err != nil {
		return err
	}
	set := provider.FileSet{Dir: cl.Dir, Pattern: cl.Set.Pattern, Recursive: cl.Set.Recursive}
	return matchSet(ctx, t, set, a.fold, func(name string, e session.Entry, err error) error {
		place := path.Join(cl.Set.Dir, relName(cl.Dir, name))
		if !e.Mode.IsDir() && a.claims.Excludes(cl.Component.Writer, cl.Volume, place) {
			return nil // R-SET-10, R-SET-11
		}
		j := job{tree: t, from: from.ID, name: name, volume: normal, table: tableName(normal.table, place), entry: e, cl: cl, def: def, live: !mustCopy}
		if e.MountPoint && c.isRoot(j.table) {
			return nil
		}
		var listing *dirError
		switch {
		case errors.As(err, &listing):
			if isMissing(err) {
				return nil // made after the shadow copy, and gone again
			}
			return c.note(&j, err) // the directory has its entry already
		case err != nil && isMissing(err):
			*missing = &j
			return nil
		case err != nil:
			entry, _ := newEntry(j.table, e, c.device[normal.ID])
			entry.Attrs = c.attrs(&j)
			return c.fail(ctx, &j, entry, err)
		case e.Mode.IsDir():
			return c.save(ctx, j)
		}
		*found = true
		if seen[j.table] {
			return nil
		}
		seen[j.table] = true
		return c.save(ctx, j)
	})
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
	if err := c.visitPlain(ctx, t, v, ar.name, top, nil); err != nil {
		return ignoreSkip(err)
	}
	if !top.Mode.IsDir() {
		return nil
	}
	return walk(ctx, t, ar.name, func(name string, e session.Entry, err error) error {
		return c.visitPlain(ctx, t, v, name, e, err)
	})
}

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
func (c *copier) visitPlain(ctx context.Context, t session.Tree, v *volumeState, name string, e session.Entry, err error) error {
	a := c.a
	j := job{tree: t, from: v.ID, name: name, volume: v, table: tableName(v.table, name), entry: e, live: true}
	switch {
	case a.patterns.Match(j.table):
		return errSkip
	case err != nil && c.failedAlready(v.ID, name, err):
		return nil
	case err != nil:
		return c.unreadable(ctx, t, v, name, e, err)
	case e.MountPoint && c.isRoot(j.table):
		return nil
	case e.MountPoint && !e.Mode.IsDir():
		return nil // a file mounted over another: listed with the volumes
	case !e.Mode.IsDir() && c.above[j.table]:
		return c.note(&j, errors.New("it was a directory with files of components in it when the backup began"))
	case e.Mode.IsDir():
		if c.claimedDir(v.ID, name) {
			return nil
		}
		return c.save(ctx, j)
	}
	f := a.claims.Find(v.ID, name)
	if f.Unclaimed() || f.Spit != nil && len(f.Claims) == 0 && !c.taken(f.Spit.Component) {
		if e.Links > 1 {
			return c.savePlainLink(ctx, j)
		}
		return c.save(ctx, j)
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
		return c.taken(cl.Component) && cl.File.Mask.BackupRequired(c.a.req.backupType())
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

// claimedTrees are the directories of which all below is saved with components,
// by volume.
func (c *copier) claimedTrees() map[string]*provider.SetIndex[*Claim] {
	out := map[string]*provider.SetIndex[*Claim]{}
	for _, def := range c.a.sel.Explicit {
		if c.a.failed[def] != "" {
			continue
		}
		for _, m := range def.Set() {
			for _, cl := range c.a.claims.Of(m) {
				if !cl.Set.Recursive || cl.Alternate || !cl.File.Mask.BackupRequired(c.a.req.backupType()) {
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
	}
	if len(f.Claims) == 0 {
		return nil // excluded by its writer, or held at an alternate path
	}
	if c.a.req.AsPlainFiles {
		return c.save(ctx, j)
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
	return c.save(ctx, j)
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
		for comp, list := range a.claims.list {
			if taken(comp) {
				continue
			}
			for _, cl := range list {
				if cl.Volume != v.ID {
					continue
				}
				err := matchSet(ctx, t, cl.Set, a.fold, func(name string, e session.Entry, err error) error {
					if err == nil && e.Mode.IsRegular() && e.Links > 1 && !a.claims.Excludes(comp.Writer, v.ID, name) {
						known[e.Inode] = cl
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
	for _, def := range c.a.sel.Explicit {
		for _, m := range def.Set() {
			for _, cl := range c.a.claims.Of(m) {
				if v := c.a.volumes[cl.Volume]; v != nil {
					dir := tableName(v.table, cl.Set.Dir)
					tops = append(tops, path.Join(dir, probe)) // the directory itself counts
				}
			}
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
