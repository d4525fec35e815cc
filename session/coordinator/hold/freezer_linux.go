package hold

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// freeze stops the processes with the freezer of the control group they are
// in, if there is one that holds them and no others. done is false if there is
// none; they must then be stopped in another way.
func (h *hold) freeze(ctx context.Context) (done bool, err error) {
	dir := h.ownGroup()
	if dir == "" {
		return false, nil
	}
	h.undo.Groups = append(h.undo.Groups, dir)
	if err := h.weak(h.undo); err != nil {
		return false, err
	}
	h.stopped.Method = Freezer
	if err := os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("1"), 0); err != nil {
		return false, h.unfreezable()
	}
	for !isFrozen(dir) {
		if ctx.Err() != nil {
			return false, errors.Join(h.blameFrozen(dir), h.thaw())
		}
		doze(100 * time.Microsecond)
	}
	// Some may have left the group, or have been born in it, or moved to it.
	if h.ownGroup() != dir {
		return false, h.unfreezable()
	}
	return true, nil
}

// blameFrozen says which task keeps a group from freezing.
func (h *hold) blameFrozen(dir string) error {
	for _, p := range h.order {
		tids, _ := taskIDs(p.PID)
		for _, tid := range tids {
			if s, err := readStat(p.PID, tid); err == nil && (s.state == 'D' || s.state == 'R') {
				return &ProcessError{PID: p.PID, TID: tid, Comm: p.comm,
					Err: fmt.Errorf("in control group %s: %w (state %c)", dir, ErrNotStopped, s.state)}
			}
		}
	}
	return fmt.Errorf("hold: control group %s %w", dir, ErrNotStopped)
}

// unfreezable gives the freezer up in favour of the other methods.
func (h *hold) unfreezable() error {
	err := h.thaw()
	h.stopped.Method = Ptrace
	return err
}

// thaw undoes freeze.
func (h *hold) thaw() error {
	var result error
	for _, dir := range h.undo.Groups {
		if h.stopped.Took > 0 && !isFrozen(dir) {
			result = fmt.Errorf("%w: control group %s", ErrContinued, dir)
		}
		if err := thawGroup(dir); err != nil {
			result = errors.Join(result, err)
		}
	}
	h.undo.Groups = nil
	return result
}

func thawGroup(dir string) error {
	err := os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("0"), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil // a group that was removed held nobody
	}
	return err
}

func isFrozen(dir string) bool {
	b, err := readSmall(filepath.Join(dir, "cgroup.events"))
	return err == nil && strings.Contains(string(b), "frozen 1")
}

// ownGroup returns the directory of the smallest control group that holds all
// processes of h, provided that it holds no others and is not frozen by
// somebody else; "" if there is none. Descendants of the processes that are in
// the group are added to h.
func (h *hold) ownGroup() string {
	mount := cgroup2Mount()
	if mount == "" {
		return ""
	}
	group, first := "", true
	for _, p := range h.order {
		g, err := groupOf(p.PID)
		if err != nil {
			if isGone(err) {
				continue
			}
			return ""
		}
		if first {
			group, first = g, false
		}
		for group != g && !strings.HasPrefix(g, strings.TrimSuffix(group, "/")+"/") {
			group = path.Dir(group)
		}
	}
	if group == "" || group == "/" { // the root has no freezer
		return ""
	}
	dir := filepath.Join(mount, group)
	if len(h.undo.Groups) == 0 && isFrozen(dir) || !h.ownsAllOf(dir) {
		return ""
	}
	return dir
}

// ownsAllOf reports whether all processes in a group and those below it are to
// be held.
func (h *hold) ownsAllOf(dir string) bool {
	var pids []int
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		list, err := groupMembers(name)
		pids = append(pids, list...)
		return err
	})
	if err != nil {
		return false
	}
	for more := true; more; {
		more = false
		for _, pid := range pids {
			if h.procs[pid] != nil {
				continue
			}
			if h.ours[pid] {
				return false
			}
			s, err := readStat(pid, 0)
			if err == nil && h.procs[s.ppid] != nil {
				_, err = h.add(pid, s.ppid)
				more = more || err == nil
			}
		}
	}
	for _, pid := range pids {
		if h.procs[pid] == nil {
			if _, err := readStat(pid, 0); !isGone(err) {
				return false
			}
		}
	}
	return true
}

// groupMembers lists the processes in a group, without those below it.
func groupMembers(dir string) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var list []int
	for f := range strings.FieldsSeq(string(b)) {
		n, err := strconv.Atoi(f)
		if err != nil || n == 0 { // 0: in a pid namespace we do not see into
			return nil, fmt.Errorf("%s: unexpected entry %q", dir, f)
		}
		list = append(list, n)
	}
	return list, nil
}

// groupOf returns the version 2 control group of a process, as a path from the
// root of the hierarchy.
func groupOf(pid int) (string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup") // a line for each hierarchy
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if g, ok := strings.CutPrefix(line, "0::"); ok {
			g = strings.TrimSuffix(g, "\n")
			if path.Clean(g) != g || !path.IsAbs(g) || strings.HasPrefix(g, "/..") {
				return "", fmt.Errorf("control group %q is out of reach", g)
			}
			return g, nil
		}
	}
	return "", errors.New("no control group of version 2")
}

// cgroup2Mount returns where the root of the version 2 hierarchy is mounted,
// or "".
func cgroup2Mount() string {
	list, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		return ""
	}
	for _, m := range list {
		if m.Root == "/" {
			return m.Mountpoint
		}
	}
	return ""
}
