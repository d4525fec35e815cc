package requester_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// TestWriterSeesWhatIsRestored: how a narrowed set reaches its writer, and that
// others are left alone.
func TestWriterSeesWhatIsRestored(t *testing.T) {
	w := newWorld(t)
	for _, f := range []string{"top/t", "a/f", "b/f", "alone/f", "other/f"} {
		w.write(f, f)
	}
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		return []error{
			group(m, "", "top", true), files(m, "", "top", w.path("top"), "*", false),
			group(m, "top", "a", false), files(m, "top", "a", w.path("a"), "*", false),
			m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, LogicalPath: "top", Name: "b"}), files(m, "top", "b", w.path("b"), "*", false),
			m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, Name: "alone", Selectable: true}), files(m, "", "alone", w.path("alone"), "*", false),
		}
	})
	other := newDocWriter("other", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "data", true), files(m, "", "data", w.path("other"), "*", false)}
	})
	w.writers = []*docWriter{d, other}
	res := w.backup(w.paths())
	for _, tt := range []struct {
		rule, chosen string
		files        string
		selected     string // components that are, and their subcomponents
	}{
		{"R-SEL-23 the whole set", "top", "a/f b/f top/t", "top"},
		{"R-SEL-24, R-SEL-25 a member", `top\a`, "a/f", `top[top\a]`},
		{"R-SEL-21, R-SEL-22 explicit, whatever its flag", "alone", "alone/f", "alone"},
	} {
		w.wipe()
		d, other = d.again(), other.again()
		var got []string
		d.on[writer.EventPreRestore] = func(e *writer.Event) error {
			for _, c := range e.Components.Components() {
				if ok, _ := c.SelectedForRestore(); !ok {
					continue
				}
				text := c.FullPath()
				for _, s := range c.RestoreSubcomponents() {
					text += "[" + vss.FullPath(s.LogicalPath, s.Name) + "]"
				}
				got = append(got, text)
			}
			return nil
		}
		w.writers = []*docWriter{d, other}
		back := w.restore(res.Record, requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{tt.chosen}}})
		if back.Outcome != requester.Complete || strings.Join(got, " ") != tt.selected {
			t.Errorf("%s: outcome %v, the writer sees %q, want %s", tt.rule, back.Outcome, got, tt.selected)
		}
		var there []string
		for _, f := range []string{"a/f", "alone/f", "b/f", "other/f", "top/t"} {
			if _, err := os.Lstat(w.path(f)); err == nil {
				there = append(there, f)
			}
		}
		if strings.Join(there, " ") != tt.files {
			t.Errorf("%s: restored %q, want %s", tt.rule, there, tt.files)
		}
		if other.saw(writer.EventPreRestore) || other.saw(writer.EventPostRestore) {
			t.Errorf("R-SEL-29: a writer with nothing chosen saw %v", other.seen)
		}
	}
	_, err := requester.Restore(t.Context(), w.open, w.repo, res.Record,
		requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{`top\b`}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "cannot be restored alone") {
		t.Errorf("a member that is not selectable for restore: %v", err)
	}
}

// A dependency on another machine is told, and keeps nothing from being restored.
// The machine may stand before the logical path, or before the name (D-4).
func TestRemoteDependencyIsReportedR_SEL_34(t *testing.T) {
	far := vss.NewGUID()
	for _, dep := range []metadata.Dependency{
		{WriterClass: far, LogicalPath: `\\db7\store`, Name: "main"},
		{WriterClass: far, LogicalPath: `\\192.0.2.7`, Name: "main"},
	} {
		w, d := appWorld(t)
		build := d.build
		d.build = func(m *metadata.WriterMetadata) []error {
			return append(build(m), m.AddComponentDependency("", "main", dep))
		}
		res := w.backup(w.paths())
		w.wipe()
		d = d.again()
		w.writers = []*docWriter{d}
		back := w.restore(res.Record, requester.RestoreRequest{})
		machine := strings.Split(dep.LogicalPath, `\`)[2]
		if back.Outcome != requester.Complete || !slices.ContainsFunc(back.Warnings, func(s string) bool {
			return strings.Contains(s, "on "+machine) && strings.Contains(s, "must be restored there")
		}) {
			t.Errorf("%s: outcome %v, warnings %q", machine, back.Outcome, back.Warnings)
		}
		if d.status["main"] != vss.FileRestoreStatusAll {
			t.Errorf("%s: status %v", machine, d.status["main"])
		}
		dry := w.restore(res.Record, requester.RestoreRequest{DryRun: true})
		if len(dry.Warnings) != len(back.Warnings) {
			t.Errorf("%s: a dry run warns of %q", machine, dry.Warnings)
		}
	}
}
