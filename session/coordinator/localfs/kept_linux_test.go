package localfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/session"
)

// TestNothingOfABackupBecomesWhatWritersKeepForARestore: in such files stand commands
// that a writer runs when a restore ends. One that came from a medium would be run.
func TestNothingOfABackupBecomesWhatWritersKeepForARestore(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	host := openTestTarget(t, "", false)
	in := func(name string) string { return filepath.Join(dir, name)[1:] }
	for _, name := range []string{".sombra-before-restore", ".sombra-restore"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		state := filepath.Join(dir, name, "state.json")
		if err := os.WriteFile(state, []byte("ours"), 0o600); err != nil {
			t.Fatal(err)
		}
		linked := func() error {
			if err := host.Link(ctx, in(name+"/state.json"), in("other-name")); err != nil {
				return err
			}
			f, err := host.OpenFile(ctx, in("other-name"))
			if err == nil {
				f.Close()
			}
			return err
		}
		opened := func() error {
			f, err := host.OpenFile(ctx, in(name+"/state.json"))
			if err == nil {
				f.Close()
			}
			return err
		}
		_, made := host.Mkdir(ctx, in(name+"/more"))
		_, _, _, beside := host.Beside(in(name+"/state.json"), "staged")
		for what, err := range map[string]error{
			"put": put(host, in(name+"/state.json"), regular(0o600), "the medium's"), "put new": put(host, in(name+"/new"), regular(0o600), "x"),
			"put in its place": put(host, in("below/"+name), regular(0o600), "x"), "mkdir": made, "open": opened(), "link": linked(),
			"stage": beside, "remove": host.Remove(ctx, in(name+"/state.json")),
			"attributes": host.SetAttributes(ctx, in(name+"/state.json"), regular(0o777)),
		} {
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %s: %v; want that it is refused", name, what, err)
			}
		}
		if b, err := os.ReadFile(state); err != nil || string(b) != "ours" {
			t.Errorf("it holds %q, %v", b, err)
		}
		if _, err := host.Lstat(ctx, in(name+"/state.json")); err != nil {
			t.Errorf("looking at it: %v", err)
		}
		// A root that is a link there leads nowhere.
		if err := os.Symlink(name, filepath.Join(dir, "link"+name)); err != nil {
			t.Fatal(err)
		}
		err := host.AddRoot(filepath.Join(dir, "link"+name, "x"))
		if err == nil {
			err = put(host, in("link"+name+"/x"), regular(0o600), "x")
		}
		if err == nil {
			t.Errorf("%s: reached through a link", name)
		}
	}
	// Elsewhere, where no writer looks, it is a name like others.
	var there session.FileTarget = openTestTarget(t, t.TempDir(), false)
	mustPut(t, there, ".sombra-restore", regular(0o600), "x")
}
