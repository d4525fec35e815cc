package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/volumeid"
	"golang.org/x/sys/unix"
)

// config is what Discover tells New of a database, in Spec.Config. A person gives
// the path alone; see parseConfig.
type config struct {
	// Path is the database file, absolute. Links in it are resolved once, when
	// the writer is found.
	Path string `json:"path"`
	// Restore says that the file may be absent, or anything.
	Restore bool `json:"restore,omitempty"`
	// Raw is the path if that is not text, which JSON cannot hold; Path is then
	// for messages.
	Raw []byte `json:"raw,omitempty"`
	// Seen is the file as it was found, for discovered ones.
	Seen *seen `json:"seen,omitempty"`
}

// parseConfig reads what a person wrote, which is the path and nothing else. It
// need not be absolute.
func parseConfig(raw json.RawMessage) (path string, err error) {
	var c struct {
		Path string `json:"path"`
	}
	if len(raw) == 0 {
		return "", nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return "", fmt.Errorf("configuration of a %s writer: %w", KindName, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return "", fmt.Errorf("configuration of a %s writer: it goes on after its object", KindName)
	}
	return c.Path, nil
}

// maxCandidates bounds how many files are offered for a closer look.
const maxCandidates = 100_000

// Discover implements [writer.Kind]. It reads directories and attributes only.
// Whether a file is a database is found by New, with its owner's rights; which
// are not is kept in d.CacheDir by Rejected.
func (Kind) Discover(ctx context.Context, d writer.Discovery) ([]writer.Spec, error) {
	if len(d.Stored) > 0 {
		return storedSpecs(d.Stored)
	}
	f := finder{ctx: ctx, exclude: d.Exclude, owners: make(owners), found: make(map[inode]*find), volumes: make(map[string]string)}
	for _, c := range d.Configs {
		if err := f.configured(c); err != nil {
			return nil, err
		}
	}
	if !d.Auto {
		return f.specs(), nil
	}
	var err error
	if f.known, err = loadRejects(d.CacheDir); err != nil {
		return nil, fmt.Errorf("find SQLite databases: %w", err)
	}
	for _, p := range d.Paths {
		if err := f.below(p); err != nil {
			return nil, fmt.Errorf("find SQLite databases below %s: %w", p, err)
		}
	}
	return f.specs(), nil
}

// Rejected implements [writer.Rejecter].
func (Kind) Rejected(_ context.Context, cacheDir string, specs []writer.Spec) error {
	if cacheDir == "" || len(specs) == 0 {
		return nil
	}
	r, err := loadRejects(cacheDir)
	if err != nil {
		return fmt.Errorf("remember what is no SQLite database: %w", err)
	}
	for _, s := range specs {
		var c config
		if json.Unmarshal(s.Config, &c) == nil && c.Seen != nil {
			r.add(*c.Seen)
		}
	}
	if err := r.save(cacheDir); err != nil {
		return fmt.Errorf("remember what is no SQLite database: %w", err)
	}
	return nil
}

// find is a file that was found.
type find struct {
	path string
	stat unix.Stat_t
	// companion: a -wal or -journal lies beside it under this name.
	companion bool
	spec      writer.Spec // of a configured one
}

type finder struct {
	ctx     context.Context
	exclude func(string) bool
	known   *rejects
	owners  owners
	found   map[inode]*find
	missing []writer.Spec // configured ones that are not there
	volumes map[string]string
	buf     []byte // that directories are read into
}

// configured adds a database that somebody named. One that cannot be served is
// offered all the same: New says what is wrong with it.
func (f *finder) configured(c writer.Config) error {
	path, err := parseConfig(c.Config)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(path) {
		return fmt.Errorf("configuration of a %s writer: path %q is not absolute; give the database's full path", KindName, path)
	}
	path = filepath.Clean(path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	spec := writer.Spec{Kind: KindName, Name: c.Name, Required: c.Required}
	st, err := statNoLinks(path)
	if err != nil {
		spec.Owner = writer.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
		f.missing = append(f.missing, f.complete(spec, config{Path: path}))
		return nil
	}
	if other, ok := f.found[inodeOf(&st)]; ok {
		return fmt.Errorf("configuration of %s writers: %s and %s are the same file; SQLite allows a database one name only", KindName, other.path, path)
	}
	spec.Owner = f.owners.of(&st)
	f.found[inodeOf(&st)] = &find{path: path, stat: st, spec: f.complete(spec, config{Path: path})}
	return nil
}

// below adds the candidates below a path, which may be a file too. Only the path
// itself may be reached through symbolic links. A link that leads nowhere has
// nothing below it: it is backed up as a link.
func (f *finder) below(name string) error {
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		if info, lerr := os.Lstat(name); lerr == nil && info.Mode()&os.ModeSymlink != 0 {
			return nil
		}
		return err
	}
	st, err := statNoLinks(path)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		name := filepath.Base(path)
		return f.consider(path, st, hasCompanion(path), candidate(name))
	}
	fd, err := openNoLinks(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if pseudo(fd) {
		return nil
	}
	return f.walk(openDir{fd, path}, uint64(st.Dev))
}

// openDir is an open directory.
type openDir struct {
	fd   int
	path string
}

// walk looks at a directory and all below it. Each directory is opened from the
// one above, so that nobody can lead the walk elsewhere by putting a link in its
// place. It ends where paths become too long for SQLite.
func (f *finder) walk(dir openDir, dev uint64) error {
	var below []string
	var files map[string]bool // and whether a companion was seen
	note := func(name string, companion bool) {
		if files == nil {
			files = make(map[string]bool)
		}
		files[name] = files[name] || companion
	}
	err := f.eachName(dir.fd, func(name []byte, kind byte) {
		n := string(name)
		if base, ok := companion(n); ok {
			note(base, true)
			return
		}
		if kind == unix.DT_UNKNOWN {
			var st unix.Stat_t
			if unix.Fstatat(dir.fd, n, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT) != nil {
				return
			}
			kind = byte(st.Mode & unix.S_IFMT >> 12) // what DT_ stands for
		}
		switch {
		case kind == unix.DT_DIR && n != ".sombra":
			below = append(below, n)
		case kind == unix.DT_REG && candidate(n):
			note(n, false)
		}
	})
	if err != nil {
		return err
	}
	if err := f.files(dir, files); err != nil {
		return err
	}
	slices.Sort(below)
	for _, name := range below {
		if err := f.descend(dir, name, dev); err != nil {
			return err
		}
	}
	return nil
}

// eachName calls fn for each name in a directory with its type (DT_). It ends
// where reading is not allowed.
func (f *finder) eachName(fd int, fn func(name []byte, kind byte)) error {
	if f.buf == nil {
		f.buf = make([]byte, 64<<10)
	}
	for {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Getdents(fd, f.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return nil
		}
		const nameAt = 19 // of struct linux_dirent64
		for block := f.buf[:n]; len(block) > nameAt; {
			size := int(binary.NativeEndian.Uint16(block[16:]))
			if size < nameAt || size > len(block) {
				return nil // no kernel gives this
			}
			name, _, _ := bytes.Cut(block[nameAt:size], []byte{0})
			if s := string(name); s != "." && s != ".." && s != "" {
				fn(name, block[18])
			}
			block = block[size:]
		}
	}
}

func (f *finder) files(dir openDir, names map[string]bool) error {
	for name, withCompanion := range names {
		var st unix.Stat_t
		if unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue // gone, or a journal without its database
		}
		if err := f.consider(filepath.Join(dir.path, name), st, withCompanion, candidate(name)); err != nil {
			return err
		}
	}
	return nil
}

