package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sombra-backup/sombra/repository/mountfs"
)

// mount shows the repository until the context ends or it is unmounted.
func (a *app) mount(ctx context.Context, dir string, o mountOptions) error {
	if a.repo != "" && a.hides(dir) {
		return &hintError{fmt.Errorf("%s holds the repository, which a mount would hide", dir), "mount on another directory, an empty one"}
	}
	repo, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	m, err := mountfs.Start(ctx, repo, dir, mountfs.Options{Show: o.show, AllowOther: o.allowOther, Log: a.log()})
	if err != nil {
		return errors.Join(mountError(dir, err), repo.Close())
	}
	if a.json {
		err = a.printJSON("mounted", fields{"dir": dir})
	} else {
		a.printf("mounted on %s; an interrupt (Ctrl-C), or umount, ends it\n", printable(dir))
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case <-m.Ended():
		}
	}
	err = errors.Join(err, m.Unmount())
	var busy *mountfs.BusyError
	if errors.As(err, &busy) {
		// Requests may be going on: the keys go with the process.
		return a.warn("%v", busy)
	}
	return errors.Join(err, repo.Close())
}

// mountError adds the way out to why there is no mount.
func mountError(dir string, err error) error {
	switch {
	case errors.Is(err, mountfs.ErrDead):
		return &hintError{err, "remove it with: fusermount3 -u " + printable(dir) + " (or, as root, umount -l " + printable(dir) + ")"}
	case errors.Is(err, mountfs.ErrNoFUSE):
		return &hintError{err, "load the kernel's module (modprobe fuse), or in a container pass /dev/fuse in; sombra extract needs none of it"}
	case errors.Is(err, mountfs.ErrNoHelper):
		return &hintError{err, "install the package fuse3, or mount as root; sombra extract needs none of it"}
	case errors.Is(err, os.ErrPermission):
		return &hintError{err, "a container may forbid mounts; sombra extract needs none"}
	case errors.Is(err, os.ErrNotExist):
		return &hintError{err, "the directory to mount on must be there"}
	}
	return err
}
