package redis

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

// process is a running server, as /proc shows it.
type process struct {
	pid   int
	owner writer.Owner
	// dir is its working directory, which is that of its data, without links.
	dir string
	// listens are where it takes connections.
	listens []endpoint
	// program is its executable under the name that makes it a server, empty if
	// there is none any more; args are its arguments where it shows them.
	program string
	args    []string
}

// endpoint is where a server listens.
type endpoint struct {
	Network string `json:"network"` // unix or tcp
	Address string `json:"address"`
}

func (e endpoint) String() string { return e.Address }

const (
	serverName = "redis-server"
	// maxProcFile bounds what is read of one file of /proc.
	maxProcFile = 8 << 20
	// maxDescriptors bounds the descriptors of a process that are looked at.
	maxDescriptors = 100_000
)

// servers finds the running servers that this process may look at. One that ends
// meanwhile, or that lives in another view of the file system (a container), is
// passed over.
func servers() ([]process, error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find Redis servers: %w", err)
	}
	var found []process
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil || !isServer(pid) {
			continue
		}
		if p, ok := look(pid); ok {
			found = append(found, p)
		}
	}
	return found, nil
}

// isServer reports whether a process is a server and not the child of one that
// saves.
func isServer(pid int) bool {
	if comm(pid) != serverName {
		return false
	}
	st, err := status(pid)
	return err == nil && comm(st.parent) != serverName
}

func comm(pid int) string {
	b, err := readProc(pid, "comm")
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}

func readProc(pid int, name string) ([]byte, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxProcFile))
}

// procStatus is what is of use of /proc/PID/status.
type procStatus struct {
	parent int
	owner  writer.Owner
	inner  bool // it is in a namespace of processes below ours, as in a container
	// several: it runs with the rights of several users, as a set-user-id
	// program does, which its caller gives a name, a directory and sockets.
	several bool
}

func status(pid int) (procStatus, error) {
	b, err := readProc(pid, "status")
	if err != nil {
		return procStatus{}, err
	}
	var st procStatus
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch {
		case len(fields) == 0:
		case key == "PPid":
			st.parent, err = strconv.Atoi(fields[0])
		case key == "NSpid":
			st.inner = len(fields) > 1
		case key == "Uid" && len(fields) == 4:
			st.owner.UID, err = parseID(fields[1]) // the effective one
			st.several = fields[0] != fields[1] || fields[1] != fields[2]
		case key == "Gid" && len(fields) > 1:
			st.owner.GID, err = parseID(fields[1])
		case key == "Groups":
			for _, f := range fields {
				id, perr := parseID(f)
				st.owner.Groups, err = append(st.owner.Groups, id), errors.Join(err, perr)
			}
		}
		if err != nil {
			return procStatus{}, fmt.Errorf("/proc/%d/status: %w", pid, err)
		}
	}
	return st, nil
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// look reads what /proc shows of a server.
func look(pid int) (process, bool) {
	p := process{pid: pid}
	st, err := status(pid)
	if err != nil || st.several {
		return p, false
	}
	p.owner = st.owner
	if len(p.owner.Groups) == 0 {
		p.owner.Groups = []uint32{p.owner.GID}
	}
	link := fmt.Sprintf("/proc/%d/cwd", pid)
	if p.dir, err = os.Readlink(link); err != nil || !sameDirectory(link, p.dir, st.owner.UID) {
		return p, false
	}
	p.program, p.args = program(pid), arguments(pid)
	p.listens = listens(pid)
	return p, true
}

// sameDirectory reports whether a process's directory is what its name stands for
// here, and its user's: it is not in a container, nor has the directory been removed,
// nor is it another's, in whose directory anybody could run a program of that name to
// take the server's place.
func sameDirectory(link, name string, uid uint32) bool {
	var there, here unix.Stat_t
	return unix.Stat(link, &there) == nil && unix.Lstat(name, &here) == nil &&
		there.Dev == here.Dev && there.Ino == here.Ino && here.Uid == uid
}

// program finds the name under which a process's executable is a server: one
// program serves as server and as tool for checking, and goes by its name.
func program(pid int) string {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	name := filepath.Join(filepath.Dir(exe), serverName)
	if real, err := filepath.EvalSymlinks(name); err != nil || real != exe {
		return ""
	}
	return name
}

// arguments gives a process's arguments if it shows them. A server that shows a
// title in their place shows one string.
func arguments(pid int) []string {
	b, err := readProc(pid, "cmdline")
	if err != nil {
		return nil
	}
	args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	if len(args) < 2 || filepath.Base(args[0]) != serverName {
		return nil
	}
	return args[1:]
}

// listens finds where a process takes connections, unix sockets first.
func listens(pid int) []endpoint {
	sockets := socketInodes(pid)
	if len(sockets) == 0 {
		return nil
	}
	var all []endpoint
	if b, err := readProc(pid, "net/unix"); err == nil {
		all = append(all, unixListeners(b, sockets)...)
	}
	if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil || ns != ownNetwork() {
		return all
	}
	for _, name := range []string{"net/tcp", "net/tcp6"} {
		if b, err := readProc(pid, name); err == nil {
			all = append(all, tcpListeners(b, sockets)...)
		}
	}
	return slices.Compact(all)
}

func ownNetwork() string {
	ns, _ := os.Readlink("/proc/self/ns/net") // empty is nobody's
	return ns
}

// socketInodes gives the inodes of a process's sockets.
func socketInodes(pid int) map[string]bool {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxDescriptors)
	if err != nil {
		return nil
	}
	found := make(map[string]bool)
	for _, n := range names {
		target, err := os.Readlink(filepath.Join(dir.Name(), n))
		if err != nil {
			continue
		}
		if ino, ok := strings.CutPrefix(target, "socket:["); ok {
			found[strings.TrimSuffix(ino, "]")] = true
		}
	}
	return found
}

// unixListeners reads /proc/net/unix. What listens has the flag SO_ACCEPTCON.
func unixListeners(table []byte, sockets map[string]bool) []endpoint {
	const acceptsConnections = 1 << 16
	var found []endpoint
	for in := bufio.NewScanner(bytes.NewReader(table)); in.Scan(); {
		f := strings.SplitN(strings.Join(strings.Fields(in.Text()), " "), " ", 8)
		if len(f) < 8 || !sockets[f[6]] {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		if err == nil && flags&acceptsConnections != 0 && filepath.IsAbs(f[7]) {
			found = append(found, endpoint{"unix", f[7]})
		}
	}
	return found
}

// tcpListeners reads /proc/net/tcp or tcp6 for sockets that the loopback
// interface reaches.
func tcpListeners(table []byte, sockets map[string]bool) []endpoint {
	const listening = "0A"
	var found []endpoint
	for in := bufio.NewScanner(bytes.NewReader(table)); in.Scan(); {
		f := strings.Fields(in.Text())
		if len(f) < 10 || f[3] != listening || !sockets[f[9]] {
			continue
		}
		if at, ok := procAddress(f[1]); ok {
			found = append(found, endpoint{"tcp", at.String()})
		}
	}
	return found
}

// procAddress reads an address as /proc writes it: words in the machine's order,
// which is little-endian on all that we build for. Any address is answered by the
// loopback interface; others than that one's are not used.
func procAddress(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	n, perr := strconv.ParseUint(port, 16, 16)
	if err != nil || perr != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	addr, _ := netip.AddrFromSlice(b)
	addr = addr.Unmap()
	if addr.IsUnspecified() {
		addr = netip.IPv6Loopback()
		if len(b) == 4 {
			addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
	}
	return netip.AddrPortFrom(addr, uint16(n)), addr.IsLoopback()
}
