package reboot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session/coordinator/durable"
	"github.com/sombra-backup/sombra/session/coordinator/systemd"
	"github.com/sombra-backup/sombra/vss"
)

func systemdRuns() bool                       { return systemd.Booted() }
func systemdReload(ctx context.Context) error { return systemd.Reload(ctx) }

// defaultState is the state directory whose unit has the plain name.
const defaultState = "/var/lib/sombra"

// UnitName is the unit that works the sets off.
func (s *Store) UnitName() string {
	if s.opts.StateDir == defaultState {
		return "sombra-at-reboot.service"
	}
	sum := sha256.Sum256([]byte(s.opts.StateDir))
	return "sombra-at-reboot-" + hex.EncodeToString(sum[:4]) + ".service"
}

func (s *Store) unitPath() string { return filepath.Join(s.opts.UnitDir, s.UnitName()) }

// wantedBy is the target whose start pulls the unit in.
const wantedBy = "sysinit.target"

func (s *Store) linkPath() string {
	return filepath.Join(s.opts.UnitDir, wantedBy+".wants", s.UnitName())
}

// possible refuses where nothing could be swapped in.
func (s *Store) possible(what string) error {
	no := func(format string, args ...any) error {
		return vss.Errorf(vss.ErrNotSupported, stageOp, clip(what), format, args...)
	}
	switch {
	case !s.booted():
		return no("systemd does not run here, and nothing else is known that would swap the files in")
	case os.Geteuid() != 0:
		return no("only root can have files swapped in at the next start")
	case len(s.opts.Command) == 0:
		return no("this program cannot be started to swap the files in")
	}
	if _, err := systemd.CommandLine(s.opts.Command...); err != nil {
		return no("%w", err)
	}
	for _, p := range []string{s.opts.Command[0], s.opts.StateDir} {
		if _, err := os.Stat(p); err != nil {
			return no("it will be needed at the next start: %w", err)
		}
		if err := lasts(p); err != nil {
			return no("%s will be needed at the next start: %w", p, err)
		}
	}
	if link, err := os.Readlink(s.unitPath()); err == nil {
		return no("%s is a link to %s; if the unit is masked: systemctl unmask %s", s.unitPath(), link, s.UnitName())
	}
	return nil
}

// unit is the text of the unit.
func (s *Store) unit(mounts []string) (string, error) {
	command, err := systemd.CommandLine(s.opts.Command...)
	if err != nil {
		return "", err
	}
	after := []string{"local-fs.target"}
	for _, m := range mounts {
		if m != "/" {
			after = append(after, systemd.MountUnit(m))
		}
	}
	slices.Sort(after[1:])
	return `# Made by sombra, and removed when nothing waits for a start any more. What
# waits is listed by: sombra restore --pending
[Unit]
Description=Swap in files restored by sombra
Documentation=man:sombra-restore(1)
DefaultDependencies=no
After=` + strings.Join(slices.Compact(after), " ") + `
Before=` + wantedBy + ` shutdown.target
Conflicts=shutdown.target
# It is filled by what stages files and empty after a start: not even the start
# of another unit, which pulls this one in again, swaps files under programs that
# have them open.
ConditionDirectoryNotEmpty=!` + strings.ReplaceAll(s.opts.RunDir, "%", "%%") + `
RefuseManualStart=yes

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=` + command + `
TimeoutStartSec=infinity

[Install]
WantedBy=` + wantedBy + `
`, nil
}

