//go:build linux

package mountfs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/repository"
)

// view is what stands above the records: directories that lead to them. Numbers
// and names, once given, stay.
type view struct {
	fs *FS

	// refreshing is held while records are listed and read. It guards what
	// follows.
	refreshing sync.Mutex
	// refreshed is when the records were last listed.
	refreshed time.Time
	records   map[repository.ID]*repository.Record
	// unreadable are records that could not be read, and were logged.
	unreadable map[repository.ID]bool

	// mu guards the rest, and is never held while the store is asked.
	mu sync.Mutex
	// dirs are the directories, by number; root is 1.
	dirs []*viewDir
	// places are the places at which records appear; a record has one at
	// each path that leads to it, for a directory has one parent only.
	places []*place
	linkOf map[uint64]*viewLink
}

// viewDir is a directory of the view.
type viewDir struct {
	number uint64
	parent uint64
	name   string
	// items are in the order in which they came, which offsets of listings
	// rest on; byName finds them.
	items  []*viewItem
	byName map[string]*viewItem
}

// viewItem is an entry of a viewDir.
type viewItem struct {
	name string
	// One of these is set.
	dir   *viewDir
	place *place
	link  *viewLink
	// gone says that it is listed no longer.
	gone bool
}

// viewLink is a symbolic link.
type viewLink struct {
	number uint64
	target string
}

// place is one appearance of a record.
type place struct {
	slot   uint64
	parent *viewDir
	item   *viewItem
	rec    *repository.Record
}

func newView(fs *FS) *view {
	v := &view{fs: fs, records: map[repository.ID]*repository.Record{}, unreadable: map[repository.ID]bool{}, linkOf: map[uint64]*viewLink{}}
	v.dirs = []*viewDir{nil} // no node has number 0
	root := v.newDir(nil, "")
	for _, name := range []string{"hosts", "ids", "tags"} {
		v.newDir(root, name)
	}
	return v
}

// newDir adds a directory.
func (v *view) newDir(parent *viewDir, name string) *viewDir {
	d := &viewDir{number: uint64(len(v.dirs)), name: name, byName: map[string]*viewItem{}}
	v.dirs = append(v.dirs, d)
	d.parent = d.number
	if parent != nil {
		d.parent = parent.number
		parent.add(&viewItem{name: name, dir: d})
	}
	return d
}

func (d *viewDir) add(i *viewItem) {
	d.items = append(d.items, i)
	d.byName[i.name] = i
}

// sub gives the directory of that name, new if need be.
func (v *view) sub(parent *viewDir, name string) *viewDir {
	if i := parent.byName[name]; i != nil && i.dir != nil {
		i.gone = false
		return i.dir
	}
	return v.newDir(parent, name)
}

