package voltest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The smallest volumes mkfs makes without complaint, with room to work in.
const (
	SmallBtrfs = 256 << 20
	SmallXFS   = 320 << 20
	SmallExt4  = 128 << 20
)

// Volume is a mounted file system that lives as long as the test.
type Volume struct {
	// Root is the mount point: an absolute path without symbolic links,
	// mode 0755.
	Root string
	// FSType is btrfs, xfs or ext4.
	FSType string
	// UUID of the file system, in lower case.
	UUID string
	// Device is the block device it is mounted from.
	Device string

	filler string
}

// Need skips the test, loudly, unless volumes of these types can be made here.
func Need(t testing.TB, fstypes ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, "not root: volumes cannot be mounted")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		Skip(t, "no loop devices: %v", err)
	}
	for _, fs := range fstypes {
		if _, err := exec.LookPath("mkfs." + fs); err != nil {
			Skip(t, "mkfs.%s is not installed", fs)
		}
		if !kernelHas(fs) {
			Skip(t, "the kernel has no %s", fs)
		}
	}
	if err := mayMount(); err != nil {
		Skip(t, "root, but mounting is refused: %v", err)
	}
}

// kernelHas reports whether the file system is there or can be loaded.
func kernelHas(fs string) bool {
	list, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(list) {
		if f := bytes.Fields(line); len(f) > 0 && string(f[len(f)-1]) == fs {
			return true
		}
	}
	return exec.Command("modprobe", fs).Run() == nil
}

// mayMount tries a mount, once: uid 0 of a container is often not allowed to.
var mayMount = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "sombra-vol-try-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		return err
	}
	return unix.Unmount(dir, unix.MNT_DETACH)
})

// Make makes and mounts a file system. Options are mount options as in
// "user_subvol_rm_allowed"; XFS is made with reflinks. The test fails if it
// cannot be made.
func Make(t testing.TB, fstype string, size int64, options ...string) *Volume {
	t.Helper()
	Need(t, fstype)
	sweepOnce()
	dir := scratch(t)
	v := &Volume{Root: filepath.Join(dir, "mnt"), FSType: fstype, UUID: newUUID()}
	if err := os.Mkdir(v.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	f, err := os.OpenFile(image, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	mkfs(t, fstype, v.UUID, image)
	dev, err := attach(f)
	if err != nil {
		t.Fatalf("attach %s to a loop device: %v", image, err)
	}
	defer dev.Close() // the mount keeps the device; it frees itself after the last use
	v.Device = dev.Name()
	if err := unix.Mount(v.Device, v.Root, fstype, 0, joinOptions(options)); err != nil {
		t.Fatalf("mount %s on %s: %v", v.Device, v.Root, err)
	}
	t.Cleanup(func() { unmount(t, v.Root) })
	if err := os.Chmod(v.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	return v
}

// Btrfs, XFS and Ext4 make a volume of at least size bytes, enlarged to the
// least the file system takes.
func Btrfs(t testing.TB, size int64, options ...string) *Volume {
	t.Helper()
	return Make(t, "btrfs", max(size, SmallBtrfs), options...)
}

// XFS: see [Btrfs].
func XFS(t testing.TB, size int64, options ...string) *Volume {
	t.Helper()
	return Make(t, "xfs", max(size, SmallXFS), options...)
}

// Ext4: see [Btrfs].
func Ext4(t testing.TB, size int64, options ...string) *Volume {
	t.Helper()
	return Make(t, "ext4", max(size, SmallExt4), options...)
}

// Tmpfs mounts a tmpfs, which has neither UUID nor device.
func Tmpfs(t testing.TB, size int64) *Volume {
	t.Helper()
	Need(t)
	sweepOnce()
	v := &Volume{Root: filepath.Join(scratch(t), "mnt"), FSType: "tmpfs", Device: "tmpfs"}
	if err := os.Mkdir(v.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", v.Root, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", size)); err != nil {
		t.Fatalf("mount tmpfs on %s: %v", v.Root, err)
	}
	t.Cleanup(func() { unmount(t, v.Root) })
	return v
}

// Overlay mounts an overlay of two directories of base.
func Overlay(t testing.TB, base *Volume) *Volume {
	t.Helper()
	v := &Volume{Root: filepath.Join(scratch(t), "mnt"), FSType: "overlay", Device: "overlay"}
	opts := ""
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base.Root, d), 0o755); err != nil {
			t.Fatal(err)
		}
		opts += "," + d + "dir=" + filepath.Join(base.Root, d)
	}
	if err := os.Mkdir(v.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("overlay", v.Root, "overlay", 0, opts[1:]); err != nil {
		t.Fatalf("mount overlay on %s: %v", v.Root, err)
	}
	t.Cleanup(func() { unmount(t, v.Root) })
	return v
}

