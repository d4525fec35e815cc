package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

func load(t *testing.T) *Table {
	t.Helper()
	table, err := Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// resolve checks, too, that the id leads back and that the name leads to the
// same object.
func resolve(t *testing.T, table *Table, path string) (session.Location, provider.Volume) {
	t.Helper()
	l, v, err := table.Resolve(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	if l.Volume != v.ID {
		t.Errorf("%s: the location is on %s, the volume is %s", path, l.Volume, v.ID)
	}
	for _, tb := range []*Table{table, load(t)} {
		back, err := tb.Volume(context.Background(), v.ID)
		if err != nil || !sameVolume(back, v) {
			t.Errorf("%s: the id %s leads to %+v, %v; want %+v", path, v.ID, back, err, v)
		}
	}
	var a, b unix.Stat_t
	if unix.Lstat(path, &a) == nil {
		if err := unix.Lstat(filepath.Join(v.Root, l.Name), &b); err != nil || a.Ino != b.Ino || a.Dev != b.Dev {
			t.Errorf("%s is not %s on %s: %v", path, l.Name, v.Root, err)
		}
	}
	return l, v
}

// sameVolume lets a volume have been found at another of the places where its
// root is.
func sameVolume(a, b provider.Volume) bool {
	var x, y unix.Stat_t
	if unix.Lstat(a.Root, &x) != nil || unix.Lstat(b.Root, &y) != nil || x.Dev != y.Dev || x.Ino != y.Ino {
		return false
	}
	a.Root = b.Root
	return a == b
}

func mkdir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFileSystemsAreNamedByUUID(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			v := voltest.Make(t, fsType, voltest.SmallXFS)
			write(t, mkdir(t, v.Root+"/d")+"/f")
			table := load(t)
			l, got := resolve(t, table, v.Root+"/d/f")
			if got.ID != v.UUID || got.Root != v.Root || got.FSType != fsType || !got.Persistent || got.ReadOnly || got.Source != v.Device {
				t.Errorf("got %+v of %+v", got, v)
			}
			if l.Name != "d/f" || l.Path != v.Root+"/d/f" {
				t.Errorf("got %+v", l)
			}
			if l, _ := resolve(t, table, v.Root); l.Name != "." || l.Volume != v.UUID {
				t.Errorf("the mount point itself: %+v", l)
			}
			if l, _ := resolve(t, table, v.Root+"/none/at/all"); l.Name != "none/at/all" || l.Volume != v.UUID {
				t.Errorf("what does not exist: %+v", l)
			}
		})
	}
}

func TestVolumesWithoutUUIDAreNotPersistent(t *testing.T) {
	tmp := voltest.Tmpfs(t, 1<<20)
	over := voltest.Overlay(t, voltest.Ext4(t, voltest.SmallExt4))
	table := load(t)
	seen := map[string]bool{}
	for _, v := range []*voltest.Volume{tmp, over} {
		write(t, v.Root+"/f")
		l, got := resolve(t, table, v.Root+"/f")
		if got.Persistent || got.FSType != v.FSType || got.Root != v.Root || l.Name != "f" {
			t.Errorf("%s: %+v %+v", v.FSType, l, got)
		}
		if seen[got.ID] {
			t.Errorf("two volumes are called %s", got.ID)
		}
		seen[got.ID] = true
	}
}

func TestBindMountsDoNotDouble(t *testing.T) {
	v := voltest.Ext4(t, voltest.SmallExt4)
	write(t, mkdir(t, v.Root+"/a/b")+"/f")
	whole, part := mkdir(t, t.TempDir()+"/whole"), mkdir(t, t.TempDir()+"/with space\nand line")
	voltest.Bind(t, v.Root, whole)
	voltest.Bind(t, v.Root+"/a", part)
	table := load(t)
	for _, path := range []string{v.Root + "/a/b/f", whole + "/a/b/f", part + "/b/f"} {
		l, got := resolve(t, table, path)
		if l.Volume != v.UUID || l.Name != "a/b/f" || got.Root != v.Root || l.Path != path {
			t.Errorf("%q: %+v %+v", path, l, got)
		}
	}
	places, err := table.Under(context.Background(), filepath.Dir(part))
	if err != nil || len(places) != 1 || places[0].Path != part || places[0].Location.Volume != v.UUID || places[0].Name != "a" {
		t.Errorf("below: %+v, %v", places, err)
	}
}

