package btrfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/area"
	"github.com/sombra-backup/sombra/vss"
)

// ID of the provider.
var ID = vss.MustParseGUID("004b5613-0af7-416d-ab3e-f017bf4df6b0")

const (
	// room is what a snapshot may take at once: tree blocks only.
	room = 16 << 20
	// usualHold is what the ioctl takes beside a program that writes
	// durably all the time (measured median 38 ms).
	usualHold = 40 * time.Millisecond
	// quickFlush is a flush after which another would not shorten Commit.
	quickFlush = 50 * time.Millisecond
	maxFlushes = 5
)

// Provider implements [provider.Provider]. Its zero value is ready for use.
type Provider struct{}

var _ provider.Provider = (*Provider)(nil)

// New makes the provider.
func New() *Provider { return &Provider{} }

// Info implements [provider.Provider].
func (*Provider) Info() provider.Info {
	return provider.Info{ID: ID, Name: "btrfs", Type: vss.ProviderSoftware, Version: "1"}
}

// Supports implements [provider.Provider].
func (*Provider) Supports(ctx context.Context, v provider.Volume, dir string) (provider.Capabilities, error) {
	if err := ctx.Err(); err != nil {
		return provider.Capabilities{}, err
	}
	root, err := openVolume(v)
	if err != nil {
		return provider.Capabilities{}, err
	}
	defer root.Close()
	if err := checkArea(root, v, dir); err != nil {
		return provider.Capabilities{}, err
	}
	return provider.Capabilities{Atomic: true, AreaOnVolume: true, ChangedRanges: true}, nil
}

// openVolume opens the volume's root if snapshots of it can be made.
func openVolume(v provider.Volume) (*os.File, error) {
	root, err := os.OpenFile(v.Root, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, notServed(v, "%w", err)
	}
	if err := checkVolume(v, root); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

func checkVolume(v provider.Volume, root *os.File) error {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &s); err != nil {
		return notServed(v, "%w", err)
	}
	switch {
	case s.Type != unix.BTRFS_SUPER_MAGIC:
		return notServed(v, "the file system is %s, not btrfs", v.FSType)
	case !IsSubvolume(int(root.Fd())):
		return notServed(v, "it is a directory of a btrfs subvolume, not the subvolume's root")
	case v.ReadOnly || s.Flags&unix.ST_RDONLY != 0:
		return notServed(v, "it is mounted read-only, so that no snapshot can be made on it")
	}
	if err := mayDelete(int(root.Fd())); err != nil {
		return notServed(v, "%w", err)
	}
	return nil
}

func notServed(v provider.Volume, format string, args ...any) error {
	return vss.Errorf(vss.ErrVolumeNotSupportedByProvider, "btrfs", v.Root, format, args...)
}

// BeginPrepare implements [provider.Provider].
func (*Provider) BeginPrepare(ctx context.Context, r provider.Request) (provider.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root, err := openVolume(r.Ref.Volume)
	if err != nil {
		return nil, err
	}
	if err := checkArea(root, r.Ref.Volume, r.Ref.Area); err != nil {
		root.Close()
		return nil, err
	}
	return newSnapshot(r, root), nil
}

// checkArea checks that the area, or the directory it will be made in, is on the
// volume's file system and can be written to.
func checkArea(root *os.File, v provider.Volume, dir string) error {
	if err := area.Check(dir); err != nil {
		return notServed(v, "%w", err)
	}
	want, err := fileSystemID(int(root.Fd()))
	if err != nil {
		return notServed(v, "%w", err)
	}
	at, err := area.Nearest(dir)
	if err != nil {
		return notServed(v, "%w", err)
	}
	defer at.Close()
	if got, err := fileSystemID(int(at.Fd())); err != nil || got != want {
		return notServed(v, "snapshots must lie on its own file system, and %s is on another", dir)
	}
	if err := unix.Faccessat(int(at.Fd()), ".", unix.W_OK, 0); err == unix.EROFS {
		return notServed(v, "snapshots would be made in %s, which lies in a read-only subvolume", at.Name())
	}
	return nil
}

// Locate implements [provider.Provider].
func (*Provider) Locate(ctx context.Context, ref provider.Ref) (provider.Copied, error) {
	if err := ctx.Err(); err != nil {
		return provider.Copied{}, err
	}
	path := copyPath(ref)
	dir, err := openCopyDir(ref)
	if err != nil {
		return provider.Copied{}, gone(ref, err)
	}
	defer dir.Close()
	fd, err := openSubvolume(dir)
	if err != nil {
		return provider.Copied{}, gone(ref, err)
	}
	defer unix.Close(fd)
	if ro, err := isReadOnly(fd); err != nil || !ro {
		return provider.Copied{}, vss.Errorf(vss.ErrObjectNotFound, "locate", path, "it is no read-only snapshot")
	}
	return provider.Copied{Root: path}, nil
}

func gone(ref provider.Ref, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoSubvolume) {
		return vss.Errorf(vss.ErrObjectNotFound, "locate", copyPath(ref), "")
	}
	return err
}

// Delete implements [provider.Provider].
func (*Provider) Delete(ctx context.Context, ref provider.Ref) error {
	a, err := area.Open(ref.Area)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer area.Retire(ref.Area)
	defer a.Close()
	if err := destroyIn(ref); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoSubvolume) {
		return err
	}
	return a.RemoveAll(ctx, ref.SnapshotID.String())
}

// destroyIn destroys the snapshot in a copy's directory.
func destroyIn(ref provider.Ref) error {
	dir, err := openCopyDir(ref)
	if err != nil {
		return err
	}
	defer dir.Close()
	fd, err := openSubvolume(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !privileged() {
		// The kernel lets nobody but root destroy what he may not write.
		if err := makeWritable(fd); err != nil {
			return &os.PathError{Op: "make writable", Path: copyPath(ref), Err: err}
		}
	}
	if err := destroy(dir.Fd(), treeName); err != nil {
		return &os.PathError{Op: "destroy subvolume", Path: copyPath(ref), Err: err}
	}
	return nil
}

var errNoSubvolume = errors.New("not a btrfs subvolume")

// openSubvolume opens the snapshot in a copy's directory.
func openSubvolume(dir *area.Dir) (int, error) {
	fd, err := unix.Openat(dir.Fd(), treeName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return -1, errNoSubvolume
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: filepath.Join(dir.Path(), treeName), Err: err}
	}
	if !IsSubvolume(fd) {
		unix.Close(fd)
		return -1, errNoSubvolume
	}
	return fd, nil
}

// A copy is the snapshot <area>/<shadow copy id>/tree. The directory around it
// is there from EndPrepare on, so that the area does not go in between.
const treeName = "tree"

func openCopyDir(ref provider.Ref) (*area.Dir, error) {
	return area.Open(filepath.Join(ref.Area, ref.SnapshotID.String()))
}

func copyPath(ref provider.Ref) string {
	return filepath.Join(ref.Area, ref.SnapshotID.String(), treeName)
}