// Bind mounts the directory from on the directory to until the test ends.
func Bind(t testing.TB, from, to string) {
	t.Helper()
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("bind %s on %s: %v", from, to, err)
	}
	t.Cleanup(func() { unmount(t, to) })
}

// Remount changes the mount's options, such as "ro".
func (v *Volume) Remount(t testing.TB, readOnly bool) {
	t.Helper()
	flags := uintptr(unix.MS_REMOUNT)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("", v.Root, "", flags, ""); err != nil {
		t.Fatalf("remount %s: %v", v.Root, err)
	}
}

// Free gives the bytes an ordinary user can still write.
func (v *Volume) Free(t testing.TB) int64 {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(v.Root, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// Fill occupies the volume so that about leave bytes stay free. [Volume.Empty]
// gives the room back.
func (v *Volume) Fill(t testing.TB, leave int64) {
	t.Helper()
	if v.filler == "" {
		v.filler = filepath.Join(v.Root, "filler")
	}
	f, err := os.OpenFile(v.filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Written, not only allocated, and in steps that shrink: the figure a
	// file system gives for what is free is not exact.
	chunk := bytes.Repeat([]byte("filler! "), 1<<13)
	for {
		free := v.Free(t)
		if free <= leave {
			break
		}
		if _, err := f.Write(chunk[:min(int64(len(chunk)), free-leave)]); err != nil {
			break // full, which is what was asked for
		}
		if free-leave < 4<<20 {
			f.Sync() // what is free is only known for sure after write-back
		}
	}
	f.Sync()
}

// Empty takes away what Fill wrote, and waits until the room is there: XFS and
// btrfs give it back some time after the removal.
func (v *Volume) Empty(t testing.TB) {
	t.Helper()
	info, err := os.Lstat(v.filler)
	if err != nil {
		return
	}
	want := v.Free(t) + info.Size()/2
	if err := os.Remove(v.filler); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); v.Free(t) < want; time.Sleep(20 * time.Millisecond) {
		v.Sync(t)
		if time.Now().After(end) {
			t.Fatalf("%s: only %d bytes are free again, want %d", v.Root, v.Free(t), want)
		}
	}
}

// Sync writes everything dirty on the volume.
func (v *Volume) Sync(t testing.TB) {
	t.Helper()
	fd, err := unix.Open(v.Root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Syncfs(fd); err != nil {
		t.Fatalf("sync %s: %v", v.Root, err)
	}
}

func mkfs(t testing.TB, fstype, uuid, image string) {
	t.Helper()
	args := map[string][]string{
		"btrfs": {"-q", "-f", "-U", uuid},
		"xfs":   {"-q", "-f", "-m", "reflink=1,uuid=" + uuid},
		"ext4":  {"-q", "-F", "-m", "0", "-U", uuid},
	}[fstype]
	if args == nil {
		t.Fatalf("no way to make a volume of type %q is known", fstype)
	}
	out, err := exec.Command("mkfs."+fstype, append(slices.Clone(args), image)...).CombinedOutput()
	if err != nil {
		t.Fatalf("mkfs.%s: %v\n%s", fstype, err, out)
	}
}

func joinOptions(options []string) string {
	s := ""
	for i, o := range options {
		if i > 0 {
			s += ","
		}
		s += o
	}
	return s
}

// unmount insists for a while: a process just killed may still have a file
// open. At last it detaches, so that nothing is left mounted.
func unmount(t testing.TB, root string) {
	var err error
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = unix.Unmount(root, 0); err == nil || err == unix.EINVAL {
			return
		}
		if time.Now().After(end) {
			break
		}
	}
	t.Errorf("unmount %s: %v; detached instead", root, err)
	if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
		t.Errorf("detach %s: %v", root, err)
	}
}

func newUUID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		panic(err)
	}
	return string(bytes.TrimSpace(b))
}
