package openfiles

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// TestMain lets the test program be the process that has a file open.
func TestMain(m *testing.M) {
	if how := os.Getenv("OPENFILES_TEST_HOLD"); how != "" {
		hold(how, os.Getenv("OPENFILES_TEST_FILE"))
		return
	}
	os.Exit(m.Run())
}

func hold(how, name string) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	if how == "map" {
		if _, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED); err != nil {
			panic(err)
		}
		f.Close()
	}
	os.Stdout.WriteString("ready\n")
	io.ReadAll(os.Stdin)
}

// holder starts a process that keeps a file open or mapped until the test ends.
func holder(t *testing.T, how, name string) int {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "OPENFILES_TEST_HOLD="+how, "OPENFILES_TEST_FILE="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("holder: %q, %v", line, err)
	}
	return cmd.Process.Pid
}

func testHolders(t *testing.T, dir string) {
	file, other, link := filepath.Join(dir, "file"), filepath.Join(dir, "other"), filepath.Join(dir, "hard link")
	for _, name := range []string{file, other} {
		if err := os.WriteFile(name, make([]byte, 8192), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(file, link); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	paths := []string{file, filepath.Join(dir, "none")}
	if r, err := FindPaths(ctx, paths); err != nil || len(r.Open) != 0 {
		t.Fatalf("before anything is open: %+v, %v", r, err)
	}
	opener, mapper := holder(t, "open", link), holder(t, "map", file)
	holder(t, "open", other)
	r, err := FindPaths(ctx, paths)
	if err != nil || len(r.Open) != 2 {
		t.Fatalf("got %+v, %v; want processes %d and %d", r, err, opener, mapper)
	}
	for _, o := range r.Open {
		if o.PID != opener && o.PID != mapper || o.Path != file || o.Command == "" {
			t.Errorf("%+v", o)
		}
	}
	if r, err := FindPaths(ctx, paths, opener, mapper); err != nil || len(r.Open) != 0 {
		t.Errorf("with both left out: %+v, %v", r, err)
	}
}

func TestOpenAndMappedFilesAreFound(t *testing.T) { testHolders(t, t.TempDir()) }

// On btrfs the device in maps is not the one stat gives.
func TestMappedFileInSubvolumeIsFound(t *testing.T) {
	v := voltest.Btrfs(t, voltest.SmallBtrfs)
	voltest.Subvolume(t, v.Root+"/sub")
	testHolders(t, v.Root+"/sub")
}

func TestSearchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Find(ctx, map[ID]string{{1, 1}: "x"}); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func FuzzParseMap(f *testing.F) {
	f.Add("7f0000000000-7f0000001000 r--s 00000000 fd:00 123456                     /srv/a file")
	f.Add("7ffc0000-7ffd0000 rw-p 00000000 00:00 0                          [stack]")
	f.Add("1-2 r--p 0 ff:ff 18446744073709551615 x")
	f.Fuzz(func(t *testing.T, line string) {
		if m, ok := parseMap(line); ok && (m.inode == 0 || m.area == "" && line[0] != ' ') {
			t.Errorf("%q gives %+v", line, m)
		}
	})
}
