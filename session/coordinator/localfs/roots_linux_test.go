package localfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/session"
)

// inPlace makes a directory and gives the names below it from the host's root.
func inPlace(t *testing.T) (name func(string) string, dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// Nobody else may write where links are followed.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return func(n string) string { return strings.TrimPrefix(filepath.Join(dir, n), "/") }, dir
}

func link(t *testing.T, goal, name string) {
	t.Helper()
	if err := os.Symlink(goal, name); err != nil {
		t.Fatal(err)
	}
}

func openHost(t *testing.T, roots ...string) Target {
	t.Helper()
	tg, err := OpenTarget("", TargetOptions{Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tg.Close() })
	return tg
}

func TestOwnRootsMayBeReachedThroughLinks(t *testing.T) {
	name, dir := inPlace(t)
	fill(t, dir, map[string]string{"disk/srv/data/f": "old", "elsewhere/x": "x"})
	link(t, "disk/srv", dir+"/srv")                   // on the way
	link(t, dir+"/disk/srv/data", dir+"/data")        // the root itself
	link(t, "../../../elsewhere", dir+"/srv/data/in") // below it
	ctx := context.Background()

	strict := openHost(t)
	if err := put(strict, name("srv/data/f"), regular(0o600), "new"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("without roots: %v", err)
	}
	tg := openHost(t, dir+"/srv/data", dir+"/data", dir+"/srv/absent/more")
	for _, c := range []string{"srv/data/f", "data/g", "srv/absent/more/deep/h"} {
		if _, err := tg.Mkdir(ctx, name(filepath.Dir(c))); err != nil {
			t.Fatal(err)
		}
		mustPut(t, tg, name(c), regular(0o600), "new")
	}
	for _, c := range []string{"disk/srv/data/f", "disk/srv/data/g", "disk/srv/absent/more/deep/h"} {
		if data, err := os.ReadFile(filepath.Join(dir, c)); err != nil || string(data) != "new" {
			t.Errorf("%s: %q, %v", c, data, err)
		}
	}
	for _, c := range []string{"srv/data/in/x", "data/in/x", "srv/other/x"} {
		if err := put(tg, name(c), regular(0o600), "new"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", c, err)
		}
	}
	if e, err := tg.Lstat(ctx, name("data")); err != nil || !e.Mode.IsDir() {
		t.Errorf("a root that is a link is the directory it leads to: %+v, %v", e, err)
	}
	// Restored as a link, it is the link that is replaced.
	l := session.Entry{Mode: fs.ModeSymlink | 0o777, Perm: 0o777, Target: "elsewhere", UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if err := tg.Symlink(ctx, l, name("data")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.Readlink(dir + "/data"); got != "elsewhere" {
		t.Errorf("the link leads to %q", got)
	}
	assertNames(t, dir+"/disk/srv/data", "f", "g", "in")
}

// The links are those at opening: who swaps one later gains nothing.
func TestLinksOfRootsAreResolvedOnce(t *testing.T) {
	name, dir := inPlace(t)
	fill(t, dir, map[string]string{"disk/f": "x", "elsewhere/f": "precious"})
	link(t, "disk", dir+"/data")
	tg := openHost(t, dir+"/data")
	if err := os.Remove(dir + "/data"); err != nil {
		t.Fatal(err)
	}
	link(t, "elsewhere", dir+"/data")
	mustPut(t, tg, name("data/f"), regular(0o600), "restored")
	if data, _ := os.ReadFile(dir + "/elsewhere/f"); string(data) != "precious" {
		t.Errorf("written through a later link: %q", data)
	}
}

func TestLinksOfOthersAreNotFollowed(t *testing.T) {
	needRoot(t)
	name, dir := inPlace(t)
	fill(t, dir, map[string]string{"home/user/keep": "x", "etc/f": "precious", "shared/keep": "x", "tmp/keep": "x"})
	link(t, dir+"/etc", dir+"/home/user/docs")
	link(t, dir+"/etc", dir+"/shared/docs")
	link(t, dir+"/etc", dir+"/tmp/docs")
	link(t, "loop", dir+"/loop")
	for _, p := range []string{"home/user", "home/user/docs"} {
		if err := os.Lchown(filepath.Join(dir, p), 1234, 1234); err != nil {
			t.Fatal(err)
		}
	}
	for p, mode := range map[string]fs.FileMode{"shared": 0o777, "tmp": 0o777 | fs.ModeSticky} {
		if err := os.Chmod(filepath.Join(dir, p), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, root := range []string{"home/user/docs", "home/user/docs/deeper", "shared/docs"} {
		_, err := OpenTarget("", TargetOptions{Roots: []string{filepath.Join(dir, root)}})
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "docs") {
			t.Errorf("%s: %v", root, err)
		}
	}
	if _, err := OpenTarget("", TargetOptions{Roots: []string{dir + "/loop/x"}}); err == nil {
		t.Error("a loop of links was followed")
	}
	if _, err := OpenTarget("", TargetOptions{Roots: []string{"relative"}}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a relative root: %v", err)
	}
	// root's own link in a sticky directory is nobody else's.
	tg := openHost(t, dir+"/tmp/docs")
	mustPut(t, tg, name("tmp/docs/f"), regular(0o600), "restored")
	if data, _ := os.ReadFile(dir + "/etc/f"); string(data) != "restored" {
		t.Errorf("%q", data)
	}
}

func TestTargetDirectoryIsMadeAndMayBeALink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/real", 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, "real", dir+"/link")
	tg, err := OpenTarget(dir+"/link/new/deep", TargetOptions{Roots: []string{"/srv"}})
	if err != nil {
		t.Fatal(err)
	}
	defer tg.Close()
	mustPut(t, tg, "f", regular(0o600), "x")
	assertNames(t, dir+"/real/new/deep", "f")
	if _, err := OpenTarget(dir+"/real/new/deep/f", TargetOptions{}); err == nil {
		t.Error("a file was taken for a target")
	}
}
