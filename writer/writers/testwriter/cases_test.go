package testwriter

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/testwriter/cases"
)

func loadCases(t *testing.T) []*cases.Case {
	t.Helper()
	all, err := cases.Load("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 16 {
		t.Fatalf("%d cases, where at least 16 are promised", len(all))
	}
	return all
}

// prepare makes a case's tree, sets its variables, and gives the writer.
func prepare(t *testing.T, c *cases.Case) (dir string, w *testWriter, log *bytes.Buffer) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv(cases.DirVariable, dir)
	for name, value := range c.Env {
		t.Setenv(name, value)
	}
	if err := c.Make(dir); err != nil {
		t.Fatal(err)
	}
	config, err := Parse(c.Config, c.Name, hostStyle())
	if err != nil {
		t.Fatal(err)
	}
	log = new(bytes.Buffer)
	return dir, newWriter(config, c.Name, log), log
}

// part makes the writer's part of a Backup Components Document with the
// components the case says are explicit.
func part(t *testing.T, c *cases.Case, doc *metadata.WriterMetadata) *metadata.WriterComponents {
	t.Helper()
	b := metadata.NewBackupComponents()
	if err := b.SetBackupState(metadata.BackupState{SelectComponents: true, Type: c.Type, PartialFileSupport: !c.NoPartial}); err != nil {
		t.Fatal(err)
	}
	id := doc.Identity()
	key := metadata.WriterKey{InstanceID: id.InstanceID, ClassID: id.ClassID, Schema: doc.BackupSchema()}
	for _, full := range c.Explicit {
		path, name := vss.SplitFullPath(full)
		info, ok := doc.Component(path, name)
		if !ok {
			t.Fatalf("the writer has no component %s", full)
		}
		if _, err := b.AddComponent(key, info.Type, path, name); err != nil {
			t.Fatal(err)
		}
	}
	p, ok := b.Writer(id.InstanceID)
	if !ok {
		t.Fatal("the case has no explicit component")
	}
	return p
}

// backup sends a backup's events, and gives what PostSnapshot left in the
// document. copied runs where the shadow copy is made.
func backup(t *testing.T, c *cases.Case, w writer.Writer, copied func()) (*metadata.WriterComponents, error) {
	t.Helper()
	doc, err := w.Identify(t.Context())
	if err != nil {
		return nil, err
	}
	if problems := doc.Validate(hostStyle()); len(problems) > 0 && !strings.HasPrefix(c.Name, "R-SEL-24") {
		t.Logf("the document's own faults: %v", problems)
	}
	state := writer.BackupState{SelectComponents: true, Type: c.Type, PartialFileSupport: !c.NoPartial}
	e := &writer.Event{State: state, Components: part(t, c, doc)}
	for _, kind := range []writer.EventKind{writer.EventPrepareForBackup, writer.EventPrepareForSnapshot, writer.EventFreeze, writer.EventThaw, writer.EventPostSnapshot} {
		own := &writer.Event{State: state}
		if kind.KeepsComponents() {
			own = e
		}
		if err := writer.Notify(t.Context(), w, kind, own); err != nil {
			return nil, fmt.Errorf("%v: %w", kind, err)
		}
		if kind == writer.EventFreeze && copied != nil {
			copied()
		}
	}
	return e.Components, nil
}

