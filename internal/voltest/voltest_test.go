//go:build linux

package voltest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestVolumesAreMountedAndGoWithTheTest(t *testing.T) {
	for _, fstype := range []string{"btrfs", "xfs", "ext4"} {
		var root, image string
		ok := t.Run(fstype, func(t *testing.T) {
			v := Make(t, fstype, SmallXFS)
			root, image = v.Root, filepath.Join(filepath.Dir(v.Root), "image")
			if got := mountType(t, v.Root); got != fstype {
				t.Fatalf("%s is mounted as %q", v.Root, got)
			}
			if err := os.WriteFile(filepath.Join(v.Root, "f"), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
			before := v.Free(t)
			v.Fill(t, 8<<20)
			if free := v.Free(t); free > 24<<20 {
				t.Errorf("%d bytes free after Fill, want about 8 MiB", free)
			}
			v.Empty(t)
			if free := v.Free(t); free < before/2 {
				t.Errorf("%d bytes free after Empty, were %d", free, before)
			}
		})
		if !ok || root == "" {
			continue
		}
		if got := mountType(t, root); got != "" {
			t.Errorf("%s is still mounted after its test", root)
		}
		if _, err := os.Lstat(image); !os.IsNotExist(err) {
			t.Errorf("image left: %v", err)
		}
	}
}

func TestSubvolumeHasInode256(t *testing.T) {
	v := Btrfs(t, 0)
	sub := filepath.Join(v.Root, "sub")
	Subvolume(t, sub)
	var st unix.Stat_t
	if err := unix.Stat(sub, &st); err != nil || st.Ino != 256 {
		t.Fatalf("inode %d, %v; want 256", st.Ino, err)
	}
}

func TestVolumesOfTheDeadAreSwept(t *testing.T) {
	Need(t)
	// No process has this number: it is the one above the highest.
	dir, err := os.MkdirTemp(scratchRoot(), scratchPrefix+"4194304-9-")
	if err != nil {
		t.Fatal(err)
	}
	mnt := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	sweep()
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		unix.Unmount(mnt, unix.MNT_DETACH)
		os.RemoveAll(dir)
		t.Fatalf("%s of a dead process is still there: %v", dir, err)
	}
}

func TestSkipIsCountable(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv(SkipLog, log)
	t.Run("one", func(t *testing.T) { Skip(t, "not %s", "root") })
	b, err := os.ReadFile(log)
	if err != nil || !strings.HasPrefix(string(b), SkipPrefix) || !strings.HasSuffix(string(b), ": not root\n") {
		t.Fatalf("log holds %q, %v", b, err)
	}
}

func mountType(t *testing.T, root string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 4 && f[4] == root {
			_, tail, _ := strings.Cut(line, " - ")
			return strings.Fields(tail)[0]
		}
	}
	return ""
}
