package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// wantAlone checks that a directory has one file, with this content and mode.
func wantAlone(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != filepath.Base(name) {
		t.Fatalf("the directory has %v, want %s alone", entries, filepath.Base(name))
	}
	info, err := entries[0].Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != mode {
		t.Errorf("mode %v, want %v", info.Mode(), mode)
	}
	if data, err := os.ReadFile(name); err != nil || string(data) != content {
		t.Errorf("it reads %q, %v, want %q", data, err, content)
	}
}

// TestAFileIsReplacedWhole: with the mode asked for, whatever the old one's was,
// and the old file is not written to.
func TestAFileIsReplacedWhole(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := WriteFile(name, []byte("old, and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, name, "old, and longer", 0o644)
	old, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := WriteFile(name, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, name, "new", 0o600)
	was := make([]byte, 100)
	if n, _ := old.Read(was); string(was[:n]) != "old, and longer" {
		t.Errorf("who has the old file open reads %q", was[:n])
	}
}

// TestAWriteThatFailsLeavesNothing: neither a name, nor a file half written.
func TestAWriteThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := WriteFile(filepath.Join(dir, "none", "file"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its directory: %v", err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(taken, []byte("x"), 0o600); err == nil {
		t.Error("a file takes the place of a directory")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := SyncDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// TestWhatADeadProcessLeftIsKnown: by the pattern that WriteFile names files by.
func TestWhatADeadProcessLeftIsKnown(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), pattern("file.json"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if elem := filepath.Base(f.Name()); !IsUnfinished(elem) {
		t.Errorf("%s is not told to be unfinished", elem)
	}
	for _, elem := range []string{"file.json", ".file.json", "file.new", ""} {
		if IsUnfinished(elem) {
			t.Errorf("%q is told to be unfinished", elem)
		}
	}
}
