package requester

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Lookup places paths of the host on volumes: the part of [session.Data] that
// placing needs.
type Lookup interface {
	ResolvePath(ctx context.Context, path string) (session.Location, error)
	VolumesUnder(ctx context.Context, path string) ([]session.Location, error)
	Volume(ctx context.Context, id string) (session.Volume, error)
}

// Claim is one file specification of a component, placed on one volume.
type Claim struct {
	Component *Component
	File      *FileSet
	// Volume and Set are the files' normal place: what they are recorded and
	// restored under, and what excludes are tested against (R-SET-11).
	Volume string
	Set    provider.FileSet
	// From and Dir are the volume and directory to read the files from: the
	// normal place, or the alternate path's (R-SET-12).
	From string
	Dir  string
	// Alternate tells that From and Dir are the alternate path's.
	Alternate bool
	// Nested: the claim is the part of a recursive specification that lies
	// on a volume mounted below its path (R-SET-16).
	Nested bool
}

// Claims knows who claims which file. It is built once and then read by many.
type Claims struct {
	fold    bool
	style   vss.PathStyle
	volumes map[string]*volumeClaims
	list    map[*Component][]*Claim
}

type volumeClaims struct {
	claims *provider.SetIndex[*Claim] // by their normal place
	// alternates are places that hold claimed files for the time of a backup.
	alternates *provider.SetIndex[*Claim]
	excludes   *provider.SetIndex[*Writer]
	excluded   map[*Writer][]provider.FileSet
}

// NewClaims makes an empty one for hosts of the style.
func NewClaims(style vss.PathStyle) *Claims {
	return &Claims{fold: style.Fold(), style: style, volumes: map[string]*volumeClaims{}, list: map[*Component][]*Claim{}}
}

func (c *Claims) volume(id string) *volumeClaims {
	v := c.volumes[id]
	if v == nil {
		v = &volumeClaims{claims: provider.NewSetIndex[*Claim](c.fold), alternates: provider.NewSetIndex[*Claim](c.fold),
			excludes: provider.NewSetIndex[*Writer](c.fold), excluded: map[*Writer][]provider.FileSet{}}
		c.volumes[id] = v
	}
	return v
}

// Add enters a claim.
func (c *Claims) Add(cl *Claim) {
	c.volume(cl.Volume).claims.Add(cl.Set, cl)
	c.list[cl.Component] = append(c.list[cl.Component], cl)
	if cl.Alternate {
		set := cl.Set
		set.Dir = cl.Dir
		c.volume(cl.From).alternates.Add(set, cl)
	}
}

// AddExclude enters one of a writer's excludes.
func (c *Claims) AddExclude(w *Writer, volume string, set provider.FileSet) {
	v := c.volume(volume)
	v.excludes.Add(set, w)
	v.excluded[w] = append(v.excluded[w], set)
}

// excludesOf lists a writer's excludes on a volume.
func (c *Claims) excludesOf(w *Writer, volume string) []provider.FileSet {
	if v := c.volumes[volume]; v != nil {
		return v.excluded[w]
	}
	return nil
}

// Of gives a component's claims, in the order of its document.
func (c *Claims) Of(comp *Component) []*Claim { return c.list[comp] }

// Finding is what is known of one file.
type Finding struct {
	// Claims are those the file belongs to, less what their own writer excludes.
	Claims []*Claim
	// Excluded tells that a writer excludes the file (R-SET-10): that a
	// writer which claims it does, or, if none claims it, any.
	Excluded *Writer
	// Spit is a claim that reads the file at its alternate path.
	Spit *Claim
}

// Unclaimed reports whether the file is data of no writer.
func (f *Finding) Unclaimed() bool {
	return len(f.Claims) == 0 && f.Excluded == nil && f.Spit == nil
}

