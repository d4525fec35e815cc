//go:build unix

package local_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/local"
)

// listed gives the names List shows.
func listed(t *testing.T, st *local.Store, prefix string) []string {
	t.Helper()
	var names []string
	err := st.List(t.Context(), prefix, func(info store.Info) error {
		names = append(names, info.Name)
		return nil
	})
	if err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	slices.Sort(names)
	return names
}

// within fails the test if f has not returned in time.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s does not return within %v", what, limit)
	}
}

// TestOnlyRegularFilesAreObjects: a pipe that nobody writes to hangs nobody, and
// neither it nor a link, a socket or a folder is an object.
func TestOnlyRegularFilesAreObjects(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	if err := st.Put(t.Context(), "records/whole", []byte("object")); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, "records", name) }
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(socket)
	t.Chdir(filepath.Join(dir, "records")) // a socket's path is short
	for name, err := range map[string]error{
		"pipe":     syscall.Mkfifo(at("pipe"), 0o600),
		"link":     os.Symlink(secret, at("link")),
		"dangling": os.Symlink("nowhere", at("dangling")),
		"device":   os.Symlink("/dev/zero", at("device")),
		"folder":   os.Mkdir(at("folder"), 0o700),
		"socket":   syscall.Bind(socket, &syscall.SockaddrUnix{Name: "socket"}),
	} {
		if err != nil {
			t.Fatalf("make %s: %v", name, err)
		}
		name = "records/" + name
		within(t, 10*time.Second, "looking at "+name, func() {
			if _, err := st.Stat(t.Context(), name); !errors.Is(err, store.ErrNotExist) {
				t.Errorf("stat %s: %v", name, err)
			}
			if n, err := st.ReadAt(t.Context(), name, make([]byte, 6), 0); n != 0 || !errors.Is(err, store.ErrNotExist) {
				t.Errorf("read %s: %d bytes, %v", name, n, err)
			}
			if err := st.Put(t.Context(), name, []byte("x")); err == nil {
				t.Errorf("put %s: it was made where something else stands", name)
			}
		})
	}
	if got := listed(t, st, ""); !slices.Equal(got, []string{"records/whole"}) {
		t.Errorf("listed %q", got)
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "secret" {
		t.Errorf("what a link leads to was changed: %q, %v", got, err)
	}
}

// TestTheFolderMayBeALink: only below it are links not followed.
func TestTheFolderMayBeALink(t *testing.T) {
	real, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	st := open(t, link)
	for _, name := range []string{"config", "data/ab/x"} {
		if err := st.Put(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for prefix, want := range map[string][]string{"": {"config", "data/ab/x"}, "con": {"config"}, "data/": {"data/ab/x"}} {
		if got := listed(t, st, prefix); !slices.Equal(got, want) {
			t.Errorf("list %q: %q, want %q", prefix, got, want)
		}
	}
	old := filepath.Join(real, "data", "ab", ".sombra-tmp-1")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := st.Sweep(t.Context(), -time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the remains of a put were not swept: %v", err)
	}
}

// TestLinksInsideAreSaid: a folder replaced by a link must not make the objects
// in it seem gone, and nothing is written through it.
func TestLinksInsideAreSaid(t *testing.T) {
	for _, name := range []string{"data", "data/ab"} {
		dir, elsewhere := t.TempDir(), t.TempDir()
		st := open(t, dir)
		if err := st.Put(t.Context(), "data/ab/x", []byte("x")); err != nil {
			t.Fatal(err)
		}
		moved := filepath.Join(elsewhere, "moved")
		if err := os.Rename(filepath.Join(dir, name), moved); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(moved, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		err := open(t, dir).List(context.Background(), "data/", func(store.Info) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("list with %s a link: %v", name, err)
		}
		err = open(t, dir).Put(t.Context(), "data/ab/y", []byte("y"))
		if err == nil || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("put with %s a link: %v", name, err)
		}
		if err := filepath.WalkDir(elsewhere, func(path string, d os.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, "y") {
				t.Errorf("%s was written through a link", path)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// TestSweepLeavesWhatIsNotOurs: the folder may be the root of a disk, with a
// lost+found and other people's folders.
func TestSweepLeavesWhatIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	if err := st.Put(t.Context(), "data/ab/x", []byte("x")); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(dir, "My Files", ".sombra-tmp-1")
	closed := filepath.Join(dir, "lost+found")
	shut := filepath.Join(dir, "photos")
	if err := errors.Join(os.Mkdir(filepath.Dir(theirs), 0o700), os.WriteFile(theirs, nil, 0o600), os.Mkdir(closed, 0), os.Mkdir(shut, 0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(closed, 0o700); os.Chmod(shut, 0o700) })
	// As root the modes hinder nobody, and only the names are tested.
	if err := st.Sweep(t.Context(), -time.Hour); err != nil {
		t.Errorf("sweep: %v", err)
	}
	if _, err := os.Lstat(theirs); err != nil {
		t.Errorf("a file in somebody's folder was swept: %v", err)
	}
	if got := listed(t, st, "data/"); !slices.Equal(got, []string{"data/ab/x"}) {
		t.Errorf("listed %q", got)
	}
}
