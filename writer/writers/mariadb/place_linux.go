package mariadb

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer/owner"
	"golang.org/x/sys/unix"
)

// place is where a server has files besides its data directory and the directories
// of its databases: redo log, undo logs, system tablespaces, logs, and tables made
// with DATA DIRECTORY.
type place struct {
	Dir     string `json:"dir"`
	Pattern string `json:"pattern"`
	Log     bool   `json:"log,omitempty"` // binary and relay logs, with their index
}

// maxPlaces bounds what a document may name.
const maxPlaces = 10000

// placesOf lists the places that a stored document names. It comes from a medium:
// what a mariadb writer never declares is refused, since files of these names are
// moved aside.
func placesOf(c *metadata.ComponentInfo, dir string) ([]place, error) {
	var list []place
	for _, s := range c.FileSets {
		if s.BackupType == logsOnly || s.Path == dir || filepath.Dir(s.Path) == dir && filepath.Base(s.Path)[0] != '.' {
			continue
		}
		p := place{Dir: s.Path, Pattern: s.Pattern, Log: s.Kind == metadata.DatabaseLogFiles}
		if err := p.valid(); err != nil || s.Recursive {
			return nil, errors.Join(fmt.Errorf("files %s in %s are none that a server of MariaDB has outside its data directory", s.Pattern, s.Path), err)
		}
		if list = append(list, p); len(list) > maxPlaces {
			return nil, fmt.Errorf("it names more than %d places outside the data directory", maxPlaces)
		}
	}
	return list, nil
}

func (p place) valid() error {
	if p.Pattern == "" || strings.ContainsAny(p.Pattern[:1], "*?") || strings.ContainsAny(p.Pattern, "/\x00") || p.Pattern == "." || p.Pattern == ".." {
		return fmt.Errorf("%.200q is no pattern for them", p.Pattern)
	}
	return checkPath(p.Dir)
}

// has reports whether a file of a name is the place's.
func (p place) has(name string) bool { return vss.MatchPattern(p.Pattern, name, false) }

// directories lists the directories of places, each once.
func directories(places []place) []string {
	var dirs []string
	for _, p := range places {
		dirs = append(dirs, p.Dir)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// join adds places that are not there yet.
func join(a, b []place) []place {
	for _, p := range b {
		if !slices.Contains(a, p) {
			a = append(a, p)
		}
	}
	return a
}

// whole is a place of which all files are moved.
func whole(dir string) place { return place{Dir: dir, Pattern: "*"} }

// mounted lists those directories of a data directory that lie on a mount or a volume
// of their own. Files cannot be renamed from there to the data directory.
func mounted(dir string) ([]place, error) {
	subs, err := subdirectories(dir)
	if err != nil {
		return nil, err
	}
	own, err := mountOf(dir)
	if err != nil {
		return nil, err
	}
	var list []place
	for _, sub := range subs {
		at := filepath.Join(dir, sub)
		m, err := mountOf(at)
		if err != nil {
			return nil, err
		}
		if m != own {
			list = append(list, whole(at))
		}
	}
	return list, nil
}

// mountOf identifies the mount and the volume that a directory is on. Kernels before
// 5.8 do not tell the mount, and of them the volume has to do.
func mountOf(dir string) (id [3]uint64, err error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE|unix.STATX_MNT_ID, &st); err != nil {
		return id, &fs.PathError{Op: "statx", Path: dir, Err: err}
	}
	return [3]uint64{uint64(st.Dev_major), uint64(st.Dev_minor), st.Mnt_id}, nil
}

// movable makes sure, before anything is changed, that what lies in a place can be
// moved aside and put back: by a rename within its directory.
func (p place) movable() error {
	entries, err := os.ReadDir(p.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return p.stays(err)
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.IsDir() || !p.has(e.Name()) })
	if len(entries) == 0 {
		return nil
	}
	if hasSystemTables(p.Dir) {
		return p.stays(errors.New("it is another server's data directory"))
	}
	if err := owner.Closed(p.Dir); err != nil {
		return p.stays(err)
	}
	if err := ours(p.Dir, true); err != nil {
		return p.stays(err)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, p.Dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return p.stays(fmt.Errorf("user id %d, whose the data is, may not rename files there (%w)", os.Geteuid(), err))
	}
	mark := filepath.Join(p.Dir, asideName)
	if info, err := os.Lstat(mark); err == nil && !info.IsDir() {
		return p.stays(fmt.Errorf("%s is no directory", mark))
	} else if err == nil {
		if err := ours(mark, false); err != nil {
			return p.stays(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(p.Dir, &st); err != nil || st.Mode&unix.S_ISVTX == 0 {
		return err
	}
	for _, e := range entries { // in such a directory each only renames what is his
		if err := ours(filepath.Join(p.Dir, e.Name()), false); err != nil {
			return p.stays(err)
		}
	}
	return nil
}

// stays is the refusal to restore over files that cannot be kept.
func (p place) stays(err error) error {
	return fmt.Errorf("the backup has files %s in %s, and those that are there now cannot be moved aside first: %w; nothing was changed: make that possible, or move them away by hand with the server stopped", p.Pattern, p.Dir, err)
}

// ours makes sure that a file is the data owner's, or root's where that is allowed.
func ours(path string, orRoot bool) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Uid != uint32(os.Geteuid()) && (!orRoot || st.Uid != 0) {
		return fmt.Errorf("%s belongs to user id %d", path, st.Uid)
	}
	return nil
}

// asideAt is where files of a directory outside the data directory are moved to:
// below itself, so that nothing is copied from one volume to another. Servers may
// share such a directory.
func asideAt(data, dir string) string { return filepath.Join(dir, asideName, markOf(data)) }

// markOf names a server, by its data directory, where several may keep things.
func markOf(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:8])
}

// elsewhere lists the places that are neither the data directory nor its databases':
// those of the backup's document, and of its notes.
func (w *dbWriter) elsewhere(c *metadata.Component) []place {
	list := slices.Clone(w.places)
	n, err := readNotes(c)
	if err != nil || n.LogBase == "" || within(filepath.Dir(n.LogBase), w.dir) {
		return list
	}
	return join(list, []place{{Dir: filepath.Dir(n.LogBase), Pattern: filepath.Base(n.LogBase) + ".*", Log: true}})
}

// besideOptions gives the server options for what is restored beside the live server
// from outside its data directory. All of it needs a new target: restored to its own
// place it would be written over the live server's.
func besideOptions(places []place, targets []metadata.NewTarget) ([]string, error) {
	var args []string
	for _, p := range places {
		to := ""
		for _, t := range targets {
			if t.Path == p.Dir {
				to = filepath.Clean(t.NewPath)
			}
		}
		option := map[string]string{"ib_logfile*": "--innodb-log-group-home-dir=", "undo*": "--innodb-undo-directory=", "aria_log*": "--aria-log-dir-path="}[p.Pattern]
		switch {
		case option == "" && !p.Log:
			return nil, fmt.Errorf("%s was in %s: a server finds its system tablespaces and tables with DATA DIRECTORY only where they were, so that it cannot be restored beside the live one; restore it in place, or on another host", p.Pattern, p.Dir)
		case to == "" || to == p.Dir:
			return nil, fmt.Errorf("files %s in %s have no new target, and would be written over the live server's; give %s a new target too", p.Pattern, p.Dir, p.Dir)
		case option != "" && !slices.Contains(args, option+to):
			args = append(args, option+to)
		}
	}
	return args, nil
}
