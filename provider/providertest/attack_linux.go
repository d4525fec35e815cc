package providertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
)

const secret = "SECRET OF ANOTHER"

// noSecret checks that nothing in a copy has been reached through a link.
func noSecret(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if rel, _ := filepath.Rel(root, p); strings.HasPrefix(rel, "outside/") {
			return nil // there it belongs, in a copy of the whole volume
		}
		b, err := os.ReadFile(p)
		if strings.Contains(string(b), secret) {
			t.Errorf("%s in the copy holds what lies behind a link", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testLinks(t *testing.T, f *fixture) {
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "file"), []byte(secret), 0o600))
	must(t, os.Mkdir(filepath.Join(outside, "sub"), 0o700))
	must(t, os.WriteFile(filepath.Join(outside, "sub", "x.log"), []byte(secret), 0o600))
	must(t, os.WriteFile(filepath.Join(outside, "x.log"), []byte(secret), 0o600))
	f.write(t, "data/dir/file", "mine")
	f.write(t, "data/later/file", "mine")
	f.write(t, "data/up/file", "mine")
	must(t, os.Symlink(outside, f.path("data/link")))
	must(t, os.Symlink("..", f.path("data/parent")))
	must(t, os.MkdirAll(f.path("var"), 0o755))
	must(t, os.Symlink(outside, f.path("var/log"))) // where a file set begins

	req := f.request()
	m := f.prepared(t, req)
	must(t, os.RemoveAll(f.path("data/later")))
	must(t, os.Symlink(outside, f.path("data/later")))
	must(t, os.Remove(f.path("data/dir/file")))
	must(t, os.Symlink(filepath.Join(outside, "file"), f.path("data/dir/file")))
	c := m.finish(t)
	noSecret(t, c.Root)
	for _, name := range []string{"data/later", "data/dir/file", "data/link", "var/log"} {
		if _, err := os.Readlink(filepath.Join(c.Root, name)); err != nil {
			t.Errorf("%s: %v, want a symbolic link", name, err)
		}
	}
}

func testSwap(t *testing.T, f *fixture) {
	f.write(t, "data/trap/file", "mine")
	f.write(t, "outside/file", secret)
	w := start(t, "swap", f.path("data"))
	for range 50 { // following links, one in ten would be caught
		w.progress(2)
		req := f.request()
		m := f.prepared(t, req)
		// The program is not held still: what it does is meant to harm.
		c := m.finish(t)
		noSecret(t, c.Root)
		must(t, f.p.Delete(t.Context(), req.Ref))
	}
}

func testNested(t *testing.T, f *fixture) {
	outside := t.TempDir()
	f.write(t, "data/file", "mine")
	f.write(t, "data/mounted/below", "mine, but hidden")
	f.write(t, "elsewhere/file", secret)
	must(t, os.WriteFile(filepath.Join(outside, "file"), []byte(secret), 0o600))
	if f.v.Subvolume != nil {
		f.v.Subvolume(t, f.path("data/nested"))
		f.write(t, "data/nested/file", secret)
	}
	mounts := os.Geteuid() == 0
	if mounts {
		must(t, os.Mkdir(f.path("data/bound"), 0o755))
		voltest.Bind(t, outside, f.path("data/mounted"))
		voltest.Bind(t, f.path("elsewhere"), f.path("data/bound")) // of the same file system
	}
	c := f.prepared(t, f.request()).finish(t)
	must(t, os.RemoveAll(f.path("elsewhere", "file")))
	noSecretBut(t, c.Root, "elsewhere/file")
	if man, err := provider.ReadManifest(c.Root); err == nil {
		for name, want := range map[string]bool{"data/mounted": mounts, "data/bound": mounts, "data/nested": f.v.Subvolume != nil} {
			if e, ok := man.Lookup(name); (ok && e.MountPoint) != want {
				t.Errorf("the manifest says of %s: %+v, %v; want a mount point: %v", name, e, ok, want)
			}
		}
	}
}

func noSecretBut(t *testing.T, root, but string) {
	t.Helper()
	if err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || p == filepath.Join(root, but) {
			return err
		}
		b, err := os.ReadFile(p)
		if strings.Contains(string(b), secret) {
			t.Errorf("%s in the copy is of another volume", p)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
