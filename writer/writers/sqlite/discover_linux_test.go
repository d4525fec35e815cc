package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/volumeid"
	"golang.org/x/sys/unix"
)

// big is enough for a file to be looked at; it is no database.
var big = strings.Repeat("x", 4096)

// tree makes files in a new directory: "name" holds big, "name=text" the text,
// "name/" is a directory and "name -> target" a link.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, target, isLink := strings.Cut(e, " -> ")
		name, text, hasText := strings.Cut(name, "=")
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		switch {
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case hasText:
			err = os.WriteFile(path, []byte(text), 0o644)
		default:
			err = os.WriteFile(path, []byte(big), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// found gives the paths below root that Discover offers.
func found(t *testing.T, root string, d writer.Discovery) []string {
	t.Helper()
	d.Auto = true
	if d.Paths == nil {
		d.Paths = []string{root}
	}
	specs, err := Kind{}.Discover(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, s := range specs {
		var c config
		if err := json.Unmarshal(s.Config, &c); err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(root, c.Path)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, rel)
	}
	slices.Sort(paths)
	return paths
}

func TestDiscoverByName(t *testing.T) {
	root := tree(t,
		"a.db", "b.sqlite", "c.sqlite3", "d.db3", "e.sqlite-backup", "F.DB", "deep/er/g.db", // by name
		"plain", "h.txt", "db", "i.dbx", // not
		"places", "places-wal=", "chat.dat", "chat.dat-journal=", // by what lies beside
		"a.db-wal", "a.db-shm", "a.db-journal", "b.sqlite-wal", "gone-wal", "j.db-wal.sombra-00", // never
		"small.db=x",                                           // too small to be one
		".sombra/copy/k.db",                                    // shadow copies
		"link.db -> a.db", "dir -> deep", "bad.db -> /nowhere", // links
		"l.db/", "l.db/m.db",
	)
	if err := unix.Mkfifo(filepath.Join(root, "fifo.db"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := []string{"F.DB", "a.db", "b.sqlite", "c.sqlite3", "chat.dat", "d.db3", "deep/er/g.db", "e.sqlite-backup", "l.db/m.db", "places"}
	if got := found(t, root, writer.Discovery{}); !slices.Equal(got, want) {
		t.Errorf("found\n%v, not\n%v", got, want)
	}
}

func TestDiscoverHonoursExclude(t *testing.T) {
	root := tree(t, "a.db", "b.db", "c/d.db", "e/f.db")
	exclude := func(path string) bool { return strings.HasSuffix(path, "/b.db") || strings.HasSuffix(path, "/c") }
	if got := found(t, root, writer.Discovery{Exclude: exclude}); !slices.Equal(got, []string{"a.db", "e/f.db"}) {
		t.Errorf("found %v", got)
	}
}

func TestDiscoverPaths(t *testing.T) {
	root := tree(t, "a/x.db", "b/y.db", "b/z", "link -> a", "dangling -> nowhere/at/all", "loop -> loop")
	for _, c := range []struct {
		path string
		want []string
	}{
		{"a", []string{"a/x.db"}},
		{"b/y.db", []string{"b/y.db"}}, // a file
		{"b/z", nil},
		{"link", []string{"a/x.db"}}, // the chosen path itself may be a link
		{"dangling", nil},
		{"loop", nil},
	} {
		if got := found(t, root, writer.Discovery{Paths: []string{filepath.Join(root, c.path)}}); !slices.Equal(got, c.want) {
			t.Errorf("below %s: found %v, not %v", c.path, got, c.want)
		}
	}
	if _, err := (Kind{}).Discover(t.Context(), writer.Discovery{Auto: true, Paths: []string{filepath.Join(root, "none")}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path that is not there gives %v", err)
	}
	if specs, err := (Kind{}).Discover(t.Context(), writer.Discovery{Paths: []string{root}}); len(specs) != 0 || err != nil {
		t.Errorf("without Auto: %d specs, %v", len(specs), err)
	}
}

// TestDiscoverHardLinks: SQLite knows a database by one name only, the one it
// keeps its log by.
func TestDiscoverHardLinks(t *testing.T) {
	root := tree(t, "b.db", "c.db", "c.db-wal=")
	for _, pair := range [][2]string{{"b.db", "a.db"}, {"b.db", "z.db"}, {"c.db", "a2.db"}} {
		if err := os.Link(filepath.Join(root, pair[0]), filepath.Join(root, pair[1])); err != nil {
			t.Fatal(err)
		}
	}
	if got := found(t, root, writer.Discovery{}); !slices.Equal(got, []string{"a.db", "c.db"}) {
		t.Errorf("found %v", got)
	}
}

// TestDiscoverWhileDirectoriesAreSwapped: somebody puts a link where a directory
// was, over and over. What lies at its other end is never offered.
func TestDiscoverWhileDirectoriesAreSwapped(t *testing.T) {
	secret := tree(t, "secret.db")
	root := tree(t, "a/x.db")
	dir, kept := filepath.Join(root, "a"), filepath.Join(root, "kept")
	ctx, stop := context.WithCancel(t.Context())
	swapped := make(chan struct{})
	go func() {
		defer close(swapped)
		for ctx.Err() == nil {
			os.Rename(dir, kept)
			os.Symlink(secret, dir)
			os.Remove(dir)
			os.Rename(kept, dir)
		}
	}()
	for range 2000 {
		for _, path := range found(t, root, writer.Discovery{}) {
			if path != "a/x.db" && path != "kept/x.db" {
				t.Errorf("found %s", path)
			}
		}
	}
	stop()
	<-swapped
}

func TestDiscoverHugeDirectory(t *testing.T) {
	root := tree(t)
	for i := range 2000 {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprintf("%05d.db", i)), []byte(big), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(found(t, root, writer.Discovery{})); n != 2000 {
		t.Errorf("found %d of 2000", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Kind{}).Discover(ctx, writer.Discovery{Auto: true, Paths: []string{root}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestDiscoverLeavesPseudoFileSystems: no file of anybody's is there, and
// reading may have effects.
func TestDiscoverLeavesPseudoFileSystems(t *testing.T) {
	for _, path := range []string{"/proc", "/sys"} {
		if got := found(t, "/", writer.Discovery{Paths: []string{path}}); len(got) != 0 {
			t.Errorf("below %s: found %v", path, got)
		}
	}
	voltest.Need(t)
	root := tree(t, "a.db", "mnt/")
	voltest.Bind(t, "/proc/sys", filepath.Join(root, "mnt"))
	if got := found(t, root, writer.Discovery{}); !slices.Equal(got, []string{"a.db"}) {
		t.Errorf("found %v", got)
	}
}

func TestDiscoverTooDeepForSQLite(t *testing.T) {
	root := tree(t, "a.db")
	dir := root
	for len(dir) < maxPath+50 {
		dir = filepath.Join(dir, strings.Repeat("d", 40))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "x.db"), []byte(big), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := found(t, root, writer.Discovery{}); !slices.Equal(got, []string{"a.db"}) {
		t.Errorf("found %v", got)
	}
}

// TestRejectedIsNotOfferedAgain, until it changes.
func TestRejectedIsNotOfferedAgain(t *testing.T) {
	root, cache := tree(t, "a.db", "b.db"), t.TempDir()
	d := writer.Discovery{Auto: true, Paths: []string{root}, CacheDir: cache}
	specs, err := Kind{}.Discover(t.Context(), d)
	if err != nil || len(specs) != 2 {
		t.Fatalf("%d specs, %v", len(specs), err)
	}
	for _, s := range specs {
		if _, err := (Kind{}).New(t.Context(), s); !errors.Is(err, writer.ErrNotMine) {
			t.Fatalf("New gives %v", err)
		}
	}
	if err := (Kind{}).Rejected(t.Context(), cache, specs); err != nil {
		t.Fatal(err)
	}
	if got := found(t, root, d); len(got) != 0 {
		t.Errorf("found %v again", got)
	}
	if err := os.WriteFile(filepath.Join(root, "b.db"), []byte(big+big), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := found(t, root, d); !slices.Equal(got, []string{"b.db"}) {
		t.Errorf("found %v", got)
	}
}

func TestRejectsAreBounded(t *testing.T) {
	var r rejects
	for i := range maxRejects + 5 {
		r.add(seen{Ino: uint64(i)})
	}
	if len(r.order) > maxRejects || len(r.has) != len(r.order) || !r.has[seen{Ino: maxRejects + 4}] || r.has[seen{Ino: 0}] {
		t.Errorf("%d kept", len(r.order))
	}
}

func FuzzParseRejects(f *testing.F) {
	f.Add("1 2 3\n4 5 6\n")
	f.Add("1 2\n")
	f.Add("18446744073709551616 -1 x\n1 2 3")
	f.Fuzz(func(t *testing.T, text string) {
		r := parseRejects(strings.NewReader(text))
		var out strings.Builder
		if err := r.write(&out); err != nil {
			t.Fatal(err)
		}
		again := parseRejects(strings.NewReader(out.String()))
		if !slices.Equal(r.order, again.order) {
			t.Errorf("%v became %v", r.order, again.order)
		}
	})
}

func FuzzIsHeader(f *testing.F) {
	good := make([]byte, headerSize)
	copy(good, magic)
	good[16] = 0x10
	f.Add(good)
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if isHeader(b) && (len(b) < headerSize || !strings.HasPrefix(string(b), magic)) {
			t.Error("taken for a header")
		}
	})
}

// FuzzCheckPath: a path that is accepted must give a valid document whose file
// specifications stand for these files and no others.
func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"/a/b.db", "/a/../b.db", "a.db", "/", "/a/b*.db", `/a\b.db`, "/a/%HOME%/b.db", "/100%/b.db", "/a/\x01.db", "/a/\xff.db", "/ä/ü.db", "/a/ .db"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if checkPath(path) != nil {
			return
		}
		doc, err := newWriter(path, "x").Identify(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if p := doc.Validate(vss.POSIX); len(p) > 0 {
			t.Fatal(p)
		}
		for i, set := range doc.Components()[0].FileSets {
			spec, err := set.FileSpec.Expand(func(string) (string, bool) { return "changed", true })
			if err != nil {
				t.Fatal(err)
			}
			if want := path + []string{"", "-wal", "-journal"}[i]; !spec.MatchesPath(want, vss.POSIX) || spec.MatchesPath(want+"x", vss.POSIX) {
				t.Errorf("set %d is %v", i, spec)
			}
		}
	})
}

func TestNewRefusesWithTheReason(t *testing.T) {
	a := newApp(t, "delete")
	root := tree(t, "no.db", "empty.db=", "dir.db/", "link.db -> "+a.path, "sub -> "+a.dir)
	if err := unix.Mkfifo(filepath.Join(root, "fifo.db"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		text string
		mine bool // not ErrNotMine even if discovered
	}{
		{root + "/no.db", "no SQLite database", false},
		{root + "/empty.db", "no SQLite database", false},
		{root + "/gone.db", "no such file", false},
		{root + "/dir.db", "no regular file", false},
		{root + "/fifo.db", "no regular file", false},
		{root + "/link.db", "symbolic links", true},
		{root + "/sub/app.db", "symbolic links", true},
		{"/a/b?.db", "wildcards", false},
		{`/a/b\.db`, "backslash", false},
		{"b.db", "not absolute", true},
		{"/a/" + strings.Repeat("b", 600), "longer", false},
	} {
		conf, _ := json.Marshal(config{Path: c.path})
		_, err := Kind{}.New(t.Context(), writer.Spec{Kind: KindName, Config: conf})
		if err == nil || !strings.Contains(err.Error(), c.text) || errors.Is(err, writer.ErrNotMine) {
			t.Errorf("configured %s: %v", c.path, err)
		}
		_, err = Kind{}.New(t.Context(), writer.Spec{Kind: KindName, Config: conf, Discovered: true})
		if err == nil || errors.Is(err, writer.ErrNotMine) == c.mine {
			t.Errorf("discovered %s: %v", c.path, err)
		}
	}
	if _, err := (Kind{}).New(t.Context(), a.spec()); err != nil {
		t.Error(err)
	}
}

// TestNewRefusesPlacesOfOthers: in a directory where anybody can put a link,
// SQLite would follow it in the owner's name.
func TestNewRefusesPlacesOfOthers(t *testing.T) {
	a := newApp(t, "delete")
	spec := a.spec()
	spec.Discovered = true
	for mode, ok := range map[os.FileMode]bool{0o755: true, 0o700: true, 0o777: false, 0o777 | os.ModeSticky: false} {
		if err := os.Chmod(a.dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := (Kind{}).New(t.Context(), spec); (err == nil) != ok {
			t.Errorf("in a directory of mode %v: %v", mode, err)
		}
	}
}

func TestConfigured(t *testing.T) {
	a := newApp(t, "delete")
	root := tree(t, "link.db -> "+a.path)
	conf := func(path string) writer.Config {
		b, _ := json.Marshal(config{Path: path})
		return writer.Config{Kind: KindName, Required: true, Config: b}
	}
	discover := func(configs ...writer.Config) ([]writer.Spec, error) {
		return Kind{}.Discover(t.Context(), writer.Discovery{Configs: configs, Auto: true, Paths: []string{a.dir}})
	}
	specs, err := discover(conf(root + "/link.db"))
	if err != nil || len(specs) != 1 {
		t.Fatalf("%d specs, %v", len(specs), err)
	}
	if s := specs[0]; s.Discovered || !s.Required || !strings.HasPrefix(s.Name, "sqlite:"+a.path) {
		t.Errorf("the spec is %+v", s)
	}
	if _, err := discover(conf(a.path), conf(root+"/link.db")); err == nil || !strings.Contains(err.Error(), "same file") {
		t.Errorf("one database configured twice: %v", err)
	}
	if _, err := discover(conf("app.db")); err == nil || !strings.Contains(err.Error(), "full path") {
		t.Errorf("a relative path: %v", err)
	}
	specs, err = discover(conf(a.dir + "/gone.db"))
	if err != nil || len(specs) != 2 {
		t.Fatalf("%d specs, %v", len(specs), err)
	}
	if _, err := (Kind{}).New(t.Context(), specs[1]); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, writer.ErrNotMine) {
		t.Errorf("a configured database that is not there: %v", err)
	}
}

// TestOnlyThePathIsConfigured: any other key is a mistake, also one that Discover
// uses to tell New what it has found.
func TestOnlyThePathIsConfigured(t *testing.T) {
	for text, want := range map[string]string{
		`{"path":"/a.db","pth":"/b.db"}`:                      `"pth"`,
		`{"path":"/a.db","restore":true}`:                     `"restore"`,
		`{"path":"/a.db","raw":"L2IuZGI="}`:                   `"raw"`,
		`{"path":"/a.db","seen":{"Dev":1,"Ino":2,"Ctime":3}}`: `"seen"`,
		`{"path":"/a.db"} {}`:                                 "goes on",
		`{}`:                                                  "full path",
		``:                                                    "full path",
	} {
		specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Configs: []writer.Config{{Kind: KindName, Config: json.RawMessage(text)}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d specs and error %v; want %s in it", text, len(specs), err, want)
		}
	}
}

// TestSpecsOwner: the writer of a file runs as its owner.
func TestSpecsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not checked: only root can give files away")
	}
	root := tree(t, "a.db")
	if err := os.Chown(filepath.Join(root, "a.db"), 1, 65534); err != nil {
		t.Fatal(err)
	}
	specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Auto: true, Paths: []string{root}})
	if err != nil || len(specs) != 1 {
		t.Fatalf("%d specs, %v", len(specs), err)
	}
	// User 1 is no member of the file's group, and must not become one.
	if o := specs[0].Owner; o.UID != 1 || o.GID == 65534 || slices.Contains(o.Groups, 65534) {
		t.Errorf("the owner is %+v", o)
	}
}

func TestStoredRefusesForgedDocuments(t *testing.T) {
	doc, err := newWriter("/a/../etc/x.db", "x").Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if specs, err := (Kind{}).Discover(t.Context(), writer.Discovery{Stored: []writer.Stored{{Metadata: doc}}}); err == nil {
		t.Errorf("a path with .. gives %+v", specs)
	}
}

// TestVolumeID: the same for a subvolume's directories, another for another
// subvolume.
func TestVolumeID(t *testing.T) {
	voltest.Need(t, "btrfs")
	v := voltest.Btrfs(t, voltest.SmallBtrfs)
	a, b := filepath.Join(v.Root, "a"), filepath.Join(v.Root, "b")
	voltest.Subvolume(t, a)
	voltest.Subvolume(t, b)
	if err := os.Mkdir(filepath.Join(a, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	for _, dir := range []string{v.Root, a, b} {
		id := volumeid.Of(dir)
		if id == "" {
			t.Errorf("%s has no id", dir)
		}
		ids[id] = true
	}
	if len(ids) != 3 || volumeid.Of(filepath.Join(a, "dir")) != volumeid.Of(a) {
		t.Errorf("ids are %v", ids)
	}
}