// refresh lists the records if the last time is long enough ago. An error
// leaves the view as it was.
func (v *view) refresh(ctx context.Context) error {
	v.refreshing.Lock()
	defer v.refreshing.Unlock()
	if !v.refreshed.IsZero() && time.Since(v.refreshed) < v.fs.o.Refresh {
		return nil
	}
	ids, err := v.fs.repo.RecordIDs(ctx)
	if err != nil {
		return err
	}
	present := make(map[repository.ID]bool, len(ids))
	var fresh []*repository.Record
	for _, id := range ids {
		present[id] = true
		if v.records[id] != nil || v.unreadable[id] {
			continue
		}
		rec, err := v.fs.repo.Record(ctx, id.String())
		switch {
		case err == nil:
			v.records[id] = rec
			fresh = append(fresh, rec)
		case errors.Is(err, repository.ErrNotFound):
		case errors.Is(err, repository.ErrDamaged):
			v.unreadable[id] = true
			v.fs.damaged("record "+id.Short(), err)
		default:
			return err
		}
	}
	slices.SortFunc(fresh, func(a, b *repository.Record) int {
		return cmp.Or(a.Time.Compare(b.Time), slices.Compare(a.ID[:], b.ID[:]))
	})
	for id := range v.records {
		if !present[id] {
			delete(v.records, id)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, rec := range fresh {
		if v.fs.o.Show == nil || v.fs.o.Show(rec) {
			v.show(rec)
		}
	}
	v.hide(present)
	v.links()
	v.refreshed = time.Now()
	return nil
}

// show gives a record its places.
func (v *view) show(rec *repository.Record) {
	root := v.dirs[rootNode]
	v.place(root.byName["ids"].dir, rec.ID.Short(), rec)
	v.place(v.sub(root.byName["hosts"].dir, fileName(rec.Host.Name)), timeName(rec.Time), rec)
	shown := map[string]bool{}
	for _, tag := range rec.Tags {
		if !shown[tag] {
			v.place(v.sub(root.byName["tags"].dir, fileName(tag)), timeName(rec.Time), rec)
		}
		shown[tag] = true
	}
}

// place adds an appearance of a record. If the name is taken, digits of the id
// make it another.
func (v *view) place(dir *viewDir, name string, rec *repository.Record) {
	for n := 8; dir.byName[name] != nil; n += 8 {
		stem, _, _ := strings.Cut(name, "Z-")
		if stem = strings.TrimSuffix(stem, "Z"); dir.name == "ids" {
			name = rec.ID.String()[:min(n+8, 64)]
		} else {
			name = stem + "Z-" + rec.ID.String()[:min(n, 64)]
		}
		if n > 64 {
			return // this very record is there
		}
	}
	if len(v.places) > maxSlot-1 {
		v.fs.log.Error("too many backups to show", "name", name)
		return
	}
	p := &place{slot: uint64(len(v.places) + 1), parent: dir, rec: rec}
	p.item = &viewItem{name: name, place: p}
	v.places = append(v.places, p)
	dir.add(p.item)
}

// hide takes the records that are gone from the lists.
func (v *view) hide(present map[repository.ID]bool) {
	for _, p := range v.places {
		p.item.gone = !present[p.rec.ID]
	}
	root := v.dirs[rootNode]
	for _, top := range []string{"hosts", "tags"} {
		for _, i := range root.byName[top].dir.items {
			i.gone = !slices.ContainsFunc(i.dir.items, func(i *viewItem) bool { return i.place != nil && !i.gone })
		}
	}
}

// links renews the links to the newest.
func (v *view) links() {
	root := v.dirs[rootNode]
	v.link(root, "ids/", v.newest(root.byName["ids"].dir))
	for _, i := range root.byName["hosts"].dir.items {
		v.link(i.dir, "", v.newest(i.dir))
	}
}

// newest gives the item of the newest record in a directory.
func (v *view) newest(d *viewDir) *viewItem {
	var best *viewItem
	for _, i := range d.items {
		if i.place != nil && !i.gone && (best == nil || !i.place.rec.Time.Before(best.place.rec.Time)) {
			best = i
		}
	}
	return best
}

func (v *view) link(d *viewDir, before string, to *viewItem) {
	i := d.byName["latest"]
	if to == nil {
		if i != nil {
			i.gone = true
		}
		return
	}
	if i == nil {
		// The number is that of a directory that nobody reaches.
		v.dirs = append(v.dirs, nil)
		i = &viewItem{name: "latest", link: &viewLink{number: uint64(len(v.dirs) - 1)}}
		d.add(i)
		v.linkOf[i.link.number] = i.link
	}
	i.gone = false
	i.link.target = before + to.name
}

// dir gives a directory of the view.
func (v *view) dir(number uint64) *viewDir {
	v.mu.Lock()
	defer v.mu.Unlock()
	if number >= uint64(len(v.dirs)) {
		return nil
	}
	return v.dirs[number]
}

// list gives the items that are there, with the place of each among all.
func (v *view) list(d *viewDir) (items []*viewItem, at []int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for n, i := range d.items {
		if !i.gone {
			items, at = append(items, i), append(at, n)
		}
	}
	return items, at
}

// find gives the item of that name.
func (v *view) find(d *viewDir, name string) *viewItem {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := d.byName[name]; i != nil && !i.gone {
		return i
	}
	return nil
}

// target gives what the link of that number leads to, empty if there is none.
func (v *view) target(number uint64) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.linkOf[number]; l != nil {
		return l.target
	}
	return ""
}

// slot gives a place by its number.
func (v *view) slot(n uint64) *place {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n == 0 || n > uint64(len(v.places)) {
		return nil
	}
	return v.places[n-1]
}
