package systemd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// note says of one unit what was done to it. Its file is locked by who changes it,
// and removed when there is nothing to say.
type note struct {
	// Kind and Name are the writer's for which it was done.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Stopped are the units that ran and were stopped for a restore, which is what
	// starts them again. Held are those that were stopped until Thaw, and Frozen
	// says that the unit was frozen until then.
	Stopped []string `json:"stopped,omitempty"`
	Held    []string `json:"held,omitempty"`
	Frozen  bool     `json:"frozen,omitempty"`
	// Group is the control group that was frozen.
	Group string `json:"group,omitempty"`
	// Starting says that systemd was told to start the unit, which is one of Held:
	// that it has run since then is no word of anybody else.
	Starting bool `json:"starting,omitempty"`
	// At is when, by the clock that systemd's monotonic times are of, in
	// microseconds.
	At uint64 `json:"at"`

	path string
	lock *noteLock // nil if it was only read
}

// maxNote bounds a note's file: it has at most maxUnits names of maxUnitName.
const maxNote = 256 << 10

func (n *note) empty() bool { return len(n.Stopped) == 0 && len(n.Held) == 0 && !n.Frozen }

// nothing reports whether there is nothing that op undoes.
func (n *note) nothing(op string) bool { return !n.Frozen && len(n.stoppedBefore(op)) == 0 }

// stoppedBefore are the units that op starts again: Thaw leaves alone what a restore
// has stopped, which may be half of one kind and half of another.
func (n *note) stoppedBefore(op string) []string {
	units := slices.Clone(n.Held)
	if op == opThaw {
		return units
	}
	return with(units, n.Stopped)
}

func (n *note) stop(units []string) { n.Stopped = with(n.Stopped, units) }
func (n *note) hold(units []string) { n.Held = with(n.Held, units) }

// forget says that nothing is stopped any more.
func (n *note) forget() { n.Held, n.Stopped, n.Starting = nil, nil, false }

// with appends those of the units that are not in the list.
func with(list, units []string) []string {
	for _, u := range units {
		if !slices.Contains(list, u) {
			list = append(list, u)
		}
	}
	return list
}

// started forgets that units were stopped.
func (n *note) started(units []string) {
	run := func(u string) bool { return slices.Contains(units, u) }
	n.Held, n.Stopped = slices.DeleteFunc(n.Held, run), slices.DeleteFunc(n.Stopped, run)
	n.Starting = false
}

// notePath is where a unit's note is. A unit's name has no slash.
func notePath(dir, unit string) string { return filepath.Join(dir, unit) }

// busy reports whether somebody is at work on the unit just now.
func (n *note) busy() bool {
	f, err := os.OpenFile(n.path+".lock", os.O_RDONLY, 0)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// overtaken reports whether the unit was started since it was stopped, or since
// systemd was told to start it. If it does not run now, and has not failed, somebody
// has stopped it: then it is not ours to start any more, and the stop is forgotten.
func (n *note) overtaken(c *closure) bool {
	p := c.units[c.unit]
	entered, err := strconv.ParseUint(p["ActiveEnterTimestampMonotonic"], 10, 64)
	if err != nil || entered <= n.At || !slices.Contains(with(slices.Clone(n.Held), n.Stopped), c.unit) {
		return false
	}
	if !p.runs() && p["ActiveState"] != "failed" {
		n.forget()
	}
	return true
}

// thaw lets the frozen control group go on, for which systemd is not needed, and
// reports whether it was frozen until now.
func (n *note) thaw() (held bool, err error) {
	f, err := freezerOf(properties{"ControlGroup": n.Group})
	if err != nil {
		return false, nil // it is gone, and with it who was frozen
	}
	held, err = f.asked()
	if err != nil {
		held = false // it has ended just now
	}
	return held, f.thaw()
}

// monotonic is the time that systemd's monotonic properties are of.
func monotonic() (uint64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, err
	}
	return uint64(t.Nano()) / 1000, nil
}

// readNote reads a unit's note; one that is not there is empty.
func readNote(dir, unit string) (*note, error) {
	n := &note{path: notePath(dir, unit)}
	f, err := os.OpenFile(n.path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err != nil {
		return n, err
	}
	return n, n.parse(data)
}

// parse takes only names that systemctl can be given.
func (n *note) parse(data []byte) error {
	if err := json.Unmarshal(data, n); err != nil {
		return fmt.Errorf("%s: %w", n.path, err)
	}
	if len(n.Stopped)+len(n.Held) > 2*maxUnits {
		return fmt.Errorf("%s: it names more than %d units", n.path, 2*maxUnits)
	}
	for _, u := range slices.Concat(n.Stopped, n.Held) {
		if !isUnit(u) {
			return fmt.Errorf("%s: %q is no unit", n.path, clip(u))
		}
	}
	return nil
}

// write puts the note in its place, whole; an empty one goes.
func (n *note) write() error {
	if err := n.taken(); err != nil {
		return err
	}
	if n.empty() {
		if err := os.Remove(n.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	now, err := monotonic()
	if err != nil {
		return err
	}
	n.At = now
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if len(data) > maxNote {
		return fmt.Errorf("%s: more than %d bytes", n.path, maxNote)
	}
	next := n.path + ".new"
	if err := os.WriteFile(next, data, 0o644); err != nil {
		return err
	}
	return os.Rename(next, n.path)
}
