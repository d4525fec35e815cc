package redis

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/unit"
	"github.com/sombra-backup/sombra/writer/volumeid"
	"golang.org/x/sys/unix"
)

// config is a writer's configuration. A person gives the first fields, by one of
// the first three the server is found; Discover adds the others.
type config struct {
	// Directory is that of the data, absolute.
	Directory string `json:"directory,omitempty"`
	// Socket is the path of a unix socket, Address "host:port" of the loopback
	// interface.
	Socket  string `json:"socket,omitempty"`
	Address string `json:"address,omitempty"`
	// Username is the server's user to connect as; empty means its default one.
	Username string `json:"username,omitempty"`
	// PasswordFile holds its password. Without one it is looked for in the
	// server's own configuration file.
	PasswordFile string `json:"password_file,omitempty"`
	// Unit is the unit of systemd that runs the server, where it cannot be
	// found out.
	Unit string `json:"unit,omitempty"`
	// AnyVersion allows versions that no test has met.
	AnyVersion bool `json:"any_version,omitempty"`
	// SaveLimit is the longest that writes may be held for a save, such as
	// "10s", for a server without an append-only file.
	SaveLimit string `json:"save_limit,omitempty"`

	Found *found `json:"found,omitempty"`
}

// found is what Discover adds.
type found struct {
	// PID is the running server's, 0 if none runs.
	PID     int        `json:"pid,omitempty"`
	Listens []endpoint `json:"listens,omitempty"`
	Program string     `json:"program,omitempty"`
	Args    []string   `json:"args,omitempty"`
	// Others are the processes of servers that work in other directories.
	Others []int `json:"others,omitempty"`
	// Restore says that the directory may be absent, or hold anything. Stored
	// is then what the backup's document has.
	Restore bool   `json:"restore,omitempty"`
	Stored  layout `json:"stored,omitzero"`
}

// layout is which files a backup has.
type layout struct {
	AOF     bool   `json:"aof,omitempty"`
	RDB     string `json:"rdb,omitempty"`
	AOFDir  string `json:"aof_dir,omitempty"`
	AOFBase string `json:"aof_base,omitempty"`
}

// layoutOf reads a stored component's file sets.
func layoutOf(c *metadata.ComponentInfo) (layout, error) {
	n := defaultNames()
	l := layout{RDB: n.rdb, AOFDir: n.aofDir, AOFBase: n.aofBase}
	for _, set := range c.FileSets {
		base, isManifest := strings.CutSuffix(set.Pattern, ".manifest")
		switch {
		case set.Path == c.Name && !isManifest:
			l.RDB = set.Pattern
		case isManifest && filepath.Dir(set.Path) == c.Name:
			l.AOF, l.AOFDir, l.AOFBase = true, filepath.Base(set.Path), base
		}
	}
	return l, l.names().check()
}

func (l layout) names() names { return names{l.RDB, l.AOFDir, l.AOFBase} }

// parseConfig reads what a person wrote.
func parseConfig(raw json.RawMessage) (config, error) {
	var c config
	if len(raw) > 0 {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil {
			return c, fmt.Errorf("configuration of a %s writer: %w", KindName, err)
		}
	}
	if c.Found != nil {
		return c, fmt.Errorf("configuration of a %s writer: unknown field \"found\"", KindName)
	}
	if c.Directory == "" && c.Socket == "" && c.Address == "" {
		return c, fmt.Errorf("configuration of a %s writer: it names no server; give socket, address or directory", KindName)
	}
	for name, path := range map[string]string{"directory": c.Directory, "socket": c.Socket, "password_file": c.PasswordFile} {
		if path != "" && !filepath.IsAbs(path) {
			return c, fmt.Errorf("configuration of a %s writer: %s %q is not absolute", KindName, name, path)
		}
	}
	if c.Address != "" {
		at, err := netip.ParseAddrPort(c.Address)
		if err != nil || !at.Addr().IsLoopback() {
			return c, fmt.Errorf("configuration of a %s writer: address %q is none of the loopback interface, such as 127.0.0.1:6379; nothing else is spoken to, as nothing is encrypted", KindName, c.Address)
		}
	}
	_, err := c.saveLimit(false)
	return c, err
}

