package requester

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// maxMappings bounds the alternate location mappings of one writer.
const maxMappings = 10_000

// route is a mapping of one file set to another directory as it is on this host:
// an alternate location mapping, or a new target. Names and subdirectories are
// kept (R-RES-18).
type route struct {
	mapping  Mapping
	from, to string // table paths of the file set's directory and of the other one
	// own: it equals a file set of the component. One that does not can still be
	// of a new differenced file set (R-RES-20).
	own bool
}

// place gives the place of a table path that lies in the file set.
func (r *route) place(table string, dir, fold bool) (string, bool) {
	if r.from != "" && !withinName(r.from, table, fold) {
		return "", false
	}
	rest := strings.TrimPrefix(table[len(r.from):], "/")
	in := path.Dir(rest) == "."
	switch {
	case rest == "":
		return r.to, dir
	case dir && !r.mapping.Spec.Recursive, !dir && !in && !r.mapping.Spec.Recursive:
		return "", false
	case !dir && !vss.MatchPattern(r.mapping.Spec.Pattern, path.Base(rest), fold):
		return "", false
	}
	return tableName(r.to, rest), true
}

// routes are the mappings of a component's writer, as they concern the component:
// they count where they equal one of its file sets (R-RES-18).
type routes struct {
	fold  bool
	list  []*route
	bySet map[string]*route   // by specText, as entries have it
	byDir map[string][]*route // by the directory mapped
}

func newRoutes(fold bool) *routes {
	return &routes{fold: fold, bySet: map[string]*route{}, byDir: map[string][]*route{}}
}

func (r *routes) add(n *route) {
	r.list = append(r.list, n)
	if set := specText(n.mapping.Spec); r.bySet[set] == nil {
		r.bySet[set] = n
	}
	dir := r.key(n.from)
	if n.own {
		r.byDir[dir] = append(r.byDir[dir], n)
	}
}

func (r *routes) key(table string) string {
	if r.fold {
		return strings.ToLower(table)
	}
	return table
}

// of finds where an entry goes. The mapping of the file set that chose it in the
// backup comes first, then those of the nearest directory. A new file of which
// only ranges were saved has none (R-RES-20).
func (r *routes) of(e *repository.Entry) (to string, by *route, ok bool) {
	dir := e.Type == repository.Directory
	if n := r.bySet[e.Attrs[AttrSpec]]; n != nil && (n.own || e.Attrs[AttrMatched] == "differenced") {
		if to, ok := n.place(e.Path, dir, r.fold); ok {
			return to, n, true
		}
	}
	for at := e.Path; ; at = above(at) {
		for _, n := range r.byDir[r.key(at)] {
			if to, ok := n.place(e.Path, dir, r.fold); ok {
				return to, n, true
			}
		}
		if at == "" {
			return "", nil, false
		}
	}
}

// diversion is what the mappings make of a component set.
type diversion struct {
	entries  []*repository.Entry // those of the set, with their new paths
	used     []*route
	unmapped string // the first file that no mapping matches
}

// divert sends entries to where the routes of their components lead.
func divert(entries []*repository.Entry, of func(component string) *routes) *diversion {
	d := &diversion{}
	for _, e := range entries {
		r := of(e.Attrs[AttrComponent])
		to, by, ok := "", (*route)(nil), false
		if r != nil {
			to, by, ok = r.of(e)
		}
		switch {
		case ok:
		case e.Type == repository.Directory || e.Attrs[AttrOutcome] == "failed":
			continue
		default:
			if d.unmapped == "" {
				d.unmapped = e.Path
			}
			continue
		}
		if !d.uses(by) && e.Type != repository.Directory {
			d.used = append(d.used, by)
		}
		d.entries = append(d.entries, withPath(e, to))
	}
	return d
}

// uses reports whether a mapping is among those used.
func (d *diversion) uses(by *route) bool {
	return slices.ContainsFunc(d.used, func(u *route) bool { return u.mapping == by.mapping })
}

// withPath is an entry at another place.
func withPath(e *repository.Entry, to string) *repository.Entry {
	c := *e
	c.Path = to
	return &c
}

// origins tell what directories that are missing are to be like.
type origins struct {
	of    map[string]string // the directory that one below a mapping's destination stands for
	above map[string]string // of those above a destination: the one that was mapped
}

// note remembers the directories above a place that a route gave: as long as the
// names agree, they stand for those that the file was in.
func (o *origins) note(from, to string, by *route) {
	if o.of == nil {
		o.of, o.above = map[string]string{}, map[string]string{}
	}
	for from, to = above(from), above(to); to != "" && len(to) >= len(by.to) && len(from) >= len(by.from); from, to = above(from), above(to) {
		if _, known := o.of[to]; known {
			return
		}
		o.of[to] = from
	}
	for dir := above(by.to); dir != ""; dir = above(dir) {
		if _, known := o.above[dir]; known {
			return
		}
		o.above[dir] = by.from
	}
}

// clashes finds two entries that would go to the same place.
func (d *diversion) clashes(fold bool) string {
	taken := make(map[string]bool, len(d.entries))
	for _, e := range d.entries {
		if e.Type == repository.Directory {
			continue
		}
		key := e.Path
		if fold {
			key = strings.ToLower(key)
		}
		if taken[key] {
			return e.Path
		}
		taken[key] = true
	}
	return ""
}

// routesOf gives the routes of a component by its writer's mappings.
func (r *restore) routesOf(ctx context.Context, c *Component) (*routes, error) {
	out := newRoutes(r.style.Fold())
	if len(c.Writer.Restore.Mappings) > maxMappings {
		return nil, fmt.Errorf("its writer has %d alternate location mappings, more than %d", len(c.Writer.Restore.Mappings), maxMappings)
	}
	sets := map[string]bool{}
	for _, file := range c.Files {
		sets[file.Spec.Key(r.style)] = true
	}
	for _, m := range c.Writer.Restore.Mappings {
		placed, known := r.placed[m]
		if !known {
			n, err := r.routeTo(ctx, m)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				r.warn("%s: its alternate location mapping of %s to %s cannot be used: %v", c.Writer.Label(), m.Spec, clip(m.Destination, 200), err)
			}
			placed = n
			if r.placed == nil {
				r.placed = map[Mapping]*route{}
			}
			r.placed[m] = n
		}
		if placed == nil {
			continue
		}
		n := *placed
		n.own = sets[m.Spec.Key(r.style)]
		out.add(&n)
	}
	return out, nil
}

// goesUp reports whether a path has an element dot-dot: where that leads behind a
// link only the host knows.
func goesUp(path string) bool {
	return slices.Contains(strings.FieldsFunc(path, func(c rune) bool { return c == '/' || c == '\\' }), "..")
}

// routeTo places a mapping on this host. Of the directory that was backed up the
// links are followed, as they were then; of the one that is written to they are
// not.
func (r *restore) routeTo(ctx context.Context, m Mapping) (*route, error) {
	from, err := r.place(ctx, m.Spec.Path, probe)
	if err != nil {
		return nil, err
	}
	loc, err := r.sess.ResolvePath(ctx, m.Destination)
	if err != nil {
		return nil, err
	}
	if goesUp(m.Destination) {
		return nil, errors.New("it goes up by \"..\", and links would be followed there")
	}
	if !r.style.IsAbs(loc.Path) || strings.ContainsRune(loc.Path, 0) {
		return nil, fmt.Errorf("it is not absolute")
	}
	to := TablePath(r.style, loc.Path)
	if err := validName(to, r.style == vss.Windows); err != nil {
		return nil, err
	}
	return &route{mapping: m, from: above(from), to: to}, nil
}
