package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/sombra-backup/sombra/repository"
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
	if err := a.mountWarnings(ctx, repo, dir, &o); err != nil {
		return errors.Join(err, repo.Close())
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

// mountWarnings tells what of a mount is perhaps not meant: that nothing will be
// seen in it, and that something is hidden by it.
func (a *app) mountWarnings(ctx context.Context, repo *repository.Repository, dir string, o *mountOptions) error {
	if !emptyDir(dir) {
		if err := a.warn("%s is not empty: what is in it is hidden while the backups are mounted on it", dir); err != nil {
			return err
		}
	}
	records, err := repo.Records(ctx)
	if err != nil && !errors.Is(err, repository.ErrDamaged) {
		return err // one that is damaged is told by the mount
	}
	if slices.ContainsFunc(records, o.show) {
		return nil
	}
	if len(records) == 0 && err == nil {
		return a.warn("the repository holds no backup yet")
	}
	return a.warnNone(records, o.host, o.tags, nil)
}

// emptyDir says whether a directory has nothing in it, or cannot be read.
func emptyDir(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return true
	}
	defer d.Close()
	names, _ := d.Readdirnames(1)
	return len(names) == 0
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
	case errors.Is(err, mountfs.ErrRefused):
		return &hintError{err, "it says above why; --allow-other needs user_allow_other in /etc/fuse.conf"}
	case errors.Is(err, os.ErrPermission):
		return &hintError{err, "this system, or a container, lets only root mount, or nobody; sombra extract needs no mount"}
	case errors.Is(err, os.ErrNotExist):
		return &hintError{err, "the directory to mount on must be there"}
	}
	return err
}
