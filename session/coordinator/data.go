package coordinator

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/localfs"
	"github.com/sombra-backup/sombra/session/coordinator/volume"
	"github.com/sombra-backup/sombra/vss"
)

// open refuses calls on a closed session. Access to data is not among the calls
// that exclude each other.
func (s *service) open(op string) error {
	if s.has(closed) {
		return vss.Errorf(vss.ErrBadState, op, "", "the session is closed")
	}
	return nil
}

// ResolvePath implements [session.Data].
func (s *service) ResolvePath(ctx context.Context, name string) (session.Location, error) {
	if err := s.open("ResolvePath"); err != nil {
		return session.Location{}, err
	}
	return s.resolve(ctx, name)
}

// resolve finds the volume of a path of the host. The path is not cleaned: what
// ".." leads to behind a link only the kernel knows.
func (s *service) resolve(ctx context.Context, name string) (session.Location, error) {
	expanded, err := vss.ExpandEnv(name, lookupEnv)
	if err != nil {
		return session.Location{}, err
	}
	if !filepath.IsAbs(expanded) {
		return session.Location{}, vss.Errorf(vss.ErrInvalidArgument, "resolve", name, "a path must be absolute")
	}
	table, err := s.people.volumes(ctx)
	if err != nil {
		return session.Location{}, err
	}
	loc, _, err := table.Resolve(ctx, expanded)
	return loc, err
}

// Volume implements [session.Data].
func (s *service) Volume(ctx context.Context, id string) (session.Volume, error) {
	if err := s.open("Volume"); err != nil {
		return session.Volume{}, err
	}
	v, err := s.people.volume(ctx, id)
	if err != nil {
		return session.Volume{}, err
	}
	return session.Volume{ID: v.ID, Root: v.Root, FSType: v.FSType, Source: v.Source, Persistent: v.Persistent, ReadOnly: v.ReadOnly,
		TimesTell: volume.TimesTell(v)}, nil
}

// VolumesUnder implements [session.Data].
func (s *service) VolumesUnder(ctx context.Context, name string) ([]session.Location, error) {
	if err := s.open("VolumesUnder"); err != nil {
		return nil, err
	}
	table, err := s.people.volumes(ctx)
	if err != nil {
		return nil, err
	}
	places, err := table.Under(ctx, name)
	if err != nil {
		return nil, err
	}
	list := make([]session.Location, 0, len(places))
	for _, p := range places {
		loc := p.Location
		switch {
		case p.Err != nil:
			loc.Left = p.Err.Error()
			if loc.Path == "" {
				loc.Path = name // it may be anywhere below
			}
		case p.Pseudo:
			loc.Left = p.Volume.FSType + " holds no data"
		case p.Remote:
			loc.Left = p.Volume.FSType + " is another machine's or a process's; back it up there"
		}
		list = append(list, loc)
	}
	return list, nil
}

// Tree implements [session.Data].
func (s *service) Tree(ctx context.Context, snapshot vss.GUID) (session.Tree, error) {
	if err := s.open("Tree"); err != nil {
		return nil, err
	}
	if c := s.own(snapshot); c != nil {
		return s.tree(c)
	}
	c, err := s.findKept(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	return s.tree(c)
}

// own finds a finished copy of this session's set.
func (s *service) own(id vss.GUID) *shadow {
	if !s.has(snapped) || s.has(aborted) { // before snapped the set is not ours to look at
		return nil
	}
	i := slices.IndexFunc(s.set.copies, func(c *shadow) bool { return c.ref.SnapshotID == id && !c.deleted.Load() })
	if i < 0 {
		return nil
	}
	return s.set.copies[i]
}

// tree opens the copy for reading. One that was made file by file also shows the
// volume as it is now, if it was kept what the copy has of it.
func (s *service) tree(c *shadow) (session.Tree, error) {
	root, done, err := openArea(c.ref.Area, c.copied.Root)
	if err != nil {
		return nil, err
	}
	defer done()
	var t session.Tree
	if c.caps.NeedsScope {
		o := localfs.StagedOptions{Copy: root, Unclaimed: c.copied.Unclaimed, Changed: s.changedSince(c)}
		if c.live != "" {
			o.Live, o.Scope = c.live, &c.scope
		}
		t, err = localfs.OpenStaged(o)
	} else {
		t, err = localfs.OpenTree(root, localfs.TreeOptions{Source: session.FromShadow, Changed: s.changedSince(c)})
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &vss.Error{Op: "open shadow copy", Object: c.ref.SnapshotID.String(), Code: vss.ErrObjectNotFound, Err: err}
	}
	return t, err
}

// Live implements [session.Data].
func (s *service) Live(ctx context.Context, id string) (session.Tree, error) {
	if err := s.open("Live"); err != nil {
		return nil, err
	}
	v, err := s.people.volume(ctx, id)
	if err != nil {
		return nil, err
	}
	return localfs.OpenTree(v.Root, localfs.TreeOptions{Source: session.FromLive})
}

// excluded tests a path against the patterns of [session.Options].Exclude, with
// what lies below a match.
func (s *service) excluded(name string) bool {
	for _, pattern := range s.opts.Exclude {
		for p := name; p != "/" && p != "."; p = path.Dir(p) {
			target := p
			if !strings.Contains(pattern, "/") {
				target = path.Base(p)
			}
			if ok, err := path.Match(pattern, target); err == nil && ok {
				return true
			}
		}
	}
	return false
}

// cacheDir is where kinds may keep results between runs.
func (s *service) cacheDir() string {
	dir := filepath.Join(s.opts.StateDir, "cache")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.log.Warn("nothing is remembered between runs", "error", err)
		return ""
	}
	return dir
}

// lookupEnv is the environment paths are expanded in (R-SET-8): that of the
// service.
func lookupEnv(name string) (string, bool) { return os.LookupEnv(name) }
