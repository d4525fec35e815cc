package reflink

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/area"
	"github.com/sombra-backup/sombra/provider/extents"
	"github.com/sombra-backup/sombra/provider/staging"
	"github.com/sombra-backup/sombra/vss"
)

// ID of the provider.
var ID = vss.MustParseGUID("ae8470aa-9ef9-4285-bac0-4f1e04aeb23e")

// Provider implements [provider.Provider]. Its zero value is ready for use.
type Provider struct{}

var _ provider.Provider = (*Provider)(nil)

// New makes the provider.
func New() *Provider { return &Provider{} }

// Info implements [provider.Provider].
func (*Provider) Info() provider.Info {
	return provider.Info{ID: ID, Name: "reflink", Type: vss.ProviderSoftware, Version: "1"}
}

// Supports implements [provider.Provider]. It tries a clone with two files that
// have no name and are gone when it returns.
func (*Provider) Supports(ctx context.Context, v provider.Volume, dir string) (provider.Capabilities, error) {
	if err := ctx.Err(); err != nil {
		return provider.Capabilities{}, err
	}
	if err := serves(v, dir); err != nil {
		return provider.Capabilities{}, err
	}
	return provider.Capabilities{NeedsScope: true, AreaOnVolume: true, ChangedRanges: extents.Serves(v.FSType)}, nil
}

// remote are file systems that clone, but that other hosts may write to.
var remote = map[string]bool{"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "ocfs2": true, "gfs2": true}

func serves(v provider.Volume, dir string) error {
	if remote[v.FSType] {
		return notServed(v, "what other hosts write to %s cannot be held", v.FSType)
	}
	root, err := os.OpenFile(v.Root, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return notServed(v, "%w", err)
	}
	defer root.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &fs); err != nil {
		return notServed(v, "%w", err)
	}
	if v.ReadOnly || fs.Flags&unix.ST_RDONLY != 0 {
		return notServed(v, "it is mounted read-only, so that no clone can be made on it")
	}
	if err := staging.CanWalk(v, "reflink", int(root.Fd())); err != nil {
		return err
	}
	return probe(v, root, dir)
}

func notServed(v provider.Volume, format string, args ...any) error {
	return vss.Errorf(vss.ErrVolumeNotSupportedByProvider, "reflink", v.Root, format, args...)
}

// probe tries whether files can be cloned from the volume to the area.
func probe(v provider.Volume, root *os.File, dir string) error {
	if err := area.Check(dir); err != nil {
		return notServed(v, "%w", err)
	}
	at, err := area.Nearest(dir)
	if err != nil {
		return notServed(v, "%w", err)
	}
	defer at.Close()
	src, err := nameless(at)
	if err != nil {
		return tried(v, "make a file in "+at.Name(), err)
	}
	defer src.Close()
	dst, err := nameless(at)
	if err != nil {
		return tried(v, "make a file in "+at.Name(), err)
	}
	defer dst.Close()
	// Nobody can clone a directory, but that it is on another file system is
	// found out first.
	if err := unix.IoctlFileClone(int(dst.Fd()), int(root.Fd())); err == unix.EXDEV {
		return notServed(v, "clones must lie on its own file system, and %s is on another", dir)
	}
	if _, err := src.Write(make([]byte, 4096)); err != nil {
		return tried(v, "write a file in "+at.Name(), err)
	}
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		return tried(v, "clone", err)
	}
	return nil
}

// nameless makes a file without a name on a directory's file system.
func nameless(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir.Name()), nil
}

// tried says what the failure of the trial means.
func tried(v provider.Volume, op string, err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		if v.FSType == "xfs" || v.FSType == "btrfs" || v.FSType == "bcachefs" {
			return nil // it very likely can; that it is full, Estimate will say
		}
	case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EISDIR):
		if v.FSType == "xfs" {
			return notServed(v, "this XFS was made without reflinks (mkfs.xfs -m reflink=1)")
		}
		return notServed(v, "files on %s cannot share blocks", v.FSType)
	}
	return notServed(v, "%s: %w", op, err)
}

// BeginPrepare implements [provider.Provider].
func (*Provider) BeginPrepare(ctx context.Context, r provider.Request) (provider.Snapshot, error) {
	if err := serves(r.Ref.Volume, r.Ref.Area); err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(r.Ref.Volume.Root, &fs); err != nil {
		return nil, notServed(r.Ref.Volume, "%w", err)
	}
	s, err := staging.New(ctx, r, method{costOf(int64(fs.Type))})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Locate implements [provider.Provider].
func (*Provider) Locate(ctx context.Context, ref provider.Ref) (provider.Copied, error) {
	return staging.Locate(ctx, ref)
}

// Delete implements [provider.Provider].
func (*Provider) Delete(ctx context.Context, ref provider.Ref) error {
	return staging.Delete(ctx, ref)
}
