package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/unit"
	"golang.org/x/sys/unix"
)

// Discover implements [writer.Kind]. It looks at the processes that run
// PostgreSQL's server, whose working directory is the data directory, and at
// names and attributes of directories below the chosen paths; no data is read.
func (Kind) Discover(ctx context.Context, d writer.Discovery) ([]writer.Spec, error) {
	f := finder{ctx: ctx, exclude: d.Exclude, servers: servers(), have: make(map[string]bool)}
	if len(d.Stored) > 0 {
		return f.stored(d.Stored, d.Configs)
	}
	for _, c := range d.Configs {
		if err := f.configured(c); err != nil {
			return nil, err
		}
	}
	if !d.Auto {
		return f.specs, nil
	}
	for _, s := range f.servers {
		if !f.have[s.data] && (d.Everywhere() || f.concerns(d.Paths, s.data)) && !f.excluded(s.data) {
			if err := f.add(config{Data: s.data}, writer.Spec{Discovered: true}); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range d.Paths {
		if err := f.below(p); err != nil {
			return nil, fmt.Errorf("find PostgreSQL clusters below %s: %w", p, err)
		}
	}
	return f.specs, nil
}

type finder struct {
	ctx     context.Context
	exclude func(string) bool
	servers []server
	have    map[string]bool // data directories with a spec
	specs   []writer.Spec
}

// server is a process that serves a cluster.
type server struct {
	pid  int
	uid  uint32
	data string // its working directory
	bin  string // the directory of its program
}

// servers lists the postmasters on this machine: server processes whose parent is
// none in the same directory.
func servers() []server {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	found := make(map[int]server)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !isServer(pid) {
			continue
		}
		if s, ok := serverOf(pid); ok {
			found[pid] = s
		}
	}
	var list []server
	for pid, s := range found {
		if parent, ok := found[parentOf(pid)]; ok && parent.data == s.data {
			continue
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b server) int { return strings.Compare(a.data, b.data) })
	return list
}

// serverOf looks at one server process. One that has its directories elsewhere
// under the same name, as in a container, is not ours to read.
func serverOf(pid int) (server, bool) {
	proc := fmt.Sprintf("/proc/%d", pid)
	data, err := os.Readlink(proc + "/cwd")
	if err != nil {
		return server{}, false
	}
	there, err1 := os.Stat(proc + "/cwd")
	here, err2 := os.Lstat(data)
	var st unix.Stat_t
	if err1 != nil || err2 != nil || !os.SameFile(there, here) || unix.Stat(proc, &st) != nil {
		return server{}, false
	}
	// The server itself works in no directory but its user's. A program of that name
	// in another's is not to take the server's place.
	if dir, ok := here.Sys().(*syscall.Stat_t); !ok || dir.Uid != st.Uid {
		return server{}, false
	}
	// A server that is just being started is still in its starter's directory, and
	// one that makes a new cluster serves none.
	if _, err := os.Lstat(filepath.Join(data, "PG_VERSION")); err != nil {
		return server{}, false
	}
	exe, err := os.Readlink(proc + "/exe")
	if err != nil {
		return server{}, false
	}
	return server{pid: pid, uid: st.Uid, data: data, bin: filepath.Dir(exe)}, true
}

// parentOf gives a process's parent, 0 if it cannot be told.
func parentOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // "S 1 ..." after the command's name
	if i := strings.LastIndex(string(b), ") "); i >= 0 {
		rest = string(b[i+2:])
	}
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}

// running finds the server of a data directory.
func (f *finder) running(data string) (server, bool) {
	for _, s := range f.servers {
		if s.data == data {
			return s, true
		}
	}
	return server{}, false
}

// configured adds a cluster that somebody named.
func (f *finder) configured(c writer.Config) error {
	conf, err := parseGiven(c.Config)
	if err != nil {
		return err
	}
	conf.Data = real(conf.Data)
	if f.have[conf.Data] {
		return fmt.Errorf("configuration of %s writers: %s is named twice", KindName, conf.Data)
	}
	return f.add(conf, writer.Spec{Name: c.Name, Required: c.Required})
}

// real gives a path without links, as far as it is there.
func real(path string) string {
	path = filepath.Clean(path)
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return path
}

