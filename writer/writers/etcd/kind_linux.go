package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/owner"
	"github.com/sombra-backup/sombra/writer/unit"
	"github.com/sombra-backup/sombra/writer/volumeid"
)

// Discover implements [writer.Kind]. It reads /proc and attributes only.
func (Kind) Discover(_ context.Context, d writer.Discovery) ([]writer.Spec, error) {
	procs, err := servers()
	if err != nil {
		return nil, err
	}
	f := finder{procs: procs}
	for _, c := range d.Configs {
		conf, err := parseConfig(c.Config)
		if err != nil {
			return nil, err
		}
		if real, err := filepath.EvalSymlinks(conf.Directory); err == nil {
			conf.Directory = real
		}
		if f.find(conf.Directory) >= 0 {
			return nil, fmt.Errorf("configuration of etcd writers: two of them are for %s", conf.Directory)
		}
		f.add(writer.Spec{Name: c.Name, Required: c.Required}, conf)
	}
	if len(d.Stored) > 0 {
		return f.stored(d.Stored)
	}
	if d.Auto {
		for _, p := range procs {
			if f.find(p.dir) < 0 && chosen(p, d) {
				f.add(writer.Spec{Discovered: true}, config{Directory: p.dir})
			}
		}
	}
	slices.SortFunc(f.specs, func(a, b writer.Spec) int { return strings.Compare(a.Name, b.Name) })
	return f.specs, nil
}

// chosen reports whether a server's data may have files among what is backed up.
func chosen(p process, d writer.Discovery) bool {
	if d.Exclude != nil && d.Exclude(p.dir) {
		return false
	}
	return d.Everywhere() || slices.ContainsFunc(d.Paths, func(path string) bool {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		return below(p.dir, path) || below(path, p.dir) || p.wal != "" && (below(p.wal, path) || below(path, p.wal))
	})
}

// below reports whether a path is another or below it.
func below(path, top string) bool {
	rel, err := filepath.Rel(top, path)
	return err == nil && filepath.IsLocal(rel)
}

type finder struct {
	procs []process
	specs []writer.Spec
	confs []config // of specs
}

func (f *finder) find(dir string) int {
	return slices.IndexFunc(f.confs, func(c config) bool { return c.Directory == dir })
}

// add completes a specification with what runs there, and takes it in. The instance
// name is the real path and the volume's id, which survive restarts.
func (f *finder) add(s writer.Spec, c config) {
	restore := c.Found != nil && c.Found.Restore
	c.Found = &found{Restore: restore}
	s.Kind = KindName
	if s.Name == "" {
		s.Name = KindName + ":" + c.Directory
		if id := volumeid.Of(c.Directory); id != "" {
			s.Name += "@" + id
		}
	}
	if i := slices.IndexFunc(f.procs, func(p process) bool { return p.dir == c.Directory }); i >= 0 {
		p := f.procs[i]
		c.Found.PID, c.Found.Command = p.pid, p.command
		c.WAL, s.Owner = p.wal, p.owner
		s.Unit, _ = unit.OfProcess(p.pid) // of one that has just ended New will tell
	} else {
		s.Unit = unit.StoppedFor(KindName, s.Name)
		if who, err := owner.OfFile(c.Directory); err == nil {
			s.Owner = who
		} else if !restore { // New says that it is not there
			s.Owner = owner.Of(uint32(os.Geteuid()), uint32(os.Getegid()))
		}
	}
	if c.Unit != "" {
		s.Unit, s.UnitConfigured = c.Unit, true
	}
	s.Config, _ = json.Marshal(c) // text and numbers only
	f.specs, f.confs = append(f.specs, s), append(f.confs, c)
}

// stored answers with a writer for each server of a backup. The backup says the
// place alone; how the server is stopped and started comes from the process that
// runs there and from the configuration.
func (f *finder) stored(stored []writer.Stored) ([]writer.Spec, error) {
	known := *f
	f.specs, f.confs = nil, nil
	for _, s := range stored {
		id := s.Metadata.Identity()
		if id.ClassID != classID {
			continue
		}
		components := s.Metadata.Components()
		if len(components) != 1 || checkDir(components[0].Name) != nil {
			return nil, fmt.Errorf("stored writer %q: its document is none of an etcd writer", id.InstanceName)
		}
		spec, c := writer.Spec{Discovered: true, Owner: s.Owner}, config{Directory: components[0].Name, WAL: walOf(components[0])}
		if i := known.find(c.Directory); i >= 0 {
			spec, c = known.specs[i], known.confs[i]
		}
		spec.Name = id.InstanceName
		c.Found = &found{Restore: true}
		f.add(spec, c)
	}
	return f.specs, nil
}

// New implements [writer.Kind].
func (Kind) New(ctx context.Context, s writer.Spec) (writer.Writer, error) {
	var c config
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return nil, fmt.Errorf("configuration of an etcd writer: %w", err)
	}
	if c.Found == nil {
		c.Found = new(found)
	}
	for _, dir := range []string{c.Directory, c.walDir()} {
		if err := checkDir(dir); err != nil {
			return nil, err
		}
	}
	w := newWriter(c, s)
	if c.Found.Restore {
		return w, nil
	}
	for _, dir := range []string{c.Directory, c.walDir()} {
		if err := errors.Join(checkOwner(dir), owner.Closed(dir)); err != nil {
			return nil, err
		}
	}
	if err := w.learn(ctx); err != nil {
		if s.Discovered && errors.Is(err, errGone) {
			return nil, fmt.Errorf("%w: %w", writer.ErrNotMine, err)
		}
		return nil, fmt.Errorf("the etcd server of %s: %w", c.Directory, err)
	}
	return w, nil
}

// checkOwner makes sure that a directory belongs to this process's user: else
// anybody could claim another's files by a process that has them open.
func checkOwner(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return vss.Errorf(vss.ErrObjectNotFound, "look at", dir, "%w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is no directory of user id %d, as which the server runs", dir, os.Geteuid())
	}
	return nil
}
