package local_test

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/local"
	"github.com/sombra-backup/sombra/repository/store/storetest"
)

func open(t *testing.T, dir string) *local.Store {
	t.Helper()
	st, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestStoreKeepsThePromisesOfStorage(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "a", "repository")) })
}

func TestTwoStoresOfOneFolder(t *testing.T) {
	storetest.RunTwo(t, func(t *testing.T) (store.Store, store.Store) {
		dir := filepath.Join(t.TempDir(), "repository")
		return open(t, dir), open(t, dir)
	})
}

func TestLookingLeavesNothingBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	st := open(t, dir)
	if _, err := st.Stat(t.Context(), "config"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
	if err := st.List(t.Context(), "", func(store.Info) error { return nil }); err != nil {
		t.Errorf("list: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: Windows has no mode bits to look at")
	}
	dir := filepath.Join(t.TempDir(), "r")
	st := open(t, dir)
	if err := st.Put(t.Context(), "data/aa/x", []byte("x")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, fi.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFileIsNotAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Open(file); err == nil {
		t.Error("a file was opened as a store")
	}
}

func TestSweepRemovesRemainsOfPuts(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	if err := st.Put(t.Context(), "data/aa/x", []byte("x")); err != nil {
		t.Fatal(err)
	}
	old, young := filepath.Join(dir, "data", "aa", ".sombra-tmp-old"), filepath.Join(dir, "data", "aa", ".sombra-tmp-young")
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, []byte("part"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	seen := 0
	if err := st.List(t.Context(), "", func(store.Info) error { seen++; return nil }); err != nil || seen != 1 {
		t.Errorf("%d objects listed, want 1: %v", seen, err)
	}
	if err := st.Sweep(t.Context(), 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old remains are still there: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("what may still be written was removed: %v", err)
	}
}

func TestRegistryOpensPathsAndFileURLs(t *testing.T) {
	reg := store.Registry{"file": local.OpenURL}
	dir := t.TempDir()
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}
	t.Chdir(filepath.Dir(dir))
	for _, location := range []string{dir, filepath.Base(dir), "./" + filepath.Base(dir), u.String()} {
		st, err := reg.Open(t.Context(), location)
		if err != nil {
			t.Errorf("open %q: %v", location, err)
			continue
		}
		if got := st.(*local.Store).Dir(); got != dir {
			t.Errorf("open %q: %q, want %q", location, got, dir)
		}
	}
}
