package hold

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// stat is what /proc tells about a process or one of its tasks.
type stat struct {
	comm    string
	state   byte
	ppid    int
	flags   uint64
	threads int
	start   uint64 // clock ticks since boot
}

const kernelThread = 0x00200000 // PF_KTHREAD

// stopped reports whether the task is stopped, by a signal or a tracer.
func (s stat) stopped() bool { return s.state == 'T' || s.state == 't' }

// dead reports whether the task has ended.
func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

var errStat = errors.New("unexpected text in a /proc stat file")

// readStat reads /proc/PID/stat, or that of one task.
func readStat(pid, tid int) (stat, error) {
	name := "/proc/" + strconv.Itoa(pid)
	if tid != 0 {
		name += "/task/" + strconv.Itoa(tid)
	}
	b, err := readSmall(name + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// parseStat parses the content of a stat file. The name in parentheses may hold
// anything, parentheses and line breaks included.
func parseStat(b []byte) (stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, errStat
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return stat{}, errStat
	}
	s := stat{comm: string(b[open+1 : end]), state: f[0][0]}
	var errs [4]error
	s.ppid, errs[0] = strconv.Atoi(f[1])
	s.flags, errs[1] = strconv.ParseUint(f[6], 10, 64)
	s.threads, errs[2] = strconv.Atoi(f[17])
	s.start, errs[3] = strconv.ParseUint(f[19], 10, 64)
	if errors.Join(errs[:]...) != nil {
		return stat{}, errStat
	}
	return s, nil
}

// readSmall reads a file of /proc that fits a page, without the detour over
// the runtime's poller that os.ReadFile makes.
func readSmall(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// taskIDs lists the tasks of a process.
func taskIDs(pid int) ([]int, error) {
	return numbersIn("/proc/" + strconv.Itoa(pid) + "/task")
}

// numbersIn lists the entries of a directory that are numbers.
func numbersIn(dir string) ([]int, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	list := make([]int, 0, len(names))
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			list = append(list, n)
		}
	}
	return list, err
}

// childrenOf lists the children that one task has forked. The list is whole
// only if that task and its children are stopped; until then it is a beginning.
func childrenOf(pid, tid int) ([]int, error) {
	name := "/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid) + "/children"
	b, err := readSmall(name)
	if err == nil && len(b) > 0 {
		b, err = os.ReadFile(name) // there may be more than fits
	}
	if err != nil {
		return nil, err
	}
	var list []int
	for f := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			list = append(list, n)
		}
	}
	return list, nil
}

// tellsChildren reports whether this kernel has the files childrenOf reads
// (CONFIG_PROC_CHILDREN).
func tellsChildren() bool {
	_, err := os.Stat("/proc/thread-self/children")
	return err == nil
}

// parents reads the parent of every process there is, for kernels that do not
// tell the children.
func parents() (map[int]int, error) {
	pids, err := numbersIn("/proc")
	if err != nil {
		return nil, err
	}
	m := make(map[int]int, len(pids))
	for _, pid := range pids {
		if s, err := readStat(pid, 0); err == nil {
			m[pid] = s.ppid
		}
	}
	return m, nil
}

// switches returns how often a task has been switched from; it does not change
// while the task does not run.
func switches(pid, tid int) (int, error) {
	b, err := readSmall("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return 0, err
	}
	sum, found := 0, 0
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		if name == "voluntary_ctxt_switches" || name == "nonvoluntary_ctxt_switches" {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				return 0, err
			}
			sum += n
			found++
		}
	}
	if found != 2 {
		return 0, errors.New("/proc tells no context switches")
	}
	return sum, nil
}

// isGone reports whether err says that a process or task is no more.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// bootID tells one run of the kernel from the next.
func bootID() string {
	b, err := readSmall("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
