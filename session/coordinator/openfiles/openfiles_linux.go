package openfiles

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/writer"
)

// MaxFound bounds how many open files one search reports; it stops there.
const MaxFound = 1000

// ID is what a file is known by: the numbers stat gives.
type ID struct {
	Device uint64
	Inode  uint64
}

// Identify gives the ID of the object at path. Links are followed, as whoever
// opens the file follows them.
func Identify(path string) (ID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return ID{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return ID{st.Dev, st.Ino}, nil
}

// Result is what a search found.
type Result struct {
	// Open has each process once for each file, ordered by process and path.
	Open []writer.OpenFile
	// Busy are those of them that are open for writing or mapped into memory.
	Busy []writer.OpenFile
	// Unseen counts processes of other users, which may not be looked into:
	// what they have open is not known.
	Unseen int
	// More: there are more than [MaxFound].
	More bool
}

// FindPaths looks for the files at these paths, except in the given processes.
// A path at which there is nothing is left out.
func FindPaths(ctx context.Context, paths []string, except ...int) (Result, error) {
	want := make(map[ID]string, len(paths))
	for _, p := range paths {
		id, err := Identify(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Result{}, err
		}
		want[id] = p
	}
	return Find(ctx, want, except...)
}

// Find looks through the open descriptors and memory maps of all processes but
// the given ones. want holds the path to report for each file. It cannot see
// what only the kernel uses: swap files, loop devices, files registered with
// io_uring and closed.
func Find(ctx context.Context, want map[ID]string, except ...int) (Result, error) {
	var r Result
	if len(want) == 0 {
		return r, nil
	}
	pids, err := processes()
	if err != nil {
		return r, err
	}
	s := search{want: want, inodes: make(map[uint64]bool, len(want))}
	for id := range want {
		s.inodes[id.Inode] = true
	}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if slices.Contains(except, pid) {
			continue
		}
		found, err := s.process(pid)
		if errors.Is(err, fs.ErrPermission) {
			if hasMemory(pid) {
				r.Unseen++
			}
			continue
		}
		if err != nil && !gone(err) {
			return r, fmt.Errorf("look for open files in process %d: %w", pid, err)
		}
		for _, f := range found {
			r.Open = append(r.Open, f.OpenFile)
			if f.busy {
				r.Busy = append(r.Busy, f.OpenFile)
			}
		}
		if len(r.Open) > MaxFound {
			r.Open, r.More = r.Open[:MaxFound], true
			break
		}
	}
	return r, nil
}

// gone reports whether an error means that the process has ended.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

func processes() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// hasMemory tells processes from the kernel's own threads and from those that
// have ended, which have no files either.
func hasMemory(pid int) bool {
	b, err := os.ReadFile(proc(pid, "cmdline"))
	return err == nil && len(b) > 0
}

func proc(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

type search struct {
	want   map[ID]string
	inodes map[uint64]bool
}

// found is a file that a process has open; busy, if it may write to it or has it
// mapped.
type found struct {
	writer.OpenFile
	busy bool
}

// process finds what one process has open.
func (s *search) process(pid int) ([]found, error) {
	hit := map[string]bool{}
	if err := s.descriptors(pid, hit); err != nil {
		return nil, err
	}
	if err := s.maps(pid, hit); err != nil {
		return nil, err
	}
	if len(hit) == 0 {
		return nil, nil
	}
	command, _ := os.ReadFile(proc(pid, "comm")) // empty if it has just ended
	var list []found
	for path, busy := range hit {
		list = append(list, found{writer.OpenFile{Path: path, PID: pid, Command: strings.TrimSuffix(string(command), "\n")}, busy})
	}
	slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// descriptors goes through what is open. The threads of a process share it.
func (s *search) descriptors(pid int, hit map[string]bool) error {
	dir, err := os.Open(proc(pid, "fd"))
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1024)
		for _, n := range names {
			// What the kernel knows by itself is enough: no server that
			// does not answer is waited for.
			var sx unix.Statx_t
			if unix.Statx(int(dir.Fd()), n, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &sx) != nil {
				continue // closed meanwhile
			}
			if path, ok := s.want[ID{unix.Mkdev(sx.Dev_major, sx.Dev_minor), sx.Ino}]; ok {
				hit[path] = hit[path] || writes(pid, n)
			}
		}
		if err != nil {
			return nil // the end, or the process has ended
		}
	}
}

// writes reports whether a descriptor may write: where that cannot be known, it
// may.
func writes(pid int, fd string) bool {
	data, err := os.ReadFile(proc(pid, "fdinfo/"+fd))
	if err != nil {
		return !gone(err)
	}
	_, rest, _ := strings.Cut(string(data), "flags:")
	text, _, _ := strings.Cut(rest, "\n")
	flags, err := strconv.ParseUint(strings.TrimSpace(text), 8, 64)
	return err != nil || flags&unix.O_PATH == 0 && flags&unix.O_ACCMODE != unix.O_RDONLY
}

// maps goes through what is mapped into memory.
func (s *search) maps(pid int, hit map[string]bool) error {
	f, err := os.Open(proc(pid, "maps"))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, ok := parseMap(lines.Text())
		if !ok || !s.inodes[m.inode] {
			continue
		}
		if path, ok := s.mapped(pid, m); ok {
			hit[path] = true
		}
	}
	if err := lines.Err(); err != nil && !gone(err) {
		return err
	}
	return nil
}

// mapping is what a line of /proc/PID/maps says of a mapped file.
type mapping struct {
	area   string // "start-end"
	device uint64 // of the file system, which on btrfs is not the one stat gives
	inode  uint64
	path   string
}

func parseMap(line string) (mapping, bool) {
	f := strings.SplitN(line, " ", 6)
	if len(f) < 6 {
		return mapping{}, false
	}
	major, minor, _ := strings.Cut(f[3], ":")
	a, err1 := strconv.ParseUint(major, 16, 32)
	b, err2 := strconv.ParseUint(minor, 16, 32)
	inode, err3 := strconv.ParseUint(f[4], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || inode == 0 {
		return mapping{}, false
	}
	return mapping{f[0], unix.Mkdev(uint32(a), uint32(b)), inode, strings.TrimLeft(f[5], " ")}, true
}

// mapped decides whether a mapping with the inode of a wanted file is of it.
func (s *search) mapped(pid int, m mapping) (string, bool) {
	for _, name := range []string{proc(pid, "map_files/"+m.area), proc(pid, "root"+m.path)} {
		var st unix.Stat_t
		if unix.Stat(name, &st) != nil || st.Ino != m.inode {
			continue
		}
		if path, ok := s.want[ID{st.Dev, st.Ino}]; ok {
			return path, true
		}
	}
	path, ok := s.want[ID{m.device, m.inode}]
	return path, ok
}
