package mariadb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/unit"
	"github.com/sombra-backup/sombra/writer/volumeid"
	"golang.org/x/sys/unix"
)

// debianSocket is where Debian's server listens.
const debianSocket = "/run/mysqld/mysqld.sock"

// Discover implements [writer.Kind]. It finds running servers by their processes,
// and those that do not run by the files below the chosen paths.
func (Kind) Discover(ctx context.Context, d writer.Discovery) ([]writer.Spec, error) {
	f := finder{ctx: ctx, exclude: d.Exclude, running: make(map[string]process), found: make(map[string]bool)}
	for _, p := range processes() {
		f.running[p.dir] = p
	}
	if len(d.Stored) > 0 {
		return f.stored(d)
	}
	for _, c := range d.Configs {
		if err := f.configured(c); err != nil {
			return nil, err
		}
	}
	if !d.Auto {
		return f.specs, nil
	}
	if d.Everywhere() {
		for _, dir := range slices.Sorted(maps.Keys(f.running)) {
			if err := f.discovered(dir); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range d.Paths {
		if err := f.below(name); err != nil {
			return nil, fmt.Errorf("find MariaDB's data below %s: %w", name, err)
		}
	}
	return f.specs, nil
}

type finder struct {
	ctx     context.Context
	exclude func(string) bool
	running map[string]process // by data directory
	found   map[string]bool    // data directories that have a spec
	specs   []writer.Spec
}

// configured adds a server that somebody named. One that cannot be served is
// offered all the same: New says what is wrong with it.
func (f *finder) configured(c writer.Config) error {
	s, err := parseSettings(c.Config)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(s.Datadir); err == nil {
		s.Datadir = real
	}
	if f.found[s.Datadir] {
		return fmt.Errorf("configuration of %s writers: %s is named twice", KindName, s.Datadir)
	}
	return f.add(writer.Spec{Name: c.Name, Required: c.Required}, spec{settings: s})
}

// add completes a spec and keeps it.
func (f *finder) add(s writer.Spec, c spec) error {
	s.Kind = KindName
	p := f.running[c.Datadir]
	c.PID = p.pid
	if c.Socket == "" {
		c.Socket = p.socket
	}
	if s.Owner.Groups == nil {
		s.Owner = ownerOf(c.Datadir)
	}
	if s.Name == "" {
		s.Name = KindName + ":" + c.Datadir
		if id := volumeid.Of(c.Datadir); id != "" {
			s.Name += "@" + id
		}
	}
	switch s.Unit = c.Unit; {
	case s.Unit != "":
		s.UnitConfigured = true
	case p.pid != 0:
		s.Unit, _ = unit.OfProcess(p.pid) // without one the writer stops and starts the server by itself
	default:
		s.Unit = unit.StoppedFor(KindName, s.Name)
	}
	var err error
	if s.Config, err = json.Marshal(c); err != nil {
		return err
	}
	f.found[c.Datadir] = true
	f.specs = append(f.specs, s)
	return nil
}

// discovered adds a data directory that nobody named.
func (f *finder) discovered(dir string) error {
	if f.found[dir] || f.exclude != nil && f.exclude(dir) {
		return nil
	}
	return f.add(writer.Spec{Discovered: true}, spec{settings: settings{Datadir: dir}})
}

// below adds the data directories that a chosen path has below it or lies in. Only
// the path itself may be reached through symbolic links. A link that leads nowhere
// has nothing below it.
func (f *finder) below(name string) error {
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		if info, lerr := os.Lstat(name); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil
		}
		return err
	}
	var dirs []string
	for dir := range f.running {
		if within(dir, path) || within(path, dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		if err := f.discovered(dir); err != nil {
			return err
		}
	}
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if isDataDir(dir) {
			return f.discovered(dir)
		}
	}
	return f.walkFrom(path)
}

// within reports whether path is dir or lies in it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// ownerOf gives the identity that the writer of a data directory runs with. If that
// is not there, New says so, as this process's user.
func ownerOf(dir string) writer.Owner {
	var st unix.Stat_t
	if unix.Lstat(dir, &st) != nil {
		st.Uid, st.Gid = uint32(os.Geteuid()), uint32(os.Getegid())
	}
	return groupsOf(st.Uid, st.Gid)
}

// groupsOf asks the system for a user's groups. A user it does not know has the
// group of the data and no other.
func groupsOf(uid, gid uint32) writer.Owner {
	who := writer.Owner{UID: uid, GID: gid, Groups: []uint32{gid}}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return who
	}
	primary, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return who
	}
	who.GID, who.Groups = uint32(primary), []uint32{uint32(primary)}
	ids, _ := u.GroupIds() // without the list the user has the primary group
	for _, id := range ids {
		if g, err := strconv.ParseUint(id, 10, 32); err == nil && !slices.Contains(who.Groups, uint32(g)) {
			who.Groups = append(who.Groups, uint32(g))
		}
	}
	return who
}

// stored answers with a writer for each server of a backup. What the medium says
// is the path and the owner; all else is this host's.
func (f *finder) stored(d writer.Discovery) ([]writer.Spec, error) {
	configs := make(map[string]spec)
	for _, c := range d.Configs {
		s, err := parseSettings(c.Config)
		if err != nil {
			return nil, err
		}
		configs[s.Datadir] = spec{settings: s}
	}
	for _, s := range d.Stored {
		id := s.Metadata.Identity()
		if id.ClassID != classID {
			continue
		}
		components := s.Metadata.Components()
		if len(components) != 1 {
			return nil, fmt.Errorf("stored writer %q has %d components; a %s writer has one", id.InstanceName, len(components), KindName)
		}
		dir := components[0].Name
		if err := checkPath(dir); err != nil {
			return nil, fmt.Errorf("stored writer %q: %w", id.InstanceName, err)
		}
		var err error
		c := configs[dir]
		c.Datadir, c.Restore = dir, true
		if c.Places, err = placesOf(components[0], dir); err != nil {
			return nil, fmt.Errorf("stored writer %q: %w", id.InstanceName, err)
		}
		owner := s.Owner
		if len(owner.Groups) == 0 {
			owner.Groups = groupsOf(owner.UID, owner.GID).Groups
		}
		// One whose unit nobody configured counts as discovered: if it cannot be
		// started it fails alone, and not the whole restore.
		if err := f.add(writer.Spec{Name: id.InstanceName, Owner: owner, Discovered: c.Unit == ""}, c); err != nil {
			return nil, err
		}
	}
	return f.specs, nil
}

var errNoData = errors.New("no data directory of MariaDB")
