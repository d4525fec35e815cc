package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets the test binary be started again as what the program starts
// itself as.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if run, ok := roles[os.Args[1]]; ok {
			exit(run(os.Args[2:]))
		}
	}
	code := m.Run()
	if err := os.RemoveAll(buildDir); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// steps are the tables in the order they are printed, and whether peers and
// yardsticks are in them.
var stepTables = []struct {
	title             string
	peers, yardsticks bool
}{
	{"(a) a real tree", true, true},
	{"(b) again, nothing changed", true, false},
	{"(f) restore of the tree", true, false},
	{"(c) again, 1 % of the files changed", true, false},
	{"(d) a database's file", true, true},
	{"(d) 1 % of its pages changed, ranges known", false, false},
	{"(f) restore of the database backed up by ranges", false, false},
	{"(d) 1 % of its pages changed, ranges not known", true, false},
	{"(f) restore of the database", true, false},
	{"(e) small files", true, true},
	{"(e) small files again, nothing changed", true, false},
	{"(f) restore of the small files", true, false},
}

// TestTheWholeComparisonRunsWithThePeersThatAreThere runs every work on a few
// megabytes: every tool has its line with figures in every table, what was
// restored is what was backed up (the program itself compares), and nothing is
// left behind.
func TestTheWholeComparisonRunsWithThePeersThatAreThere(t *testing.T) {
	us := buildSombra(t)
	tree := smallTree(t)
	scratch := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var out bytes.Buffer
	err := benchRepository(ctx, []string{"-rounds", "1", "-size", "0.0002", "-tree", tree, "-dir", scratch, "-sombra", us.path}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	tables := strings.Split(out.String(), "\n### ")[1:]
	if len(tables) != len(stepTables) {
		t.Fatalf("%d tables, want %d:\n%s", len(tables), len(stepTables), out.String())
	}
	peers := findPeers(ctx, filepath.SplitList(os.Getenv("PATH")))
	if len(peers) == 0 {
		t.Log("no peer is installed: ours was measured alone")
	}
	for i, want := range stepTables {
		title, _, _ := strings.Cut(tables[i], "\n")
		if title != want.title {
			t.Errorf("table %d is %q, want %q", i, title, want.title)
		}
		names := []string{"sombra"}
		if want.peers {
			for _, p := range peers {
				names = append(names, p.name)
			}
		}
		if want.yardsticks {
			for _, y := range yardsticks() {
				names = append(names, y.name)
			}
		}
		checkLines(t, want.title, tables[i], names)
	}
	if !regexp.MustCompile(`\n- (met|MISSED by \d+ MiB): peak memory in all of it: [1-9]\d* MiB, goal 250 MiB\n`).MatchString(out.String()) {
		t.Errorf("no verdict on memory:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "\n- met: bytes read to bytes changed: ") {
		t.Errorf("a change known by ranges read more than it may:\n%s", out.String())
	}
}

// TestNoStepBeginsWithWhatAnotherStored: the same change is stored whole with
// its ranges known and without, whichever comes first.
func TestNoStepBeginsWithWhatAnotherStored(t *testing.T) {
	r := &rig{dir: t.TempDir(), results: map[string]map[string][]usage{}, tools: []*tool{buildSombra(t)}}
	r.o.works, r.o.size = []string{"d", "f"}, 0.02 // from 64 MiB on, content that changed is looked for
	g := r.databaseGroup()
	if _, err := g.make(g); err != nil {
		t.Fatal(err)
	}
	if err := r.round(t.Context(), g, 0); err != nil {
		t.Fatal(err)
	}
	known, unknown := r.results["dr"]["sombra"], r.results["dc"]["sombra"]
	if len(known) != 1 || len(unknown) != 1 {
		t.Fatalf("measured %d and %d times", len(known), len(unknown))
	}
	// 104 pages of new content, which compress to more than a quarter.
	least := int64(104 * pageSize / 4)
	if known[0].stored < least || unknown[0].stored < least {
		t.Errorf("stored %d bytes with the ranges known and %d without, want at least %d each", known[0].stored, unknown[0].stored, least)
	}
	if left, err := os.ReadDir(r.dir); err != nil || len(left) != 1 {
		t.Errorf("besides the data there is left: %v, %v", left, err)
	}
}

// buildSombra is the program of this source, built once for all tests.
func buildSombra(t *testing.T) *tool {
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return sombra(path)
}

var buildDir string // TestMain removes it

var built = sync.OnceValues(func() (path string, err error) {
	if buildDir, err = os.MkdirTemp("", "sombra-built-"); err != nil {
		return "", err
	}
	path = filepath.Join(buildDir, "sombra")
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/sombra").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// smallTree is a tree with enough files for one in a hundred to be changed.
func smallTree(t *testing.T) string {
	tree := t.TempDir()
	if err := makeSmallFiles(tree, 1000); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("000/000", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	return tree
}

// checkLines makes sure that a table has exactly these tools, with figures.
func checkLines(t *testing.T, title, table string, names []string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || strings.TrimSpace(cells[0]) == "tool" {
			continue
		}
		if len(cells) != 8 {
			t.Errorf("%s: %d columns in %q", title, len(cells), line)
			continue
		}
		got = append(got, strings.TrimSpace(cells[0]))
		for _, n := range []int{2, 4} { // wall and peak memory are never nothing
			if cell := strings.TrimSpace(cells[n]); !regexp.MustCompile(`^\d+(\.\d+)?$`).MatchString(cell) || strings.Trim(cell, "0.") == "" {
				t.Errorf("%s: %q is no figure in %q", title, cell, line)
			}
		}
	}
	if !slices.Equal(got, names) {
		t.Errorf("%s: the table has %q, want %q", title, got, names)
	}
}

func TestARatioToTheFastestIsClaimedOnlyWithNewPeers(t *testing.T) {
	for versions, claimed := range map[[2]string]bool{
		{"0.14.0", "0.20.1"}: false, {"0.18.0", "0.19.0"}: false, {"", "0.21.0"}: false, {"0.18.1", ""}: false,
		{"0.18.0", "0.20.0"}: true, {"0.19.1-dev", "0.23.1-83-g4ebb2be6c"}: true, {"1.0.0", "1.0"}: true,
	} {
		var tools []*tool
		if versions[0] != "" {
			tools = append(tools, &tool{name: "restic", version: versions[0]})
		}
		if versions[1] != "" {
			tools = append(tools, &tool{name: "kopia", version: versions[1]})
		}
		if why := claimable(tools); (why == "") != claimed {
			t.Errorf("restic %q and kopia %q: %q", versions[0], versions[1], why)
		}
	}
}

func TestTheNewestOfEachPeerIsTaken(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	for i, line := range []string{"restic 0.9.6 compiled with go1", "restic 0.18.1 compiled with go1", "restic 0.14.0 compiled with go1"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s'\n", line)
		if err := os.WriteFile(filepath.Join(dirs[i], "restic"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got := findPeers(t.Context(), dirs)
	if len(got) != 1 || got[0].version != "0.18.1" || filepath.Dir(got[0].path) != dirs[1] {
		t.Errorf("found %+v", got)
	}
}

func TestMediansAndVerdicts(t *testing.T) {
	runs := []usage{{wall: 4 * time.Second}, {wall: time.Second}, {wall: 3 * time.Second}, {wall: 2 * time.Second}}
	if got := spreadOf(runs, wallOf); got != (spread{2.5, 1, 4, 4}) || got.text() != "2.50 (1.00–4.00)" {
		t.Errorf("got %+v, %s", got, got.text())
	}
	if got := spreadOf(runs[:1], wallOf).text(); got != "4.00" {
		t.Errorf("got %s", got)
	}
	for _, c := range []struct {
		got, goal float64
		want      string
	}{
		{0.5, 0.55, "- met: x: 0.500, goal 0.55\n"}, {0.6, 0.55, "- MISSED by 0.050: x: 0.600, goal 0.55\n"}, {1.5, 0, "- x: 1.50\n"},
	} {
		if got := ratioVerdict("x", c.got, c.goal); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// TestChangesAreWhatTheySayTheyAre checks the made data: exactly the pages that
// are named differ.
func TestChangesAreWhatTheySayTheyAre(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := makeDatabase(path, 1000); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := changePages(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(changed) != 10 || len(after) != len(before) || len(before) != 1000*pageSize {
		t.Fatalf("%d pages of %d bytes changed, %d bytes after", len(changed), len(before), len(after))
	}
	for n := range int64(1000) {
		differs := !bytes.Equal(before[n*pageSize:(n+1)*pageSize], after[n*pageSize:(n+1)*pageSize])
		named := false
		for _, c := range changed {
			named = named || c.Offset == n*pageSize && c.Length == pageSize
		}
		if differs != named {
			t.Errorf("page %d: differs %v, named %v", n, differs, named)
		}
	}
}
