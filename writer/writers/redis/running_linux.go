package redis

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/unit"
)

// running finds the process of the writer's server, 0 if none runs.
func (w *redisWriter) running() (int, error) { return runningIn(w.spec, w.conf) }

// runningIn finds the process of a server that works in the directory of a writer,
// 0 if there is none. It sees processes of this process's own user, which the server
// is.
//
// Of a process that has capabilities, or a user namespace of its own (PrivateUsers=
// in its unit, as Debian's has it), the kernel shows the directory to none who lacks
// the same. Such a server is known by what Discover saw with other rights, or by
// its unit.
func runningIn(s writer.Spec, c config) (int, error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("find Redis servers: %w", err)
	}
	var unknown []int
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil || !isServer(pid) {
			continue
		}
		p, shown := look(pid)
		switch {
		case shown && p.dir == c.Directory:
			return pid, nil
		case shown || !hides(pid):
		case c.Found != nil && c.Found.PID == pid:
			return pid, nil
		case c.Found != nil && slices.Contains(c.Found.Others, pid):
		default:
			unknown = append(unknown, pid)
		}
	}
	for _, pid := range unknown {
		of, err := unit.OfProcess(pid)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has ended
		case err != nil:
			return 0, err
		case s.Unit == "":
			return 0, fmt.Errorf("process %d may be the server of %s and does not show where it works; name its unit in the configuration of the writer", pid, c.Directory)
		case of == s.Unit:
			return pid, nil
		}
	}
	return 0, nil
}

// hides reports whether a server of this process's own user does not show where it
// works.
func hides(pid int) bool {
	st, err := status(pid)
	if err != nil || st.inner || int64(st.owner.UID) != int64(os.Geteuid()) {
		return false
	}
	_, err = os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return errors.Is(err, fs.ErrPermission) && alive(pid)
}
