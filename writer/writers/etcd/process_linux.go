package etcd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/owner"
)

// process is a running server, as /proc shows it.
type process struct {
	pid   int
	owner writer.Owner
	// dir and wal are the directories of the data and the log that it has open.
	dir, wal string
	command  command
}

// Bounds of what is read of a process.
const (
	maxProcFile    = 1 << 20
	maxDescriptors = 100_000
)

// dbName is the database, below the directory of the data.
const dbName = "member/snap/db"

// servers finds the running servers that this process may look at. One that ends
// meanwhile, or lives in another view of the file system (a container), is passed
// over.
func servers() ([]process, error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find etcd servers: %w", err)
	}
	var list []process
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if b, err := readProc(pid, "comm"); err != nil || string(b) != "etcd\n" {
			continue
		}
		if p, ok := look(pid); ok {
			list = append(list, p)
		}
	}
	return list, nil
}

func readProc(pid int, name string) ([]byte, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxProcFile))
}

// look reads what /proc shows of a server.
func look(pid int) (process, bool) {
	p := process{pid: pid}
	uid, gid, err := ids(pid)
	if err != nil {
		return p, false
	}
	p.owner = owner.Of(uid, gid)
	if p.dir, p.wal = openData(pid, uid); p.dir == "" {
		return p, false
	}
	p.command = commandOf(pid)
	return p, true
}

// ids are the effective user and group of a process.
func ids(pid int) (uid, gid uint32, err error) {
	b, err := readProc(pid, "status")
	if err != nil {
		return 0, 0, err
	}
	found := 0
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		if name != "Uid" && name != "Gid" || len(f) < 2 {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 32)
		if err != nil {
			return 0, 0, err
		}
		if name == "Uid" && (len(f) != 4 || f[0] != f[1] || f[1] != f[2]) {
			return 0, 0, fmt.Errorf("process %d runs with the rights of several users", pid) // its caller gave it its name
		}
		if found++; name == "Uid" {
			uid = uint32(n)
		} else {
			gid = uint32(n)
		}
	}
	if found != 2 {
		return 0, 0, fmt.Errorf("/proc/%d/status does not tell whose it is", pid)
	}
	return uid, gid, nil
}

// openData finds the directories of the database and the log that a process has
// open. Those that are not its user's are passed over: anybody who gets there could
// have them open in some way, and take the server's place.
func openData(pid int, uid uint32) (dir, wal string) {
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	d, err := os.Open(fds)
	if err != nil {
		return "", ""
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxDescriptors)
	for _, n := range names {
		link := filepath.Join(fds, n)
		target, err := os.Readlink(link)
		if err != nil || !sameFile(link, target, uid) {
			continue
		}
		if root, ok := strings.CutSuffix(target, "/"+dbName); ok {
			dir = root
		}
		if strings.HasSuffix(target, ".wal") {
			wal = filepath.Dir(target)
		}
	}
	if wal == filepath.Join(dir, "member", "wal") {
		wal = ""
	}
	return dir, wal
}

// sameFile reports whether what a process has open is what its name stands for
// here, and the user's.
func sameFile(link, name string, uid uint32) bool {
	var there, here unix.Stat_t
	return filepath.IsAbs(name) && unix.Stat(link, &there) == nil && unix.Lstat(name, &here) == nil &&
		there.Dev == here.Dev && there.Ino == here.Ino && here.Uid == uid
}

// commandOf is how a process was started. Of its environment only what is etcd's is
// taken.
func commandOf(pid int) command {
	var c command
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err == nil {
		c.Program = strings.TrimSuffix(exe, " (deleted)") // a newer one is in its place
	}
	c.Dir, _ = os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if b, err := readProc(pid, "cmdline"); err == nil {
		if args := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"); len(args) > 1 {
			c.Args = args[1:]
		}
	}
	if b, err := readProc(pid, "environ"); err == nil {
		for kv := range strings.SplitSeq(string(b), "\x00") {
			if strings.HasPrefix(kv, "ETCD_") {
				c.Env = append(c.Env, kv)
			}
		}
	}
	return c
}

// runningIn gives the process that has the database of a directory open, 0 if none
// has.
func runningIn(dir string) (int, error) {
	if _, err := os.Lstat(filepath.Join(dir, dbName)); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	list, err := servers()
	if err != nil {
		return 0, err
	}
	for _, p := range list {
		if p.dir == dir {
			return p.pid, nil
		}
	}
	return 0, nil
}
