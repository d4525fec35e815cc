package mariadb

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// twoServers gives the writers of two servers whose binary logs lie in one directory,
// bin-a.000001 and bin-b.000001.
func twoServers(t *testing.T) (a, b *dbWriter, logs string) {
	t.Helper()
	dir := t.TempDir()
	logs = filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	var list []*dbWriter
	for _, name := range []string{"a", "b"} {
		data := filepath.Join(dir, name)
		f := &facts{LogBin: true, LogBase: filepath.Join(logs, "bin-"+name)}
		if err := errors.Join(os.MkdirAll(filepath.Join(data, "mysql"), 0o700), os.WriteFile(f.LogBase+".000001", []byte("\xfebin"), 0o600)); err != nil {
			t.Fatal(err)
		}
		l, err := lay(data, f)
		if err != nil {
			t.Fatal(err)
		}
		w := &dbWriter{dir: data, facts: f, spool: l.spool, places: []place{{Dir: logs, Pattern: "bin-" + name + ".*", Log: true}}}
		w.shared = l.shared
		list = append(list, w)
	}
	return list[0], list[1], logs
}

func wantLogs(t *testing.T, what, dir string, want ...string) {
	t.Helper()
	if got, err := spooled(dir); err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: %s has %v, %v; want %v", what, dir, got, err, want)
	}
}

// A log backup of one server neither takes away nor saves the logs of another that
// has its own in the same directory; nor does a restore.
func TestServersThatShareALogDirectoryDoNotShareWhatIsSaved(t *testing.T) {
	a, b, logs := twoServers(t)
	if err := a.link(logs, []string{"bin-a.000001"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.unspool(), b.link(logs, []string{"bin-b.000001"})); err != nil {
		t.Fatal(err)
	}
	wantLogs(t, "the first", a.spool, "bin-a.000001")
	wantLogs(t, "the second", b.spool, "bin-b.000001")
	// What is restored of one is replayed by it, and dropped by it alone.
	p := restoredPlace(a.dir, a.dir, *a.facts)
	if names, at, err := p.spooled(); err != nil || !slices.Equal(names, []string{"bin-a.000001"}) || at["bin-a.000001"] != filepath.Join(a.spool, "bin-a.000001") {
		t.Errorf("to be replayed: %v in %v, %v", names, at, err)
	}
	if err := b.dropSpools(b.places); err != nil {
		t.Fatal(err)
	}
	wantLogs(t, "after the second was restored", a.spool, "bin-a.000001")
	if err := a.unspool(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(logs, ".*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Backups of earlier writers restore to a directory that servers share, and killed
// ones have left links there: each server takes and removes its own.
func TestLogsInADirectoryThatEarlierWritersSharedAreSorted(t *testing.T) {
	a, b, logs := twoServers(t)
	shared := filepath.Join(logs, ".sombra-log")
	fill := func() {
		err := os.MkdirAll(shared, 0o700)
		for _, name := range []string{"bin-a.000001", "bin-a.000002", "bin-b.000001"} {
			err = errors.Join(err, os.WriteFile(filepath.Join(shared, name), []byte("\xfebin"), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fill()
	if err := a.link(logs, []string{"bin-a.000001"}); err != nil {
		t.Fatal(err)
	}
	p := restoredPlace(a.dir, a.dir, *a.facts)
	names, at, err := p.spooled()
	if err != nil || !slices.Equal(names, []string{"bin-a.000001", "bin-a.000002"}) {
		t.Fatalf("to be replayed: %v, %v", names, err)
	}
	args, err := p.plan(target{}, names, at)
	if err != nil || !strings.HasSuffix(strings.Join(args, " "), " -- "+filepath.Join(a.spool, "bin-a.000001")+" "+filepath.Join(shared, "bin-a.000002")) {
		t.Errorf("mariadb-binlog gets %v, %v", args, err)
	}
	for what, end := range map[string]func() error{
		"replay":          func() error { return a.replay(t.Context(), target{none: true}, p, nil, nil) },
		"another restore": func() error { return a.dropSpools(a.places) },
		"a backup":        a.unspool,
	} {
		fill()
		if err := end(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		wantLogs(t, what, shared, "bin-b.000001")
	}
	if err := b.unspool(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(logs, ".*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