// descend walks a directory's subdirectory. One that has gone, is a link now, or
// may not be read is passed over.
func (f *finder) descend(parent openDir, name string, dev uint64) error {
	path := filepath.Join(parent.path, name)
	if len(path) >= maxPath || f.excluded(path) {
		return nil
	}
	// Nothing is opened yet, so that no automatic mount is set off.
	handle, err := unix.Openat(parent.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(handle)
	var st unix.Stat_t
	if unix.Fstat(handle, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if uint64(st.Dev) != dev && pseudo(handle) {
		return nil
	}
	fd, err := unix.Openat(handle, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	return f.walk(openDir{fd, path}, uint64(st.Dev))
}

// consider takes a file as a candidate.
func (f *finder) consider(path string, st unix.Stat_t, withCompanion, byName bool) error {
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size < headerSize || !withCompanion && !byName || beside(filepath.Base(path)) {
		return nil
	}
	if f.excluded(path) || f.known.has[seenOf(&st)] {
		return nil
	}
	id := inodeOf(&st)
	if other, ok := f.found[id]; ok {
		// A second name of the same file. The one that SQLite has used is the
		// one it will look for its journal by.
		if other.spec.Kind == "" && (withCompanion && !other.companion || withCompanion == other.companion && path < other.path) {
			*other = find{path: path, stat: st, companion: withCompanion}
		}
		return nil
	}
	if len(f.found) >= maxCandidates {
		return fmt.Errorf("there are more than %d files with names like a database's; name the databases in the configuration and turn finding them off, or exclude directories", maxCandidates)
	}
	f.found[id] = &find{path: path, stat: st, companion: withCompanion}
	return nil
}

func (f *finder) excluded(path string) bool { return f.exclude != nil && f.exclude(path) }

// specs gives what was found, in the order of the paths.
func (f *finder) specs() []writer.Spec {
	all := f.missing
	for _, one := range f.found {
		spec := one.spec
		if spec.Kind == "" {
			s := seenOf(&one.stat)
			spec = f.complete(writer.Spec{Kind: KindName, Owner: f.owners.of(&one.stat), Discovered: true}, config{Path: one.path, Seen: &s})
		}
		all = append(all, spec)
	}
	slices.SortFunc(all, func(a, b writer.Spec) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// complete fills in the configuration and, if nobody gave one, the instance
// name: the real path and the volume's id, which survive restarts.
func (f *finder) complete(s writer.Spec, c config) writer.Spec {
	dir := filepath.Dir(c.Path)
	if shown := plain(c.Path); shown != c.Path {
		c.Raw, c.Path = []byte(c.Path), shown
	}
	s.Config, _ = json.Marshal(c) // text, bytes and numbers only
	if s.Name != "" {
		return s
	}
	volume, ok := f.volumes[dir]
	if !ok {
		volume = volumeid.Of(dir)
		f.volumes[dir] = volume
	}
	s.Name = KindName + ":" + c.Path
	if volume != "" {
		s.Name += "@" + volume
	}
	return s
}

func seenOf(st *unix.Stat_t) seen {
	return seen{Dev: uint64(st.Dev), Ino: st.Ino, Ctime: st.Ctim.Nano()}
}

func hasCompanion(path string) bool {
	for _, ending := range []string{"-wal", "-journal"} {
		if _, err := os.Lstat(path + ending); err == nil {
			return true
		}
	}
	return false
}

// pseudoTypes are file systems that hold no files of anybody's: the kernel's
// windows, and automatic mounts not yet made.
var pseudoTypes = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
	unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.PSTOREFS_MAGIC,
	unix.DEVPTS_SUPER_MAGIC, unix.EFIVARFS_MAGIC, unix.SELINUX_MAGIC, unix.BINFMTFS_MAGIC, unix.NSFS_MAGIC,
	unix.AUTOFS_SUPER_MAGIC, unix.HUGETLBFS_MAGIC, unix.RDTGROUP_SUPER_MAGIC, unix.XENFS_SUPER_MAGIC,
	0x65735543, // fuse control
	0x62656570, // configfs
	0x19800202, // mqueue
}

func pseudo(fd int) bool {
	var fs unix.Statfs_t
	err := unix.Fstatfs(fd, &fs)
	return err != nil || slices.Contains(pseudoTypes, int64(fs.Type))
}

// storedSpecs answers with a writer for each database of a backup.
func storedSpecs(stored []writer.Stored) ([]writer.Spec, error) {
	var specs []writer.Spec
	for _, s := range stored {
		id := s.Metadata.Identity()
		if id.ClassID != classID {
			continue
		}
		components := s.Metadata.Components()
		if len(components) != 1 {
			return nil, fmt.Errorf("stored writer %q has %d components; a %s writer has one", id.InstanceName, len(components), KindName)
		}
		path := components[0].Name
		if err := checkPath(path); err != nil {
			return nil, fmt.Errorf("stored writer %q: %w", id.InstanceName, err)
		}
		owner := s.Owner
		if len(owner.Groups) == 0 {
			owner.Groups = lookUp(owner.UID, owner.GID).Groups
		}
		conf, _ := json.Marshal(config{Path: path, Restore: true})
		specs = append(specs, writer.Spec{Kind: KindName, Name: id.InstanceName, Owner: owner, Config: conf})
	}
	return specs, nil
}
