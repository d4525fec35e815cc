//go:build linux

package requester_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/sqlite"
	"github.com/sombra-backup/sombra/writer/writers/testwriter"
	"github.com/sombra-backup/sombra/writer/writers/testwriter/cases"
)

var testKinds = []writer.Kind{testwriter.Kind{}, sqlite.Kind{}}

// TestWriterConfigurations backs up, wipes, restores and compares for every
// configuration of the Test Writer's testdata, each named after its rule. The
// writer itself checks what came back.
func TestWriterConfigurations(t *testing.T) {
	all, err := cases.Load("../writer/writers/testwriter/testdata")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, c := range all {
		ran++
		t.Run(c.Name, func(t *testing.T) { runCase(t, c) })
	}
	if ran < 16 {
		t.Errorf("only %d configurations were run", ran)
	}
}

// caseWorld is a world with the case's writer, configured as a user would.
func caseWorld(t *testing.T, c *cases.Case) *world {
	t.Helper()
	w := newWorld(t)
	if err := c.Make(w.dir); err != nil {
		t.Fatal(err)
	}
	// The writer runs as the owner of the file.
	file := filepath.Join(scratch(t), "config.xml")
	if err := os.WriteFile(file, c.Config, 0o600); err != nil {
		t.Fatal(err)
	}
	vars := []string{cases.DirVariable}
	t.Setenv(cases.DirVariable, w.dir)
	for name, value := range c.Env {
		t.Setenv(name, value)
		vars = append(vars, name)
	}
	slices.Sort(vars)
	config, err := json.Marshal(map[string]any{"file": file, "environment": vars})
	if err != nil {
		t.Fatal(err)
	}
	w.opts.Kinds = testKinds
	w.opts.Options.Writers = []session.WriterConfig{{Kind: "testwriter", Name: "case", Config: config}}
	return w
}

func runCase(t *testing.T, c *cases.Case) {
	w := caseWorld(t, c)
	plain := filepath.Join(scratch(t), "plain")
	if err := os.WriteFile(plain, []byte("beside it"), 0o644); err != nil {
		t.Fatal(err)
	}
	req := requester.Request{Paths: []string{plain}, Type: c.Type, NoPartial: c.NoPartial, Selectors: requester.Selectors{Components: c.Add}}
	if len(c.Add) == 0 && c.Outcome != cases.Absent {
		req.Selectors.Writers = []string{"case"}
	}
	if c.Base != 0 {
		base := req
		base.Type = c.Base
		w.backup(base)
	}
	res, err := requester.Backup(t.Context(), w.open, w.repo, req, nil)
	if err != nil {
		t.Fatalf("backup: %v", err)
	}
	checkOutcome(t, c, res)
	checkSaved(t, w, c, res.Record)
	checkExplicit(t, c, res.Record)
	checkLive(t, w, c)
	if c.Restored == nil {
		return
	}
	if c.Type == vss.BackupTypeLog {
		t.Logf("NOT RUN YET: %s: the restore of a chain, of which a log backup is a link", c.Name)
		return
	}
	w.wipe()
	if err := cases.Write(w.dir, c.Before); err != nil {
		t.Fatal(err)
	}
	r := requester.RestoreRequest{Selectors: requester.Selectors{Components: restoreSelectors(c)}}
	for _, n := range c.NewTargets {
		r.Wishes.NewTargets = append(r.Wishes.NewTargets, requester.NewTargetWish{Component: n.Component, Spec: n.Spec, Path: n.Path})
	}
	back := w.restore(res.Record, r)
	if back.Outcome != requester.Complete {
		t.Errorf("restore: outcome %v: %s %+v %q", back.Outcome, leftOut(back.LeftOut), back.Failures, back.Warnings)
	}
	checkRestored(t, w, c)
}

// restoreSelectors names what the case restores: subcomponents go through their
// defining component.
func restoreSelectors(c *cases.Case) (out []string) {
	for _, s := range c.Select {
		if !slices.ContainsFunc(c.Subcomponents, func(x cases.Subcomponent) bool { return x.Of == s }) {
			out = append(out, s)
		}
	}
	for _, s := range c.Subcomponents {
		out = append(out, s.Name)
	}
	if len(out) == 0 {
		out = []string{"case"}
	}
	return out
}

