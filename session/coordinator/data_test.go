package coordinator_test

import (
	"os"
	"path/filepath"
	"testing"
)

// TestResolvePathAsTheKernelDoes: ".." behind a link leads to where the link
// leads, not to where it lies.
func TestResolvePathAsTheKernelDoes(t *testing.T) {
	r := newRig(t)
	s, c := r.open(), deadline(t)
	must(t, os.MkdirAll(filepath.Join(r.dir, "a/b"), 0o755))
	must(t, os.MkdirAll(filepath.Join(r.dir, "c"), 0o755))
	must(t, os.Symlink("../a/b", filepath.Join(r.dir, "c/link")))
	must(t, os.WriteFile(filepath.Join(r.dir, "a/f"), nil, 0o644))
	want, err := s.ResolvePath(c, filepath.Join(r.dir, "a/f"))
	must(t, err)
	got, err := s.ResolvePath(c, r.dir+"/c/link/../f")
	must(t, err)
	if got.Volume != want.Volume || got.Name != want.Name {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := s.ResolvePath(c, "a/f"); err == nil {
		t.Error("a relative path is resolved")
	}
}