// In a container only a directory of the volume may be there.
func TestPartOfAVolume(t *testing.T) {
	v := voltest.Ext4(t, voltest.SmallExt4)
	write(t, mkdir(t, v.Root+"/a/b/c")+"/f")
	part, inner := mkdir(t, t.TempDir()+"/part"), mkdir(t, t.TempDir()+"/inner")
	voltest.Bind(t, v.Root+"/a", part)
	voltest.Bind(t, v.Root+"/a/b", inner)
	if err := unix.Unmount(v.Root, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	table := load(t)
	for _, path := range []string{part + "/b/c/f", inner + "/c/f"} {
		l, got := resolve(t, table, path)
		if want := v.UUID + ":/a"; l.Volume != want || l.Name != "b/c/f" || got.Root != part || !got.Persistent {
			t.Errorf("%s: %+v %+v", path, l, got)
		}
	}
	if _, err := table.Volume(context.Background(), v.UUID); !errors.Is(err, vss.ErrObjectNotFound) {
		t.Errorf("the whole volume: %v", err)
	}
}

func TestSingleFileMountHasNoVolume(t *testing.T) {
	v := voltest.Ext4(t, voltest.SmallExt4)
	write(t, v.Root+"/f")
	dir := t.TempDir()
	write(t, dir+"/bound")
	voltest.Bind(t, v.Root+"/f", dir+"/bound")
	if l, _ := resolve(t, load(t), dir+"/bound"); l.Volume != v.UUID || l.Name != "f" {
		t.Errorf("while its directory can be seen: %+v", l)
	}
	if err := unix.Unmount(v.Root, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if _, _, err := load(t).Resolve(context.Background(), dir+"/bound"); !errors.Is(err, vss.ErrVolumeNotSupported) {
		t.Errorf("when it cannot: %v", err)
	}
}

// What is mounted over a directory hides it through one mount but not through
// another; a name must lead to the object that was meant.
func TestObjectHiddenFromTheWholeMount(t *testing.T) {
	v := voltest.Ext4(t, voltest.SmallExt4)
	write(t, mkdir(t, v.Root+"/a")+"/f")
	part := mkdir(t, t.TempDir()+"/part")
	voltest.Bind(t, v.Root+"/a", part)
	over := voltest.Tmpfs(t, 1<<20)
	voltest.Bind(t, over.Root, v.Root+"/a")
	if l, got := resolve(t, load(t), part+"/f"); l.Volume != v.UUID+":/a" || l.Name != "f" || got.Root != part {
		t.Errorf("%+v %+v", l, got)
	}
}

func TestTwoFileSystemsWithOneUUID(t *testing.T) {
	a := voltest.Ext4(t, voltest.SmallExt4)
	b := voltest.Ext4(t, voltest.SmallExt4)
	table := load(t)
	s := table.now()
	s.once.Do(s.readUUIDs)
	for _, m := range s.visible {
		if m.point == b.Root && s.uuids[m.device()] != b.UUID {
			t.Fatalf("%s has UUID %q, want %q", b.Root, s.uuids[m.device()], b.UUID)
		}
	}
	// A clone with the same superblock, mounted at the same time.
	image, err := os.ReadFile(filepath.Join(filepath.Dir(a.Root), "image"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(b.Root, 0); err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(filepath.Dir(b.Root), "image")
	if err := os.WriteFile(clone, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", clone, b.Root).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	table = load(t)
	_, va := resolve(t, table, a.Root)
	_, vb := resolve(t, table, b.Root)
	if vb.Persistent { // which of the two has it hangs on the devices they got
		va, vb = vb, va
	}
	if va.ID != a.UUID || !va.Persistent || vb.ID == a.UUID || vb.Persistent || vb.Root == va.Root {
		t.Errorf("one %+v, the other %+v", va, vb)
	}
}

func TestSubvolumesAreVolumes(t *testing.T) {
	v := voltest.Btrfs(t, voltest.SmallBtrfs)
	voltest.Subvolume(t, v.Root+"/@")
	voltest.Subvolume(t, mkdir(t, v.Root+"/@/var/lib")+"/db base")
	voltest.Subvolume(t, v.Root+"/@/var/lib/db base/inner")
	voltest.Subvolume(t, mkdir(t, v.Root+"/"+provider.AreaName)+"/copy")
	write(t, v.Root+"/@/var/lib/db base/f")
	write(t, v.Root+"/@/var/f")
	sub, bound := mkdir(t, t.TempDir()+"/sub"), mkdir(t, t.TempDir()+"/bound")
	if err := unix.Mount(v.Device, sub, "btrfs", 0, "subvol=@"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(sub, unix.MNT_DETACH)
	voltest.Bind(t, v.Root+"/@/var", bound)
	table := load(t)
	ids := map[string]string{}
	for _, c := range []struct{ path, name, root string }{
		{v.Root, ".", v.Root},
		{v.Root + "/x", "x", v.Root},
		{v.Root + "/@", ".", sub},
		{v.Root + "/@/var/f", "var/f", sub},
		{sub + "/var/f", "var/f", sub},
		{bound + "/f", "var/f", sub},
		{bound + "/lib", "var/lib", sub},
		{v.Root + "/@/var/lib/db base/f", "f", ""},
		{sub + "/var/lib/db base/f", "f", ""},
		{bound + "/lib/db base", ".", ""},
		{bound + "/lib/db base/inner/none", "none", ""},
	} {
		l, got := resolve(t, table, c.path)
		if !strings.HasPrefix(got.ID, v.UUID+"/") || l.Name != c.name || !got.Persistent || c.root != "" && got.Root != c.root {
			t.Errorf("%s: %+v %+v", c.path, l, got)
		}
		ids[c.path] = got.ID
	}
	if ids[v.Root+"/@/var/f"] != ids[bound+"/f"] || ids[sub+"/var/f"] != ids[bound+"/f"] {
		t.Errorf("one subvolume has several ids: %v", ids)
	}
	if ids[v.Root] == ids[sub+"/var/f"] || ids[bound+"/lib/db base"] == ids[bound+"/lib/db base/inner/none"] {
		t.Errorf("several subvolumes have one id: %v", ids)
	}

	for _, c := range []struct {
		path string
		want []string
	}{
		{v.Root, []string{"/@", "/@/var/lib/db base", "/@/var/lib/db base/inner"}},
		{v.Root + "/@/var", []string{"/lib/db base", "/lib/db base/inner"}},
		{v.Root + "/@/var/lib/db base/inner", nil},
		{sub, []string{"/var/lib/db base", "/var/lib/db base/inner"}},
		{bound, []string{"/lib/db base", "/lib/db base/inner"}},
		{filepath.Dir(sub), []string{"/sub", "/sub/var/lib/db base", "/sub/var/lib/db base/inner"}},
	} {
		places, err := table.Under(context.Background(), c.path)
		if err != nil {
			t.Errorf("below %s: %v", c.path, err)
			continue
		}
		var got []string
		for _, p := range places {
			if p.Err != nil || p.Name != "." || p.Volume.ID != p.Location.Volume {
				t.Errorf("below %s: %+v", c.path, p)
			}
			if _, v := resolve(t, table, p.Path); !sameVolume(v, p.Volume) {
				t.Errorf("%s is %+v, listed as %+v", p.Path, v, p.Volume)
			}
			got = append(got, strings.TrimPrefix(p.Path, c.path))
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("below %s are %q, want %q", c.path, got, c.want)
		}
	}
}

func TestPartOfASubvolume(t *testing.T) {
	v := voltest.Btrfs(t, voltest.SmallBtrfs)
	voltest.Subvolume(t, v.Root+"/@")
	voltest.Subvolume(t, mkdir(t, v.Root+"/@/a/b")+"/nested")
	write(t, v.Root+"/@/a/b/f")
	part := mkdir(t, t.TempDir()+"/part")
	voltest.Bind(t, v.Root+"/@/a", part)
	if err := unix.Unmount(v.Root, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	table := load(t)
	l, got := resolve(t, table, part+"/b/f")
	if !strings.HasPrefix(got.ID, v.UUID+"/") || !strings.HasSuffix(got.ID, ":/@/a") || got.Root != part || l.Name != "b/f" {
		t.Errorf("%+v %+v", l, got)
	}
	if l, got := resolve(t, table, part+"/b/nested/x"); got.Root != part+"/b/nested" || l.Name != "x" {
		t.Errorf("nested in it: %+v %+v", l, got)
	}
	places, err := table.Under(context.Background(), part)
	if err != nil || len(places) != 1 || places[0].Path != part+"/b/nested" || !places[0].Nested {
		t.Errorf("below: %+v, %v", places, err)
	}
}

func TestReadOnlyIsTold(t *testing.T) {
	v := voltest.Ext4(t, voltest.SmallExt4)
	if _, got := resolve(t, load(t), v.Root); got.ReadOnly {
		t.Errorf("%+v", got)
	}
	v.Remount(t, true)
	if _, got := resolve(t, load(t), v.Root); !got.ReadOnly {
		t.Errorf("%+v", got)
	}
}

func TestLinksAboveAreFollowedAndTheLastIsNot(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, dir+"/real/sub")
	write(t, dir+"/real/sub/f")
	for link, goal := range map[string]string{"link": "real", "abs": dir + "/real", "real/last": "sub/f", "dangling": "nowhere", "loop": "loop"} {
		if err := os.Symlink(goal, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	table := load(t)
	_, top := resolve(t, table, dir)
	base, err := filepath.Rel(top.Root, dir)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/link/sub/f":             "/real/sub/f",
		"/abs/sub/f":              "/real/sub/f",
		"/link":                   "/link",
		"/link/":                  "/real",
		"/link/last":              "/real/last",
		"/dangling":               "/dangling",
		"/link/none":              "/real/none",
		"/link/sub/..":            "/real",
		"/link/../real":           "/real",
		"/real/./sub//f":          "/real/sub/f",
		"/none/../real":           "/real",
		"/none/a/../../real/last": "/real/last",
		"/none/../link/sub/f":     "/real/sub/f",
		"/real/sub/f/none":        "/real/sub/f/none",
	} {
		l, _, err := table.Resolve(context.Background(), dir+path)
		if err != nil || l.Name != base+want {
			t.Errorf("%s: %+v, %v; want %s", path, l, err, base+want)
		}
	}
	if _, _, err := table.Resolve(context.Background(), dir+"/loop/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop of links: %v", err)
	}
	for _, bad := range []string{"", "relative", "./x", "/a\x00b", "/" + strings.Repeat("x/", 3000)} {
		if _, _, err := table.Resolve(context.Background(), bad); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestPseudoFileSystemsAreMarked(t *testing.T) {
	places, err := load(t).Under(context.Background(), "/")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, p := range places {
		if p.Path == "/proc" {
			found = p.Pseudo
		}
		if p.Pseudo && (p.Volume.FSType == "ext4" || p.Volume.FSType == "tmpfs") {
			t.Errorf("%+v", p)
		}
	}
	if !found {
		t.Errorf("/proc is not listed as a pseudo file system: %+v", places)
	}
}

// A mount made after Load is found all the same.
func TestNewMountIsNoticed(t *testing.T) {
	table := load(t)
	v := voltest.Tmpfs(t, 1<<20)
	if _, got := resolve(t, table, v.Root+"/x"); got.Root != v.Root {
		t.Errorf("%+v", got)
	}
}
