package hold

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// groupPrefix begins the names of the keepers' own control groups, which lie at
// the root of the hierarchy: a group below that of a service would be frozen,
// and ended, together with the service.
const groupPrefix = "sombra-keeper-"

// ownGroup is the keeper's control group; empty if it has none.
type ownGroup struct {
	dir  string
	from string // where it came from
}

// enterOwnGroup makes a control group for this process and moves it there. That
// needs root; for others it does nothing. The note says why it could not.
func enterOwnGroup() (g ownGroup, note string) {
	if os.Geteuid() != 0 {
		return g, ""
	}
	const without = "the keeper has no control group of its own: "
	mount := cgroup2Mount()
	if mount == "" {
		return g, without + "no hierarchy of version 2 is mounted"
	}
	removeStaleGroups(mount)
	from, err := groupOf(os.Getpid())
	if err != nil {
		return g, without + err.Error()
	}
	dir := filepath.Join(mount, groupPrefix+strconv.Itoa(os.Getpid()))
	for try := 1; ; try++ {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return g, without + err.Error()
		}
		err := moveTo(dir)
		if err == nil {
			return ownGroup{dir, filepath.Join(mount, from)}, ""
		}
		// Another keeper may just have taken the empty group for a stale one.
		if try > 1 || !errors.Is(err, fs.ErrNotExist) {
			os.Remove(dir)
			return g, without + err.Error()
		}
	}
}

func moveTo(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

// leaveOwnGroup undoes enterOwnGroup.
func leaveOwnGroup(g ownGroup) {
	if g.dir == "" {
		return
	}
	if moveTo(g.from) != nil {
		_ = moveTo(filepath.Dir(g.dir))
	}
	os.Remove(g.dir) // a group somebody is in stays
}

// removeStaleGroups removes what killed keepers have left. The kernel refuses
// to remove a group that is in use.
func removeStaleGroups(mount string) {
	entries, err := os.ReadDir(mount)
	if err != nil {
		return
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), groupPrefix)
		if _, err := strconv.Atoi(number); ok && err == nil && e.IsDir() {
			os.Remove(filepath.Join(mount, e.Name()))
		}
	}
}