func TestCases(t *testing.T) {
	for _, c := range loadCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			dir, w, log := prepare(t, c)
			if c.Fails != nil {
				checkFailure(t, c, w)
				if c.Outcome != cases.Complete {
					return
				}
			}
			atCopy := map[string]bool{}
			p, err := backup(t, c, w, func() {
				names, err := cases.List(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range names {
					atCopy[n] = true
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			checkSaved(t, c, p, atCopy)
			finish(t, c, w, p)
			checkLive(t, c, dir)
			if strings.Contains(log.String(), "REQUESTER") {
				t.Errorf("the writer blames the requester:\n%s", log)
			}
			checkRestore(t, c, dir, w, p)
		})
	}
}

// checkFailure sends the events up to the one that must fail.
func checkFailure(t *testing.T, c *cases.Case, w *testWriter) {
	t.Helper()
	var err error
	if c.Fails.Event == writer.EventBackupComplete {
		err = w.BackupComplete(t.Context(), &writer.Event{})
	} else {
		if _, err = backup(t, c, w, nil); err == nil || c.Fails.Event != writer.EventIdentify && !strings.HasPrefix(err.Error(), c.Fails.Event.String()) {
			t.Fatalf("it fails with %v, not in %v", err, c.Fails.Event)
		}
		if aerr := w.Abort(t.Context(), &writer.Event{}); aerr != nil {
			t.Error(aerr)
		}
	}
	if !slices.ContainsFunc(c.Fails.Codes, func(code vss.Code) bool { return errors.Is(err, code) }) {
		t.Errorf("it fails with %v, want one of %v", err, c.Fails.Codes)
	}
}

// checkSaved compares the writer's own account with the case's.
func checkSaved(t *testing.T, c *cases.Case, p *metadata.WriterComponents, atCopy map[string]bool) {
	t.Helper()
	var got []string
	for _, comp := range p.Components() {
		text, ok := comp.BackupMetadata()
		if !ok {
			t.Fatalf("component %s has no backup metadata", comp.FullPath())
		}
		m, err := decodeManifest(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range m.Files {
			got = append(got, describe(t, e))
		}
	}
	var want []string
	for _, s := range c.Saved {
		line := s.Path
		if s.Ranges != nil {
			line += " " + s.Ranges.Format()
		}
		want = append(want, line)
		source := s.Path
		if s.From != "" {
			source = s.From
		}
		if !atCopy[source] {
			t.Errorf("%s was not there when the shadow copy was made", source)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("to be saved: got %q, want %q", got, want)
	}
}

func describe(t *testing.T, e entry) string {
	t.Helper()
	dir, err := environment(nil).expand(e.Path)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(os.Getenv(cases.DirVariable), filepath.Join(dir, e.name()))
	if err != nil {
		t.Fatal(err)
	}
	line := filepath.ToSlash(rel)
	if e.Hash != "" {
		return line
	}
	var ranges vss.Ranges
	for _, r := range e.Ranges {
		ranges = append(ranges, vss.Range{Offset: r.Offset, Length: r.Length})
	}
	return line + " " + ranges.Format()
}

// finish ends a backup that went well.
func finish(t *testing.T, c *cases.Case, w *testWriter, p *metadata.WriterComponents) {
	t.Helper()
	for _, comp := range p.Components() {
		if err := comp.SetBackupSucceeded(true); err != nil {
			t.Fatal(err)
		}
	}
	err := w.BackupComplete(t.Context(), &writer.Event{Components: p})
	if failing := c.Fails != nil && c.Fails.Event == writer.EventBackupComplete; (err != nil) != failing {
		t.Errorf("BackupComplete: %v", err)
	}
	if err := w.BackupShutdown(t.Context(), &writer.Event{}); err != nil {
		t.Error(err)
	}
}

func checkLive(t *testing.T, c *cases.Case, dir string) {
	t.Helper()
	all, err := cases.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := slices.DeleteFunc(all, func(n string) bool { return strings.HasSuffix(n, "/") })
	want := slices.Sorted(maps.Keys(c.Tree))
	if c.Live != nil {
		want = c.Live
	}
	if !slices.Equal(files, want) {
		t.Errorf("after the backup there are %q, want %q", files, want)
	}
}

// checkRestore restores as the case says it must be, and then wrongly in
// several ways: the writer must be content with the one and none of the others.
func checkRestore(t *testing.T, c *cases.Case, dir string, w *testWriter, p *metadata.WriterComponents) {
	if c.Restored == nil {
		return
	}
	fresh := func(t *testing.T) *metadata.WriterComponents {
		restored(t, c, dir)
		again, err := metadata.ParseWriterPart(p.Part())
		if err != nil {
			t.Fatal(err)
		}
		selectAll(t, c, again)
		return again
	}
	post := func(t *testing.T, p *metadata.WriterComponents) error {
		t.Helper()
		if err := w.PreRestore(t.Context(), &writer.Event{Components: p}); err != nil {
			t.Fatal(err)
		}
		return w.PostRestore(t.Context(), &writer.Event{Components: p})
	}

	own := fresh(t)
	tellMappings(t, c, w, own)
	if err := post(t, own); err != nil {
		t.Fatalf("a right restore: %v", err)
	}

	for _, name := range c.Restored {
		if _, inTheWay := c.Before[name]; inTheWay || strings.HasSuffix(name, "/") || !savedAs(c, name) {
			continue
		}
		t.Run("damaged "+name, func(t *testing.T) {
			p := fresh(t)
			tellMappings(t, c, w, p)
			damage(t, filepath.Join(dir, name))
			wantBlame(t, post(t, p), p, filepath.Base(name))
		})
		t.Run("missing "+name, func(t *testing.T) {
			p := fresh(t)
			tellMappings(t, c, w, p)
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			wantBlame(t, post(t, p), p, "was not restored")
		})
	}
	if usesMapping(c) {
		t.Run("mapping not told", func(t *testing.T) {
			p := fresh(t)
			wantBlame(t, post(t, p), p, "AddAlternativeLocationMapping")
		})
	}
	for _, name := range excludedFiles(t, c, w, dir) {
		t.Run("excluded "+name, func(t *testing.T) {
			p := fresh(t)
			tellMappings(t, c, w, p)
			if err := cases.Write(dir, map[string][]byte{name: []byte("x")}); err != nil {
				t.Fatal(err)
			}
			wantBlame(t, post(t, p), p, "is excluded")
		})
	}
	t.Run("a restore that failed is not checked", func(t *testing.T) {
		p := fresh(t)
		for _, comp := range p.Components() {
			if err := comp.SetFileRestoreStatus(vss.FileRestoreStatusNone); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(filepath.Join(dir, strings.Split(c.Restored[0], "/")[0])); err != nil {
			t.Fatal(err)
		}
		if err := post(t, p); err != nil {
			t.Error(err)
		}
	})
}

// restored makes the tree as it must be after the restore.
func restored(t *testing.T, c *cases.Case, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string][]byte{}
	for _, name := range c.Restored {
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		files[name] = onlyRanges(c.Content(name), c.Ranges(name))
	}
	if err := cases.Write(dir, files); err != nil {
		t.Fatal(err)
	}
	if got, err := cases.List(dir); err != nil || !slices.Equal(got, c.Restored) {
		t.Fatalf("the case's list of what is restored lacks directories: made %q, listed %q, %v", got, c.Restored, err)
	}
}

// onlyRanges blanks what was not saved.
func onlyRanges(content []byte, ranges vss.Ranges) []byte {
	if ranges == nil {
		return content
	}
	out := bytes.Repeat([]byte{'-'}, len(content))
	for _, r := range ranges {
		copy(out[r.Offset:r.End()], content[r.Offset:r.End()])
	}
	return out
}

func selectAll(t *testing.T, c *cases.Case, p *metadata.WriterComponents) {
	t.Helper()
	for _, comp := range p.Components() {
		if len(c.Select) > 0 && !slices.Contains(c.Select, comp.FullPath()) {
			continue
		}
		err := errors.Join(comp.SetSelectedForRestore(true, vss.GUID{}), comp.SetFileRestoreStatus(vss.FileRestoreStatusAll))
		for _, s := range c.Subcomponents {
			if s.Of == comp.FullPath() {
				path, name := vss.SplitFullPath(s.Name)
				err = errors.Join(err, comp.AddRestoreSubcomponent(metadata.RestoreSubcomponent{LogicalPath: path, Name: name}))
			}
		}
		for _, n := range c.NewTargets {
			if n.Component == comp.FullPath() {
				err = errors.Join(err, comp.AddNewTarget(metadata.NewTarget{FileSpec: n.Spec, NewPath: n.Path}))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func usesMapping(c *cases.Case) bool {
	return slices.ContainsFunc(c.Restored, func(n string) bool { return strings.HasPrefix(n, "alt/") })
}

func tellMappings(t *testing.T, c *cases.Case, w *testWriter, p *metadata.WriterComponents) {
	t.Helper()
	if !usesMapping(c) {
		return
	}
	for _, comp := range p.Components() {
		for _, m := range w.config.Mappings {
			if err := comp.AddAlternativeLocationMapping(m); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// savedAs reports whether a restored file is one that this backup saved, at its
// own place or another, and not one of the backup before it or one in the way.
func savedAs(c *cases.Case, name string) bool {
	return slices.ContainsFunc(c.Saved, func(s cases.Saved) bool {
		return s.Path == name || filepath.Base(s.Path) == filepath.Base(name) && (strings.HasPrefix(name, "alt/") || strings.HasPrefix(name, "target/"))
	})
}

func excludedFiles(t *testing.T, c *cases.Case, w *testWriter, dir string) []string {
	t.Helper()
	m, err := newMatcher(w.config.ExcludeFiles, w.style, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.Tree)) {
		if m.matches(filepath.Join(dir, name)) {
			names = append(names, name)
		}
	}
	return names
}

func damage(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[0] ^= 1
	if bytes.Contains(data, []byte("-")) { // only ranges count: damage them all
		for i := range data {
			data[i] ^= 1
		}
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantBlame(t *testing.T, err error, p *metadata.WriterComponents, text string) {
	t.Helper()
	if !errors.Is(err, vss.ErrWriterErrorNonRetryable) || !strings.Contains(err.Error(), text) {
		t.Errorf("PostRestore: got %v, want a failure with %q", err, text)
	}
	for _, c := range p.Components() {
		if msg, ok := c.PostRestoreFailureMsg(); ok && strings.Contains(msg, text) {
			return
		}
	}
	t.Errorf("no component has a failure message with %q", text)
}