func checkOutcome(t *testing.T, c *cases.Case, res *requester.Result) {
	t.Helper()
	want := map[cases.Outcome]requester.Outcome{cases.Complete: requester.Complete, cases.Incomplete: requester.Incomplete,
		// Its data would pass for nobody's: that is said.
		cases.Absent: requester.Incomplete, "": requester.Complete}[c.Outcome]
	if res.Outcome != want && !(want == requester.Complete && res.Outcome == requester.WriterFailedAfter && c.Fails != nil) {
		t.Errorf("outcome %v, want %v: %s %+v", res.Outcome, want, leftOut(res.LeftOut), res.Failures)
	}
	if c.Outcome == cases.Absent && len(res.Components) > 0 {
		t.Errorf("components %+v of a writer that is not there", res.Components)
	}
	for _, comp := range res.Components {
		if comp.Succeeded != (want != requester.Incomplete) {
			t.Errorf("%s: succeeded %v: %s", comp.Name, comp.Succeeded, comp.Error)
		}
	}
}

// checkSaved compares the record with what the case says it must hold.
func checkSaved(t *testing.T, w *world, c *cases.Case, rec *repository.Record) {
	t.Helper()
	got, from, ranges := map[string][]byte{}, map[string]string{}, map[string]string{}
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		rel, inside := strings.CutPrefix("/"+e.Path, w.dir+"/")
		if e.Type != repository.Regular || !inside || e.Attrs[requester.AttrRead] != rec.Started.UTC().Format(time.RFC3339Nano) {
			continue // or an earlier backup transferred it
		}
		f, err := w.repo.OpenContent(t.Context(), e.Content)
		if err != nil {
			t.Fatal(err)
		}
		got[rel] = make([]byte, f.Size())
		if _, err := f.ReadAt(got[rel], 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		from[rel] = e.Attrs[requester.AttrAlternate]
		ranges[rel] = e.Attrs[requester.AttrRanges]
	}
	var want []string
	for _, s := range c.Saved {
		want = append(want, s.Path)
		content, ok := got[s.Path]
		if !ok {
			continue
		}
		if !equalIn(content, c.Tree[s.Path], s.Ranges) {
			t.Errorf("%s was saved as %q, want %q in %q", s.Path, content, c.Tree[s.Path], s.Ranges.Format())
		}
		if s.Ranges != nil && ranges[s.Path] != s.Ranges.Format() {
			t.Errorf("of %s the ranges %q were saved, want %q", s.Path, ranges[s.Path], s.Ranges.Format())
		}
		if (s.From != "") != (from[s.Path] != "") {
			t.Errorf("%s was read from %q, want %q", s.Path, from[s.Path], s.From)
		}
	}
	slices.Sort(want)
	if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, want) {
		t.Errorf("saved %q, want %q", have, want)
	}
}

// equalIn compares two contents in ranges, nil for all.
func equalIn(a, b []byte, ranges vss.Ranges) bool {
	if ranges == nil {
		return bytes.Equal(a, b)
	}
	for _, r := range ranges {
		if r.End() > uint64(len(a)) || r.End() > uint64(len(b)) || !bytes.Equal(a[r.Offset:r.End()], b[r.Offset:r.End()]) {
			return false
		}
	}
	return true
}

// checkExplicit reads the stored Backup Components Document.
func checkExplicit(t *testing.T, c *cases.Case, rec *repository.Record) {
	t.Helper()
	data, err := rec.Document(t.Context(), requester.DocBCD, 1<<20)
	if err != nil {
		if len(c.Explicit) > 0 {
			t.Error(err)
		}
		return
	}
	doc, err := metadata.ParseBackupComponents(data)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range doc.Writers() {
		for _, comp := range w.Components() {
			got = append(got, comp.FullPath())
		}
	}
	slices.Sort(got)
	if c.Explicit != nil && !slices.Equal(got, c.Explicit) {
		t.Errorf("explicit components %q, want %q (R-SEL-12)", got, c.Explicit)
	}
}

func checkLive(t *testing.T, w *world, c *cases.Case) {
	t.Helper()
	list, err := cases.List(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	list = slices.DeleteFunc(list, func(n string) bool { return strings.HasSuffix(n, "/") })
	want := c.Live
	if want == nil {
		want = slices.Sorted(maps.Keys(c.Tree))
	}
	if !slices.Equal(list, want) {
		t.Errorf("left after the backup: %q, want %q", list, want)
	}
}

func checkRestored(t *testing.T, w *world, c *cases.Case) {
	t.Helper()
	list, err := cases.List(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(list, c.Restored) {
		t.Errorf("restored %q, want %q", list, c.Restored)
	}
	for _, name := range list {
		if strings.HasSuffix(name, "/") {
			continue
		}
		got, err := os.ReadFile(w.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if want := c.Content(name); !equalIn(got, want, c.Ranges(name)) {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}