// Discover implements [writer.Kind]. It reads /proc and attributes only.
func (Kind) Discover(_ context.Context, d writer.Discovery) ([]writer.Spec, error) {
	procs, err := servers()
	if err != nil {
		return nil, err
	}
	f := finder{procs: procs}
	for _, c := range d.Configs {
		if err := f.configured(c); err != nil {
			return nil, err
		}
	}
	if len(d.Stored) > 0 {
		return f.stored(d.Stored)
	}
	if d.Auto {
		for _, p := range procs {
			if chosen(p.dir, d) && !f.taken(p.dir) && settled(p) {
				f.add(writer.Spec{Discovered: true}, config{Directory: p.dir}, &p)
			}
		}
	}
	slices.SortFunc(f.specs, func(a, b writer.Spec) int { return strings.Compare(a.Name, b.Name) })
	return f.specs, nil
}

// settled reports whether a server works in the directory of its data. One that
// just starts is still where it was called, often in /, listens nowhere yet, and
// has no data there.
func settled(p process) bool {
	if len(p.listens) > 0 {
		return true
	}
	n := defaultNames()
	for _, name := range []string{n.rdb, n.aofDir} {
		if _, err := os.Lstat(filepath.Join(p.dir, name)); err == nil {
			return true
		}
	}
	return false
}

