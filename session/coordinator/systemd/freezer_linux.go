package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// freezer is the freezer of a unit's control group. It is used by itself and not
// through systemd, which takes such a request over the message bus only, and takes
// its time; what systemd then knows of the unit stays as it is, and a stop of the
// unit meanwhile ends the frozen processes at the unit's own limit.
type freezer struct{ dir string }

// groupMounts are where control groups are mounted that have a freezer: the
// unified hierarchy, alone or beside others.
var groupMounts = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

var errNoFreezer = errors.New("its control group has no freezer here (that of control groups of version 2); let it be stopped instead")

// freezerOf finds the freezer of a unit that runs.
func freezerOf(p properties) (freezer, error) {
	group := p["ControlGroup"]
	if group == "" || group == "/" || strings.Contains(group, "..") {
		return freezer{}, errors.New("it has no control group")
	}
	for _, mount := range groupMounts {
		f := freezer{filepath.Join(mount, group)}
		if _, err := os.Stat(f.file("cgroup.freeze")); err == nil {
			return f, nil
		}
	}
	return freezer{}, errNoFreezer
}

func (f freezer) file(name string) string { return filepath.Join(f.dir, name) }

// asked reports whether the group was told to be frozen.
func (f freezer) asked() (bool, error) {
	text, err := os.ReadFile(f.file("cgroup.freeze"))
	return strings.TrimSpace(string(text)) == "1", err
}

// freeze returns when all processes stand still, or else lets them go.
func (f freezer) freeze(ctx context.Context) error {
	if err := f.set("1"); err != nil {
		return errors.Join(err, f.thaw())
	}
	for {
		text, err := os.ReadFile(f.file("cgroup.events"))
		if err != nil {
			return errors.Join(err, f.thaw())
		}
		if strings.Contains(string(text), "frozen 1") {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("not all of its processes stand still: %w", context.Cause(ctx)), f.thaw())
		case <-time.After(200 * time.Microsecond):
		}
	}
}

// thaw lets them go on. A group that is gone has nobody left.
func (f freezer) thaw() error {
	if err := f.set("0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (f freezer) set(to string) error {
	file, err := os.OpenFile(f.file("cgroup.freeze"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(to)
	return errors.Join(err, file.Close())
}
