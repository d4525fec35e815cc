package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Ref names a process for as long as the system runs: numbers are used again,
// together with the time of start they are not.
type Ref struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
}

// Undo is what must be undone of a hold that outlives its keeper.
type Undo struct {
	Boot     string   `json:"boot"`
	Signaled []Ref    `json:"signaled,omitempty"`
	Groups   []string `json:"groups,omitempty"` // directories of frozen control groups
}

// Recover lets go what a keeper and the process that had started it both left
// stopped when they died. The argument is what [Options].Journal was called
// with last. Processes that have ended since are passed over, so it may be
// called again.
func Recover(_ context.Context, undo json.RawMessage) error {
	var u Undo
	if err := json.Unmarshal(undo, &u); err != nil {
		return fmt.Errorf("hold: what to undo: %w", err)
	}
	return u.run()
}

func (u Undo) run() error {
	if u.Boot != bootID() {
		return nil
	}
	var errs []error
	for _, dir := range u.Groups {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
			continue // removed
		}
		errs = append(errs, thawGroup(dir))
	}
	for _, r := range u.Signaled {
		errs = append(errs, r.cont())
	}
	return errors.Join(errs...)
}

// cont sends SIGCONT to the process, if it is still that one and stopped.
func (r Ref) cont() error {
	fd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return fmt.Errorf("hold: process %d: %w", r.PID, err)
	}
	defer unix.Close(fd)
	s, err := readStat(r.PID, 0)
	if err != nil || s.start != r.Start {
		return nil
	}
	err = unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return &ProcessError{PID: r.PID, Comm: s.comm, Err: fmt.Errorf("SIGCONT: %w", err)}
	}
	return nil
}

func (u Undo) empty() bool { return len(u.Signaled) == 0 && len(u.Groups) == 0 }
