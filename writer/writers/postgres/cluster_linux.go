package postgres

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"golang.org/x/sys/unix"
)

// layout is where a cluster's files are.
type layout struct {
	data   string
	wal    string // what pg_wal is, links resolved
	spaces []space
	// dirs are the directories at the top of the data directory that are
	// saved whole.
	dirs []string
}

// always are directories that every cluster has and that are saved whole.
var always = []string{"base", "global", "pg_commit_ts", "pg_logical", "pg_multixact", "pg_stat", "pg_twophase", "pg_xact"}

// emptied are directories that every cluster has and whose content is of one run
// of the server: only they themselves are restored.
var emptied = []string{"pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"}

// maxSpaces bounds the tablespaces of a cluster.
const maxSpaces = 10_000

// readLayout finds the cluster's directories.
func readLayout(data string) (*layout, error) {
	l := &layout{data: data}
	var err error
	if l.wal, err = filepath.EvalSymlinks(filepath.Join(data, "pg_wal")); err != nil {
		return nil, err
	}
	if err := checkPath(l.wal); err != nil {
		return nil, fmt.Errorf("the log of %s: %w", data, err)
	}
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		known := slices.Contains(always, name) || slices.Contains(emptied, name) || name == "pg_tblspc"
		switch {
		case known && !e.IsDir():
			return nil, fmt.Errorf("%s is no directory; of a cluster's own directories only pg_wal may be a link", filepath.Join(data, name))
		case !e.IsDir() || name == "pg_wal" || name == "lost+found" || name == asideName || slices.Contains(emptied, name) || name == "pg_tblspc":
		case vss.HasWildcard(name) || checkPath(filepath.Join(data, name)) != nil:
			return nil, fmt.Errorf("%s: %w", data, checkPath(filepath.Join(data, name)))
		default:
			l.dirs = append(l.dirs, name)
		}
	}
	l.spaces, err = readSpaces(data)
	return l, err
}

// readSpaces lists the tablespaces.
func readSpaces(data string) ([]space, error) {
	dir := filepath.Join(data, "pg_tblspc")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(entries) > maxSpaces {
		return nil, fmt.Errorf("%s has %d entries", dir, len(entries))
	}
	var spaces []space
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 32); err != nil {
			continue // none of the server's
		}
		path := filepath.Join(dir, e.Name())
		if e.Type()&fs.ModeSymlink == 0 {
			return nil, fmt.Errorf("%s is no link; tablespaces inside the data directory are not served", path)
		}
		to, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, fmt.Errorf("tablespace %s: %w", e.Name(), err)
		}
		if err := checkPath(to); err != nil {
			return nil, fmt.Errorf("tablespace %s: %w", e.Name(), err)
		}
		spaces = append(spaces, space{OID: e.Name(), Dir: to})
	}
	return spaces, nil
}

// readSmall reads a small file of the cluster, following no link.
func readSmall(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// readControl reads a cluster's control file. The server writes it in one go, and
// a reader may yet meet half of it.
func readControl(data string) (control, error) {
	path := filepath.Join(data, "global", "pg_control")
	var last error
	for range 5 {
		b, err := readSmall(path, 8192)
		if err != nil {
			return control{}, err
		}
		c, err := parseControl(b)
		if err == nil {
			return c, nil
		}
		last = err
		time.Sleep(10 * time.Millisecond)
	}
	return control{}, fmt.Errorf("%s: %w", path, last)
}

// version gives a cluster's major version.
func version(data string) (string, error) {
	b, err := readSmall(filepath.Join(data, "PG_VERSION"), 64)
	return strings.TrimSpace(string(b)), err
}

// postmaster is a running server as its postmaster.pid has it.
type postmaster struct {
	pid    int
	port   int
	socket string // directory; empty if it listens on none
	ready  bool   // it accepts connections
	// follows: it recovers, and accepts none as long as it does (hot_standby off).
	follows bool
}

// runs finds the server that runs in a data directory; nil if none does.
func runs(data string) (*postmaster, error) {
	b, err := readSmall(filepath.Join(data, "postmaster.pid"), 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid == 0 {
		return nil, fmt.Errorf("%s/postmaster.pid begins with %.40q", data, lines[0])
	}
	pid = max(pid, -pid) // of a server in single-user mode it is negative
	if !worksIn(pid, data) {
		return nil, nil // left by one that was killed; the number is another's now
	}
	p := &postmaster{pid: pid}
	if len(lines) > 3 {
		p.port, _ = strconv.Atoi(strings.TrimSpace(lines[3])) // 0 if it listens nowhere yet
	}
	if len(lines) > 4 {
		p.socket = strings.TrimSpace(lines[4])
	}
	if len(lines) > 7 {
		status := strings.TrimSpace(lines[7])
		p.ready, p.follows = status == "ready", status == "standby"
	}
	return p, nil
}

// worksIn reports whether a process is a server in a data directory: its working
// directory is that. One that does not show it, as the kernel has it for processes
// with capabilities or a user namespace of their own, is taken for one if it is called
// so: postmaster.pid names it.
func worksIn(pid int, data string) bool {
	there, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if errors.Is(err, fs.ErrPermission) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		name := strings.TrimSpace(string(comm))
		return err == nil && (name == "postgres" || name == "postmaster") && runsAs(pid, os.Geteuid())
	}
	if err != nil {
		return false
	}
	here, err := os.Stat(data)
	return err == nil && os.SameFile(there, here) && isServer(pid)
}

// runsAs reports whether a process runs as a user: the number in the file of a server
// that was killed may be another user's process by now, of any name.
func runsAs(pid, uid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			f := strings.Fields(ids)
			return len(f) == 4 && f[1] == strconv.Itoa(uid)
		}
	}
	return false
}

// isServer reports whether a process runs PostgreSQL's server.
func isServer(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	name := filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
	return name == "postgres" || name == "postmaster"
}

// family lists the postmaster and all below it.
func family(pid int) ([]int, error) {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", all[i], all[i]))
		if err != nil {
			if i == 0 {
				return nil, err
			}
			continue // it has ended
		}
		for _, f := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all, nil
}