// chosen reports whether a server's data may have files among what is backed up.
func chosen(dir string, d writer.Discovery) bool {
	if d.Exclude != nil && d.Exclude(dir) {
		return false
	}
	return d.Everywhere() || slices.ContainsFunc(d.Paths, func(p string) bool {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		return below(dir, p) || below(p, dir)
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

func (f *finder) taken(dir string) bool {
	return slices.ContainsFunc(f.confs, func(c config) bool { return c.Directory == dir })
}

// configured adds a server that somebody named.
func (f *finder) configured(c writer.Config) error {
	conf, err := parseConfig(c.Config)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(conf.Directory); err == nil && conf.Directory != "" {
		conf.Directory = real
	}
	p := f.match(conf)
	if p != nil {
		conf.Directory = p.dir
	}
	if conf.Directory == "" {
		return fmt.Errorf("configuration of a %s writer: no server listens on %s; start it, or give the directory of its data too", KindName, conf.Socket+conf.Address)
	}
	if f.taken(conf.Directory) {
		return fmt.Errorf("configuration of %s writers: two of them are for %s", KindName, conf.Directory)
	}
	f.add(writer.Spec{Name: c.Name, Required: c.Required}, conf, p)
	return nil
}

// match finds the process of a configured server.
func (f *finder) match(c config) *process {
	want := []endpoint{{"tcp", c.Address}, {"unix", c.Socket}}
	if real, err := filepath.EvalSymlinks(c.Socket); err == nil {
		want = append(want, endpoint{"unix", real})
	}
	for i, p := range f.procs {
		if c.Directory != "" && p.dir != c.Directory {
			continue
		}
		if c.Socket == "" && c.Address == "" || slices.ContainsFunc(p.listens, func(e endpoint) bool { return slices.Contains(want, e) }) {
			return &f.procs[i]
		}
	}
	return nil
}

// add adds a writer, of a running server or of the data of one that does not run.
func (f *finder) add(s writer.Spec, c config, p *process) {
	c.Found = new(found)
	if p != nil {
		*c.Found = found{PID: p.pid, Listens: p.listens, Program: p.program, Args: p.args}
		s.Owner = p.owner
		s.Unit, _ = unit.OfProcess(p.pid) // of one that has just ended New will tell
	} else {
		s.Owner = dirOwner(c.Directory)
	}
	f.complete(s, c)
}

// complete fills in the configuration and, if nobody gave one, the instance name:
// the real path and the volume's id, which survive restarts.
func (f *finder) complete(s writer.Spec, c config) {
	s.Kind = KindName
	if s.Name == "" {
		s.Name = KindName + ":" + c.Directory
		if id := volumeid.Of(c.Directory); id != "" {
			s.Name += "@" + id
		}
	}
	for _, p := range f.procs {
		if p.dir != c.Directory {
			c.Found.Others = append(c.Found.Others, p.pid)
		}
	}
	if c.Unit != "" {
		s.Unit, s.UnitConfigured = c.Unit, true
	} else if s.Unit == "" {
		s.Unit = unit.StoppedFor(KindName, s.Name)
	}
	s.Config, _ = json.Marshal(c) // text and numbers only
	f.specs, f.confs = append(f.specs, s), append(f.confs, c)
}

// dirOwner gives the owner of a directory; of one that is not there New says so.
func dirOwner(dir string) writer.Owner {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return writer.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	}
	return writer.Owner{UID: st.Uid, GID: st.Gid, Groups: []uint32{st.Gid}}
}

// stored answers with a writer for each server of a backup. What the backup says
// is the place alone; how the server is reached and started comes from the process
// that runs there and from the configuration.
func (f *finder) stored(stored []writer.Stored) ([]writer.Spec, error) {
	known := f.specs
	confs := f.confs
	f.specs, f.confs = nil, nil
	for _, s := range stored {
		id := s.Metadata.Identity()
		if id.ClassID != classID {
			continue
		}
		components := s.Metadata.Components()
		if len(components) != 1 || checkDir(components[0].Name) != nil {
			return nil, fmt.Errorf("stored writer %q: its document is none of a %s writer", id.InstanceName, KindName)
		}
		dir := components[0].Name
		spec, c := writer.Spec{Owner: s.Owner}, config{Directory: dir}
		if i := slices.IndexFunc(confs, func(c config) bool { return c.Directory == dir }); i >= 0 {
			spec, c = known[i], confs[i]
		} else if p := f.match(config{Directory: dir}); p != nil {
			f.add(writer.Spec{Discovered: true}, c, p)
			last := len(f.specs) - 1
			spec, c = f.specs[last], f.confs[last]
			f.specs, f.confs = f.specs[:last], f.confs[:last]
		}
		if c.Found == nil {
			c.Found = new(found)
		}
		c.Found.Restore = true
		var err error
		if c.Found.Stored, err = layoutOf(components[0]); err != nil {
			return nil, fmt.Errorf("stored writer %q: %w", id.InstanceName, err)
		}
		spec.Name = id.InstanceName
		f.complete(spec, c)
	}
	return f.specs, nil
}

// checkDir says why a directory cannot be one of a component. It becomes a
// component's name and a part of file specifications, which must stand for exactly
// this directory.
func checkDir(dir string) error {
	switch {
	case dir == "/":
		return errors.New("a server that keeps its data in the root directory is not served; set dir in its configuration to a directory of its own")
	case !filepath.IsAbs(dir) || filepath.Clean(dir) != dir:
		return fmt.Errorf("directory %.200q is not an absolute path in its shortest form", dir)
	case !plainText(dir):
		return fmt.Errorf("directory %.200q is not plain text; rename it", dir)
	case strings.Contains(dir, `\`) || vss.HasWildcard(dir):
		return fmt.Errorf("directory %.200q holds one of \\ * ?, which file specifications do not allow; rename it", dir)
	}
	_, err := vss.ExpandEnv(dir, func(string) (string, bool) { return "", false })
	if err != nil {
		return fmt.Errorf("directory %.200q has a part between percent signs, which file specifications take for a variable; rename it", dir)
	}
	return nil
}

// checkName says why a file's name cannot be in a file specification.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, `/\`) || vss.HasWildcard(name) || !plainText(name) {
		return fmt.Errorf("file name %.200q cannot be named in a file specification; rename it", name)
	}
	return nil
}

var errNoServer = errors.New("no server runs")