// install has systemd start the unit at the next start of the host, after the
// mounts of all that waits.
func (s *Store) install(ctx context.Context, mounts []string) error {
	list, err := s.sets()
	if err != nil {
		return err
	}
	for _, t := range list {
		if t.State.waits() {
			mounts = append(mounts, mountsOf(t)...)
		}
	}
	for _, p := range []string{s.opts.Command[0], s.opts.StateDir} {
		if m, err := mountAt(p); err == nil {
			mounts = append(mounts, m.point)
		}
	}
	text, err := s.unit(mounts)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(s.unitPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(old) != text {
		if err := durable.WriteFile(s.unitPath(), []byte(text), 0o644); err != nil {
			return fmt.Errorf("install unit: %w", err)
		}
	}
	wants := filepath.Dir(s.linkPath())
	if err := os.Mkdir(wants, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("enable unit: %w", err)
	}
	goal := "../" + s.UnitName()
	if link, err := os.Readlink(s.linkPath()); err != nil || link != goal && link != s.unitPath() {
		if err := os.Remove(s.linkPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("enable unit: %w", err)
		}
		if err := os.Symlink(goal, s.linkPath()); err != nil {
			return fmt.Errorf("enable unit: %w", err)
		}
	}
	for _, dir := range []string{wants, s.opts.UnitDir} {
		if err := durable.SyncDir(dir); err != nil {
			return fmt.Errorf("enable unit: %w", err)
		}
	}
	s.step("installed")
	// The next start reads all units anew: this is so that people see it now.
	s.reload(ctx)
	return nil
}

// settleUnit removes the unit if nothing waits for a start.
func (s *Store) settleUnit(ctx context.Context) error {
	removed, err := s.dropUnit()
	if removed {
		s.reload(ctx) // else people see a unit that is gone, until the next one
	}
	return err
}

// dropUnit does so without telling systemd.
func (s *Store) dropUnit() (removed bool, err error) {
	list, err := s.sets()
	if err != nil || slices.ContainsFunc(list, func(t *set) bool { return t.State.waits() }) {
		return false, err
	}
	var errs []error
	for _, p := range []string{s.linkPath(), s.unitPath()} {
		switch err := os.Remove(p); {
		case err == nil:
			removed = true
			errs = append(errs, durable.SyncDir(filepath.Dir(p)))
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	if removed {
		os.Remove(filepath.Dir(s.linkPath())) // if it is empty
	}
	return removed, errors.Join(errs...)
}

// mount is where a file system is mounted.
type mount struct {
	point  string
	device uint64
	fsType int64
}

// mountAt finds the mount a path is on, which may be reached through links.
func mountAt(path string) (mount, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return mount{}, err
	}
	fd, err := unix.Open(real, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return mount{}, &fs.PathError{Op: "open", Path: real, Err: err}
	}
	defer unix.Close(fd)
	return mountOf(fd, real)
}

// mountOf finds the mount of something opened by its path without links.
func mountOf(fd int, path string) (mount, error) {
	var s unix.Statfs_t
	var sx unix.Statx_t
	if err := unix.Fstatfs(fd, &s); err != nil {
		return mount{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &sx); err != nil {
		return mount{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	m := mount{point: path, device: unix.Mkdev(sx.Dev_major, sx.Dev_minor), fsType: int64(s.Type)}
	for m.point != "/" {
		var up unix.Statx_t
		above := filepath.Dir(m.point)
		if err := unix.Statx(unix.AT_FDCWD, above, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &up); err != nil {
			return mount{}, &fs.PathError{Op: "stat", Path: above, Err: err}
		}
		if up.Dev_major != sx.Dev_major || up.Dev_minor != sx.Dev_minor || up.Mask&sx.Mask&unix.STATX_MNT_ID != 0 && up.Mnt_id != sx.Mnt_id {
			break
		}
		m.point = above
	}
	return m, nil
}

// mountsOf are the mounts that the files of a set are on, as far as they are there.
func mountsOf(t *set) []string {
	var list []string
	for i := range t.Files {
		if i > 0 && t.Files[i].Directory == t.Files[i-1].Directory {
			continue
		}
		if m, err := mountAt(string(t.Files[i].Directory)); err == nil && !slices.Contains(list, m.point) {
			list = append(list, m.point)
		}
	}
	return list
}

// The file systems that matter here by their kind (statfs(2)).
const (
	magicAFS  = 0x5346414f
	magicCeph = 0x00c36400
	magicCIFS = 0xff534d42
	magicCoda = 0x73757245
	magicGFS2 = 0x01161970
	magicOCFS = 0x7461636f
	magicRAM  = 0x858458f6
	magicSMB  = 0x517b
	magicSMB2 = 0xfe534d42
)

// volatileFS tells what is lost at a restart.
func volatileFS(kind int64) bool {
	switch uint32(kind) {
	case unix.TMPFS_MAGIC, magicRAM, unix.DEVPTS_SUPER_MAGIC, unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC:
		return true
	}
	return false
}

// lasts refuses a path that is lost at a restart.
func lasts(path string) error {
	m, err := mountAt(path)
	if err == nil && volatileFS(m.fsType) {
		err = errors.New("it is kept in memory only, and gone by then")
	}
	return err
}

// early refuses a mount that is not there so early in a start.
func (m mount) early(ctx context.Context) error {
	no := func(why string) error {
		return vss.Errorf(vss.ErrNotSupported, stageOp, m.point, "%w", errors.New(why))
	}
	if volatileFS(m.fsType) {
		return no("what is there is kept in memory only, and gone by then")
	}
	switch uint32(m.fsType) {
	case unix.NFS_SUPER_MAGIC, magicSMB, magicSMB2, magicCIFS, unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC, magicCeph, magicAFS, magicCoda, magicGFS2, magicOCFS:
		return no("network and FUSE file systems are not mounted so early in a start")
	}
	if m.point == "/" {
		return nil
	}
	if why, err := systemd.MountedLate(ctx, m.point); err == nil && why != "" {
		return no(why)
	}
	return nil
}
