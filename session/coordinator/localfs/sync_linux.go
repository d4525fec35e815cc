package localfs

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// touch notes the device of a directory that is written in.
func (t *target) touch(dir int) error {
	var sx unix.Statx_t
	if err := statxFD(dir, &sx); err != nil {
		return err
	}
	return t.touchDevice(&sx, dir)
}

// touchDevice notes a device, by any descriptor of something on it. On btrfs
// each subvolume counts as one; syncing them one after another costs nothing.
func (t *target) touchDevice(sx *unix.Statx_t, fd int) error {
	device := unix.Mkdev(sx.Dev_major, sx.Dev_minor)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.dirty[device]; ok || t.all {
		return nil
	}
	// syncfs wants a descriptor that is really open, not O_PATH. Pipes,
	// devices and directories that may not be read are no use; then all
	// file systems will be synced.
	if kind := sx.Mode & unix.S_IFMT; kind == unix.S_IFDIR || kind == unix.S_IFREG {
		if open, err := unix.Open(procPath(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			t.dirty[device] = os.NewFile(uintptr(open), "device written to")
			return nil
		}
	}
	t.all = true
	return nil
}

// Sync writes all file systems out that anything was restored to.
func (t *target) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	var fds []int
	all := t.all
	for _, f := range t.dirty {
		err := control(f, func(fd int) error {
			own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			fds = append(fds, own)
			return err
		})
		if err != nil {
			t.mu.Unlock()
			return &fs.PathError{Op: "sync", Path: t.hostPath("."), Err: err}
		}
	}
	t.mu.Unlock()
	if all {
		unix.Sync()
	}
	var errs []error
	for _, fd := range fds {
		errs = append(errs, unix.Syncfs(fd))
		unix.Close(fd)
	}
	if err := errors.Join(errs...); err != nil {
		return &fs.PathError{Op: "sync", Path: t.hostPath("."), Err: err}
	}
	return nil
}