// Find tells who claims the file of a volume with the given name.
func (c *Claims) Find(volume, name string) (f Finding) {
	v := c.volumes[volume]
	if v == nil {
		return f
	}
	v.claims.Each(name, func(cl *Claim) bool {
		f.Claims = append(f.Claims, cl)
		return true
	})
	var excluded []*Writer
	v.excludes.Each(name, func(w *Writer) bool {
		excluded = append(excluded, w)
		return true
	})
	f.drop(excluded)
	v.alternates.Each(name, func(cl *Claim) bool {
		f.Spit = cl
		return false
	})
	return f
}

// drop takes out the claims of writers that exclude the file.
func (f *Finding) drop(excluded []*Writer) {
	if len(excluded) == 0 {
		return
	}
	kept := f.Claims[:0]
	for _, cl := range f.Claims {
		out := false
		for _, w := range excluded {
			out = out || w == cl.Component.Writer
		}
		if out {
			f.Excluded = cl.Component.Writer
		} else {
			kept = append(kept, cl)
		}
	}
	f.Claims = kept
	if len(kept) == 0 && f.Excluded == nil {
		f.Excluded = excluded[0]
	}
}

// Excludes reports whether the writer excludes the file.
func (c *Claims) Excludes(w *Writer, volume, name string) (out bool) {
	if v := c.volumes[volume]; v != nil {
		v.excludes.Each(name, func(by *Writer) bool {
			out = by == w
			return !out
		})
	}
	return out
}

// excludesAll reports whether one of the writer's excludes leaves nothing of a
// set, whatever files there will be.
func (c *Claims) excludesAll(w *Writer, volume string, set provider.FileSet, fold bool) bool {
	return slices.ContainsFunc(c.excludesOf(w, volume), func(e provider.FileSet) bool {
		names := e.Pattern == "*" || e.Pattern == "*.*" || e.Pattern == set.Pattern ||
			!vss.HasWildcard(set.Pattern) && vss.MatchPattern(e.Pattern, set.Pattern, fold)
		return names && e.Covers(set.Dir, fold) && (e.Recursive || !set.Recursive)
	})
}

// probe is a name that stands for "something in this directory" where a path
// is resolved: links above the last element are followed, and a specification's
// directory is above its files.
const probe = ".sombra-probe"

// placeDir finds the volume and the name of a directory that holds files,
// following links also in its last element.
func placeDir(ctx context.Context, l Lookup, style vss.PathStyle, dir string) (session.Location, error) {
	loc, err := l.ResolvePath(ctx, withSep(style, dir)+probe)
	if err != nil {
		return session.Location{}, err
	}
	if path.Base(loc.Name) != probe {
		return session.Location{}, fmt.Errorf("resolve %s: got %q, which is not in it", dir, loc.Name)
	}
	loc.Name = path.Dir(loc.Name)
	loc.Path = style.Dir(loc.Path)
	return loc, nil
}

func withSep(style vss.PathStyle, dir string) string {
	sep := string(style.Separator())
	if strings.HasSuffix(dir, sep) || style == vss.Windows && strings.HasSuffix(dir, "/") {
		return dir
	}
	return dir + sep
}

// placer puts the specifications of documents on volumes.
type placer struct {
	lookup Lookup
	style  vss.PathStyle
	claims *Claims
	under  map[string][]session.Location
	places map[string]placeAnswer
}

type placeAnswer struct {
	loc session.Location
	err error
}

func newPlacer(l Lookup, style vss.PathStyle) *placer {
	return &placer{lookup: l, style: style, claims: NewClaims(style), under: map[string][]session.Location{},
		places: map[string]placeAnswer{}}
}

func (p *placer) dir(ctx context.Context, dir string) (session.Location, error) {
	if a, ok := p.places[dir]; ok {
		return a.loc, a.err
	}
	loc, err := placeDir(ctx, p.lookup, p.style, dir)
	if err == nil {
		err = p.holdsData(ctx, loc)
	}
	p.places[dir] = placeAnswer{loc, err}
	return loc, err
}

