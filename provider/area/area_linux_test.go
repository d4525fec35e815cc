package area

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/vss"
)

func TestMakeGivesADirectoryOfTheCallerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if _, err := Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Open of nothing: %v", err)
	}
	for _, mode := range []os.FileMode{0, 0o755, 0o777} { // 0: absent
		if mode != 0 {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		d, err := Make(path)
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o700 {
			t.Fatalf("mode %v, %v; want 0700", info.Mode(), err)
		}
	}
}

func TestAreaIsRefused(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(dir, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{"a symbolic link": link, "a file": file}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(dir, "foreign")
		if err := os.Mkdir(foreign, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		cases["somebody else's"] = foreign
	}
	for why, path := range cases {
		if d, err := Make(path); !errors.Is(err, vss.ErrProviderVeto) {
			t.Errorf("Make of %s: %v, %v; want VSS_E_PROVIDER_VETO", why, d, err)
		}
	}
	if _, err := Make("relative/path"); !errors.Is(err, vss.ErrInvalidArgument) {
		t.Errorf("relative path: %v", err)
	}
	if info, _ := os.Lstat(elsewhere); info.Mode().Perm() != 0o755 {
		t.Errorf("mode of the link's target changed to %v", info.Mode())
	}
}

func TestRemoveAllTakesAnythingAndFollowsNothing(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	if err := os.MkdirAll(filepath.Join(outside, "kept"), 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := Make(filepath.Join(base, "area"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	root := filepath.Join(d.Path(), "x")
	for i := range 40 {
		sub := filepath.Join(root, fmt.Sprint("d", i%7), "\n\xff .removed-1", fmt.Sprint(i))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range 40 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(j)), nil, 0o000); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(outside, filepath.Join(sub, "link")); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(filepath.Join(sub, "fifo"), 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(sub, 0o500); err != nil {
			t.Fatal(err)
		}
	}
	deepen(t, d.Fd(), 6000)
	for _, name := range []string{"x", "deep", "never there"} {
		if err := d.RemoveAll(t.Context(), name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(d.Path()); err != nil || len(left) != 0 {
		t.Fatalf("left %v, %v", left, err)
	}
	if _, err := os.Lstat(filepath.Join(outside, "kept")); err != nil {
		t.Fatal(err)
	}
}

// deepen makes a chain of directories far longer than a path may be.
func deepen(t *testing.T, at, depth int) {
	t.Helper()
	name := "deep"
	for i := range depth {
		if err := unix.Mkdirat(at, name, 0o700); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if i > 0 {
			unix.Close(at)
		}
		if err != nil {
			t.Fatal(err)
		}
		at, name = fd, "d"
	}
	unix.Close(at)
}

func TestCopiesComeAndGoBesideEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "area")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				name := fmt.Sprint(g, "-", i)
				d, err := MakeCopy(path, name)
				if err != nil {
					t.Error(err)
					return
				}
				if err := d.RemoveAll(t.Context(), name); err != nil {
					t.Error(err)
				}
				d.Close()
				Retire(path)
			}
		})
	}
	wg.Wait()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the area is still there: %v", err)
	}
	if d, err := MakeCopy(path, "twice"); err != nil {
		t.Fatal(err)
	} else {
		d.Close()
	}
	if _, err := MakeCopy(path, "twice"); !errors.Is(err, vss.ErrObjectAlreadyExists) {
		t.Fatalf("%v; want VSS_E_OBJECT_ALREADY_EXISTS", err)
	}
}
