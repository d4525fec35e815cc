package mariadb

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is a running server.
type process struct {
	pid    int
	uid    uint32
	dir    string // its data directory, by its real path
	socket string // "" if it listens on none that this host can reach
}

// maxCommandLine bounds what is read of a process's command line, in bytes.
const maxCommandLine = 128 << 10

// processes finds the servers that run on this host. A server's working directory
// is its data directory. One in a container, whose directory this host calls by
// another name, is left out.
func processes() []process {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []process
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil {
			continue
		}
		if p, ok := look(pid); ok {
			found = append(found, p)
		}
	}
	return found
}

// look looks whether a process is a server.
func look(pid int) (process, bool) {
	at := "/proc/" + strconv.Itoa(pid)
	comm, err := os.ReadFile(at + "/comm")
	if name := string(bytes.TrimSpace(comm)); err != nil || name != "mariadbd" && name != "mysqld" {
		return process{}, false
	}
	if slices.Contains(commandLine(pid), "--bootstrap") {
		return process{}, false // it makes a new data directory, and ends
	}
	var st, same unix.Stat_t
	dir, err := os.Readlink(at + "/cwd")
	if err != nil || unix.Stat(at+"/cwd", &st) != nil || unix.Lstat(dir, &same) != nil || st.Dev != same.Dev || st.Ino != same.Ino {
		return process{}, false
	}
	if uid, ok := userOf(pid); !ok || st.Uid != uid || !hasSystemTables(dir) {
		return process{}, false
	}
	return process{pid: pid, uid: st.Uid, dir: dir, socket: listensOn(pid)}, true
}

// userOf tells whom a process runs as. The owner of its directory in /proc is
// another if it has changed its user, as a server that root has started does.
func userOf(pid int) (uint32, bool) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		ids, ok := strings.CutPrefix(line, "Uid:")
		if f := strings.Fields(ids); ok && len(f) == 4 {
			if f[0] != f[1] || f[1] != f[2] {
				return 0, false // a set-user-id program, to which its caller gives name, directory and sockets
			}
			uid, err := strconv.ParseUint(f[1], 10, 32) // real, effective, saved, of the file system
			return uint32(uid), err == nil
		}
	}
	return 0, false
}

// hasSystemTables reports whether a directory has what each data directory has.
func hasSystemTables(dir string) bool {
	var st unix.Stat_t
	return unix.Lstat(filepath.Join(dir, "mysql"), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR &&
		unix.Lstat(filepath.Join(dir, "aria_log_control"), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// commandLine gives a process's arguments, none if it is gone.
func commandLine(pid int) []string {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCommandLine))
	if err != nil || len(data) == 0 || len(data) == maxCommandLine {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}

// listensOn finds the path of the unix socket that a process listens on, the
// first by name if there are several.
func listensOn(pid int) string {
	at := "/proc/" + strconv.Itoa(pid)
	fds, err := os.ReadDir(at + "/fd")
	if err != nil {
		return ""
	}
	inodes := make(map[string]bool)
	for _, fd := range fds {
		if to, err := os.Readlink(filepath.Join(at, "fd", fd.Name())); err == nil {
			if id, ok := strings.CutPrefix(to, "socket:["); ok {
				inodes[strings.TrimSuffix(id, "]")] = true
			}
		}
	}
	table, err := os.Open(at + "/net/unix")
	if err != nil {
		return ""
	}
	defer table.Close()
	var found string
	for lines := bufio.NewScanner(table); lines.Scan(); {
		// Num RefCount Protocol Flags Type St Inode Path
		f := strings.Fields(lines.Text())
		const accepts = "00010000"
		if len(f) != 8 || f[3] != accepts || !inodes[f[6]] || !filepath.IsAbs(f[7]) {
			continue
		}
		if found == "" || f[7] < found {
			found = f[7]
		}
	}
	return found
}
