package voltest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Image is the file that holds the volume's file system. What programs wrote and
// did not sync may not be in it yet: it is what a loss of power leaves.
func (v *Volume) Image() string { return filepath.Join(filepath.Dir(v.Root), "image") }

// Clone makes a reflink copy of a file at one instant, both on the file system
// of an XFS or btrfs volume. Of a mounted volume's image it is what a loss of
// power at that instant would have left.
func Clone(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		dst.Close()
		return &os.PathError{Op: "clone", Path: from, Err: err}
	}
	return dst.Close()
}

// MountImage mounts the file system that an image holds, as after a loss of
// power: the kernel replays its journal. Done unmounts it before the test ends.
func MountImage(t testing.TB, fstype, image string, options ...string) (v *Volume, done func()) {
	t.Helper()
	Need(t, fstype)
	v = &Volume{Root: filepath.Join(scratch(t), "mnt"), FSType: fstype}
	if err := os.Mkdir(v.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dev, err := attach(f)
	if err != nil {
		t.Fatalf("attach %s to a loop device: %v", image, err)
	}
	defer dev.Close()
	v.Device = dev.Name()
	if err := unix.Mount(v.Device, v.Root, fstype, 0, joinOptions(options)); err != nil {
		t.Fatalf("mount %s on %s: %v", image, v.Root, err)
	}
	mounted := true
	done = func() {
		if mounted {
			mounted = false
			unmount(t, v.Root)
		}
	}
	t.Cleanup(done)
	return v, done
}