// add completes a specification by what the directory and its server say.
func (f *finder) add(c config, s writer.Spec) error {
	s.Kind = KindName
	if s.Name == "" {
		s.Name = KindName + ":" + c.Data
	}
	if len(s.Owner.Groups) == 0 {
		var st unix.Stat_t
		if err := unix.Lstat(c.Data, &st); err != nil {
			// New says what is wrong with it.
			st.Uid, st.Gid = uint32(os.Geteuid()), uint32(os.Getegid())
		}
		s.Owner = lookUp(st.Uid, st.Gid)
	}
	s.Unit, s.UnitConfigured = c.Unit, c.Unit != ""
	if srv, ok := f.running(c.Data); ok && srv.uid == s.Owner.UID {
		if c.Bin == "" {
			c.Bin = srv.bin
		}
		if s.Unit == "" {
			s.Unit, _ = unit.OfProcess(srv.pid) // without, the server is started by itself
		}
	} else if s.Unit == "" {
		s.Unit = unit.StoppedFor(KindName, s.Name)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	s.Config = raw
	f.have[c.Data] = true
	f.specs = append(f.specs, s)
	return nil
}

// concerns reports whether a cluster has files below one of the chosen paths, or
// lies around one of them.
func (f *finder) concerns(paths []string, data string) bool {
	roots := []string{data}
	links := []string{filepath.Join(data, "pg_wal")}
	entries, _ := os.ReadDir(filepath.Join(data, "pg_tblspc")) // what cannot be read has no files of ours
	for _, e := range entries {
		links = append(links, filepath.Join(data, "pg_tblspc", e.Name()))
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && filepath.IsAbs(to) {
			roots = append(roots, real(to))
		}
	}
	for _, p := range paths {
		p = real(p)
		for _, r := range roots {
			if within(p, r) || within(r, p) {
				return true
			}
		}
	}
	return false
}

// within reports whether a path is a directory or lies below it.
func within(dir, path string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

func (f *finder) excluded(path string) bool { return f.exclude != nil && f.exclude(path) }

// stored answers with a writer for each cluster of a backup. What the
// configuration says of it holds as well: how to connect, and which unit.
func (f *finder) stored(stored []writer.Stored, configs []writer.Config) ([]writer.Spec, error) {
	known := make(map[string]config)
	for _, c := range configs {
		conf, err := parseGiven(c.Config)
		if err != nil {
			return nil, err
		}
		known[real(conf.Data)] = conf
	}
	for _, s := range stored {
		id := s.Metadata.Identity()
		if id.ClassID != classID {
			continue
		}
		data, err := clusterOf(s.Metadata)
		if err != nil {
			return nil, fmt.Errorf("stored writer %q: %w", id.InstanceName, err)
		}
		if f.have[data] {
			continue
		}
		conf := known[data]
		conf.Data, conf.found = data, placesOf(s.Metadata, data)
		conf.System = id.InstanceName
		owner := lookUp(s.Owner.UID, s.Owner.GID)
		var st unix.Stat_t
		if owner.UID == 0 && unix.Lstat(data, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			// Nobody runs a cluster as root; who has the directory does.
			owner = lookUp(st.Uid, st.Gid)
		}
		// One whose unit nobody configured counts as discovered: if it cannot be
		// started it fails alone, and not the whole restore.
		if err := f.add(conf, writer.Spec{Name: KindName + ":" + data, Owner: owner, Discovered: conf.Unit == ""}); err != nil {
			return nil, err
		}
	}
	return f.specs, nil
}

// clusterOf finds the data directory in a stored document.
func clusterOf(m *metadata.WriterMetadata) (string, error) {
	for _, c := range m.Components() {
		if c.LogicalPath == "" {
			return c.Name, checkPath(c.Name)
		}
	}
	return "", fmt.Errorf("it has no component of a cluster")
}

// placesOf finds where a stored document has the log and the tablespaces.
func placesOf(m *metadata.WriterMetadata, data string) found {
	f := found{Restore: true, WAL: filepath.Join(data, "pg_wal")}
	for _, c := range m.Components() {
		switch oid, is := strings.CutPrefix(c.Name, "tablespace "); {
		case c.LogicalPath == "":
			if sets := c.Files(metadata.DatabaseLogFiles); len(sets) > 0 && checkPath(sets[0].Path) == nil {
				f.WAL = sets[0].Path
			}
		case is && len(c.FileSets) > 0:
			dir := filepath.Dir(c.FileSets[0].Path)
			if _, err := strconv.ParseUint(oid, 10, 32); err == nil && checkPath(dir) == nil && len(f.Spaces) < maxSpaces {
				f.Spaces = append(f.Spaces, space{OID: oid, Dir: dir})
			}
		}
	}
	return f
}
