package redis

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/writer"
)

func discover(t *testing.T, d writer.Discovery) []writer.Spec {
	t.Helper()
	specs, err := Kind{}.Discover(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return specs
}

// TestRunningServersAreFound: by the paths chosen, by what is configured, each once,
// and no child of one that saves.
func TestRunningServersAreFound(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{Lines: []string{"rdb-key-save-delay 10000"}})
	if _, err := a.Do(t.Context(), "BGSAVE"); err != nil { // goes on for some seconds
		t.Fatal(err)
	}
	var name string
	for _, path := range []string{a.Dir, filepath.Dir(a.Dir), filepath.Join(a.Dir, "dump.rdb")} {
		specs := discover(t, writer.Discovery{Auto: true, Paths: []string{path}})
		if len(specs) != 1 || !specs[0].Discovered || specs[0].Owner.UID != uint32(a.UID) {
			t.Fatalf("below %s: %+v", path, specs)
		}
		name = specs[0].Name
	}
	// Whatever runs is found, others' servers too.
	for what, d := range map[string]writer.Discovery{"without paths": {Auto: true, Running: true}, "with others": {Auto: true, Running: true, Paths: []string{scratch(t)}}} {
		if specs := discover(t, d); !slices.ContainsFunc(specs, func(s writer.Spec) bool { return s.Name == name }) {
			t.Errorf("%s: %+v", what, specs)
		}
	}
	for what, d := range map[string]writer.Discovery{
		"another directory": {Auto: true, Paths: []string{scratch(t)}},
		"excluded":          {Auto: true, Paths: []string{a.Dir}, Exclude: func(p string) bool { return p == a.Dir }},
		"not to be found":   {Paths: []string{a.Dir}},
	} {
		if specs := discover(t, d); len(specs) != 0 {
			t.Errorf("%s: %+v", what, specs)
		}
	}
	for _, c := range []config{{Socket: a.Socket}, {Directory: a.Dir}, {Socket: a.Socket, Directory: a.Dir}} {
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		specs := discover(t, writer.Discovery{Auto: true, Paths: []string{a.Dir}, Configs: []writer.Config{{Kind: KindName, Config: raw, Required: true}}})
		if len(specs) != 1 || specs[0].Discovered || !specs[0].Required || specs[0].Name != name {
			t.Errorf("configured as %s: %+v", raw, specs)
		}
	}
	if _, err := a.Do(t.Context(), "CONFIG", "SET", "rdb-key-save-delay", "0"); err != nil {
		t.Fatal(err)
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{}`:                                "names no server",
		`{"socket": "redis.sock"}`:          "not absolute",
		`{"address": "10.0.0.1:6379"}`:      "loopback",
		`{"adress": "127.0.0.1:1"}`:         "unknown field",
		`{"socket": "/nowhere/redis.sock"}`: "no server listens",
		`{"directory": "/var/lib/x", "save_limit": "soon"}`: "save_limit",
		`{"directory": "/var/lib/x", "found": {"pid": 1}}`:  "unknown field",
		`{"directory": "/x", "password_file": "secret"}`:    "not absolute",
	} {
		_, err := Kind{}.Discover(t.Context(), writer.Discovery{Configs: []writer.Config{{Kind: KindName, Config: json.RawMessage(text)}}})
		wantError(t, err, want)
	}
}

// TestOthersDirectoriesAreNotClaimed: a server may be started in anybody's
// directory.
func TestOthersDirectoriesAreNotClaimed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, as it gives a directory to another user")
	}
	dir := scratch(t)
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	raw, _ := json.Marshal(config{Directory: dir, Found: new(found)})
	_, err := Kind{}.New(t.Context(), writer.Spec{Kind: KindName, Config: raw, Discovered: true})
	wantError(t, err, "as which the server runs")
}

func TestServerInTheRootDirectoryIsRefusedByName(t *testing.T) {
	t.Parallel()
	raw, _ := json.Marshal(config{Directory: "/", Found: new(found)})
	_, err := Kind{}.New(t.Context(), writer.Spec{Kind: KindName, Config: raw})
	wantError(t, err, "set dir in its configuration")
}

// TestStoppedServer: its files are still as long as nobody starts it.
func TestStoppedServer(t *testing.T) {
	t.Parallel()
	a := newApp(t, dbtest.RedisOptions{AppendOnly: true})
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, _, err := a.host(a.spec(config{Directory: a.Dir}))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlay(t, w)
	if files := p.backup(a.Dir); len(files) < 2 {
		t.Errorf("the component has %d files", len(files))
	}
	p = newPlay(t, w)
	p.freeze()
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantError(t, p.try(writer.EventThaw), "was not running when the backup began")
}

func TestSettingsFilesThatMayBeRead(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	path := filepath.Join(dir, "redis.conf")
	if err := os.WriteFile(path, []byte("dir "+dir+"\nrequirepass sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := settingsFiles(dir, []string{path})
	if i := slices.IndexFunc(files, func(f settingsFile) bool { return f.path == path }); i < 0 {
		t.Fatalf("%v, %v", files, err)
	} else if p, _ := password(files[i].all); p != "sesame" {
		t.Errorf("the password is %q", p)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	files, err = settingsFiles(dir, []string{path})
	if slices.ContainsFunc(files, func(f settingsFile) bool { return f.path == path }) {
		t.Error("a file that everybody can write to is believed")
	}
	wantError(t, err, "open to others")
}
