package btrfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/vss"
)

func uuidOf(t *testing.T, path string) vss.GUID {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id, err := SubvolumeUUID(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestNestedSubvolumesAreFound(t *testing.T) {
	v := voltest.Btrfs(t, 0)
	top := filepath.Join(v.Root, "top")
	voltest.Subvolume(t, top)
	want := []string{"a", "a/dir/b", "with\nnewline", "x/y"}
	if err := os.MkdirAll(filepath.Join(top, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range want {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(top, p)), 0o755); err != nil {
			t.Fatal(err)
		}
		voltest.Subvolume(t, filepath.Join(top, p))
	}
	for _, in := range []string{top, filepath.Join(top, "a/dir/b")} {
		copied := filepath.Join(in, ".sombra", "id")
		if err := os.MkdirAll(copied, 0o700); err != nil {
			t.Fatal(err)
		}
		voltest.Subvolume(t, filepath.Join(copied, "tree"))
	}
	voltest.Subvolume(t, filepath.Join(v.Root, "beside"))

	got, err := Subvolumes(t.Context(), top)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("found %+v, want %q", got, want)
	}
	for i, s := range got {
		if s.Path != want[i] || s.Err != nil || s.ReadOnly || s.UUID.IsZero() {
			t.Errorf("found %+v, want %q", s, want[i])
		}
		if id := uuidOf(t, filepath.Join(top, s.Path)); id != s.UUID {
			t.Errorf("%s: UUID %s by descriptor, %s in the list", s.Path, id, s.UUID)
		}
	}
	if _, err := Subvolumes(t.Context(), filepath.Join(top, "x")); err == nil {
		t.Error("a directory that is no subvolume's root was taken for one")
	}
}

func TestManySubvolumesAreFound(t *testing.T) {
	v := voltest.Btrfs(t, 0)
	const n = 600 // more than two answers of the kernel hold
	for i := range n {
		voltest.Subvolume(t, filepath.Join(v.Root, "s"+string(rune('a'+i/26/26))+string(rune('a'+i/26%26))+string(rune('a'+i%26))))
	}
	got, err := Subvolumes(t.Context(), v.Root)
	if err != nil || len(got) != n {
		t.Fatalf("found %d, %v; want %d", len(got), err, n)
	}
}

func TestAHiddenSubvolumeIsReportedAndNotMistaken(t *testing.T) {
	v := voltest.Btrfs(t, 0)
	voltest.Subvolume(t, filepath.Join(v.Root, "hidden"))
	if err := os.Mkdir(filepath.Join(v.Root, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	voltest.Bind(t, filepath.Join(v.Root, "dir"), filepath.Join(v.Root, "hidden"))
	got, err := Subvolumes(t.Context(), v.Root)
	if err != nil || len(got) != 1 || got[0].Err == nil || got[0].Path != "" {
		t.Fatalf("found %+v, %v; want one with an error", got, err)
	}
}

func TestUUIDNamesTheSubvolume(t *testing.T) {
	v := voltest.Btrfs(t, 0)
	voltest.Subvolume(t, filepath.Join(v.Root, "s"))
	file := filepath.Join(v.Root, "s", "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	top, sub := uuidOf(t, v.Root), uuidOf(t, filepath.Join(v.Root, "s"))
	if top.IsZero() || sub.IsZero() || top == sub {
		t.Fatalf("top %s, subvolume %s: want two different ones", top, sub)
	}
	if got := uuidOf(t, file); got != sub {
		t.Errorf("a file in the subvolume says %s, its root %s", got, sub)
	}
}