// holdsData refuses places that only show the state of the kernel: nothing there
// can be copied, and reading some of it has effects, or no end.
func (p *placer) holdsData(ctx context.Context, loc session.Location) error {
	v, err := p.lookup.Volume(ctx, loc.Volume)
	if err == nil && pseudo(v.FSType) {
		err = fmt.Errorf("it is on a %s file system, which shows the state of the kernel and holds no data", v.FSType)
	}
	return err
}

// writer places all of a writer's claims and excludes. It gives, for
// components with a specification that cannot be placed, why.
func (p *placer) writer(ctx context.Context, w *Writer) (map[*Component]string, error) {
	bad := map[*Component]string{}
	for _, c := range w.Components {
		for i := range c.Files {
			if err := p.fileSet(ctx, c, &c.Files[i]); err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				bad[c] = fmt.Sprintf("file specification %s: %v", c.Files[i].Spec, err)
				break
			}
		}
	}
	for _, spec := range w.Exclude {
		// An exclude that cannot be placed excludes nothing: it names no
		// directory of this host.
		loc, err := p.dir(ctx, spec.Path)
		if err != nil {
			continue
		}
		p.eachVolume(ctx, loc, spec.Recursive, func(volume, dir string, _ bool) {
			p.claims.AddExclude(w, volume, provider.FileSet{Dir: dir, Pattern: spec.Pattern, Recursive: spec.Recursive})
		})
	}
	return bad, ctx.Err()
}

func (p *placer) fileSet(ctx context.Context, c *Component, f *FileSet) error {
	if err := f.Spec.Validate(p.style); err != nil {
		return err
	}
	loc, err := p.dir(ctx, f.Spec.Path)
	if err != nil {
		return err
	}
	var alt session.Location
	if f.Alternate != "" {
		if alt, err = p.dir(ctx, f.Alternate); err != nil {
			return fmt.Errorf("alternate path: %w", err)
		}
	}
	return p.eachVolume(ctx, loc, f.Spec.Recursive, func(volume, dir string, nested bool) {
		cl := &Claim{Component: c, File: f, Volume: volume, From: volume, Dir: dir, Nested: nested,
			Set: provider.FileSet{Dir: dir, Pattern: f.Spec.Pattern, Recursive: f.Spec.Recursive}}
		if f.Alternate != "" {
			// Only the alternate path counts; what is nested below the
			// normal one is claimed but not read.
			cl.From, cl.Dir, cl.Alternate = alt.Volume, alt.Name, true
		}
		p.claims.Add(cl)
	})
}

// eachVolume calls fn for the directory and, if the set is recursive, for each
// volume nested below it.
func (p *placer) eachVolume(ctx context.Context, loc session.Location, recursive bool, fn func(volume, dir string, nested bool)) error {
	fn(loc.Volume, loc.Name, false)
	if !recursive {
		return nil
	}
	nested, err := p.nested(ctx, loc.Path)
	if err != nil {
		return err
	}
	for _, n := range nested {
		fn(n.Volume, n.Name, true)
	}
	return nil
}

// nested lists the volumes below a path that hold data.
func (p *placer) nested(ctx context.Context, dir string) ([]session.Location, error) {
	if list, ok := p.under[dir]; ok {
		return list, nil
	}
	all, err := p.lookup.VolumesUnder(ctx, dir)
	if err != nil {
		return nil, err
	}
	list := all[:0:0]
	for _, loc := range all {
		if loc.Left != "" {
			continue
		}
		v, err := p.lookup.Volume(ctx, loc.Volume)
		if err != nil || pseudo(v.FSType) {
			continue
		}
		list = append(list, loc)
	}
	p.under[dir] = list
	return list, nil
}

// pseudo reports whether a file system holds no data of its own but shows the
// state of the kernel.
func pseudo(fsType string) bool {
	switch fsType {
	case "proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "pstore", "bpf", "tracefs", "debugfs",
		"configfs", "securityfs", "selinuxfs", "fusectl", "mqueue", "hugetlbfs", "binfmt_misc", "autofs",
		"rpc_pipefs", "efivarfs", "nsfs", "nfsd", "resctrl", "smackfs", "functionfs":
		return true
	}
	return false
}
