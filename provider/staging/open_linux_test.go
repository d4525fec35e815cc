package staging

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openDir(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestNoPathLeadsOut(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "root")
	must(t, os.MkdirAll(filepath.Join(root, "dir", "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "dir", "file"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(base, "outside"), nil, 0o600))
	for name, target := range map[string]string{"up": "..", "abs": base, "file": "../outside", "in": "dir", "loop": "loop"} {
		must(t, os.Symlink(target, filepath.Join(root, name)))
	}
	at := openDir(t, root)
	long := strings.Repeat("in/../", 2000)
	for _, p := range []string{"..", "../outside", "/", base, "up", "up/outside", "abs/outside", "file", "in/file", "dir/../in/file",
		"loop", "dir/../../outside", "dir/sub/../../../outside", long + "up/outside", "/proc/self/root"} {
		for _, open := range []func(int, string) (int, error){
			func(at int, p string) (int, error) { return openBeneath(at, p, unix.O_RDONLY) },
			openDirectory,
		} {
			if fd, err := open(at, p); err == nil {
				unix.Close(fd)
				t.Errorf("%.60q can be opened", p)
			}
		}
	}
	for _, p := range []string{"dir", "dir/sub", "dir/file", ".", "dir/sub/.."} {
		fd, err := openBeneath(at, p, unix.O_RDONLY)
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		unix.Close(fd)
	}
}

func TestProcLinksLeadNowhere(t *testing.T) {
	at := openDir(t, "/proc/self")
	for _, p := range []string{"cwd", "root", "exe", "fd/0"} {
		if fd, err := openBeneath(at, p, unix.O_RDONLY); err == nil {
			unix.Close(fd)
			t.Errorf("/proc/self/%s can be opened", p)
		}
	}
}

func TestLongPathsAreOpened(t *testing.T) {
	at := openDir(t, t.TempDir())
	path := ""
	dir := at
	name := strings.Repeat("x", 200)
	for range 60 {
		must(t, unix.Mkdirat(dir, name, 0o700))
		next, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		if dir != at {
			unix.Close(dir)
		}
		dir = next
		path += name + "/"
	}
	defer unix.Close(dir)
	must(t, unix.Mkdirat(dir, "end", 0o700))
	fd, err := openBeneath(at, path+"end", unix.O_RDONLY|unix.O_DIRECTORY)
	must(t, err)
	unix.Close(fd)
	if _, err := openBeneath(at, path+"other", unix.O_RDONLY); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v, want ENOENT", err)
	}
}

func TestAPipeInPlaceOfAFileDoesNotHoldUs(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	fd, err := openToRead(openDir(t, dir), "pipe") // for ever, if it waited for a writer
	must(t, err)
	unix.Close(fd)
}
