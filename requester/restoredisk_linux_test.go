package requester_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/requester/internal/model"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// TestRestoresLeaveWhatTheModelSays restores random component sets with random
// methods, targets and alternate location mappings on to disks where files are
// there, or directories in their way, and compares what is there afterwards:
// R-RES-2 to R-RES-9, R-RES-16 to R-RES-19, and that what is refused is untouched.
func TestRestoresLeaveWhatTheModelSays(t *testing.T) {
	r, n := seededTest(t, 400)
	ways := map[model.Way]int{}
	for run := range n {
		w := newWorld(t)
		s := model.Scene{
			Method: oneOf(r, vss.RestoreMethodIfNotThere, vss.RestoreMethodIfNotThere, vss.RestoreMethodIfCanReplace, vss.RestoreMethodIfCanReplace,
				vss.RestoreMethodToAlternateLocation, vss.RestoreMethodCustom),
			Target: oneOf(r, vss.RestoreTargetOriginal, vss.RestoreTargetOriginal, vss.RestoreTargetAlternate, vss.RestoreTargetOriginalLocation),
		}
		var mappings []metadata.AlternateLocationMapping
		var sets []vss.FileSpec
		for i := range 1 + r.IntN(3) {
			set := vss.FileSpec{Path: w.path(fmt.Sprint("set", i)), Pattern: oneOf(r, "*", "*.*", "f*"), Recursive: r.IntN(2) == 0}
			sets = append(sets, set)
			if r.IntN(4) > 0 {
				mappings = append(mappings, metadata.AlternateLocationMapping{FileSpec: set, AlternatePath: w.path(fmt.Sprint("alt", i))})
			}
		}
		d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
			errs := []error{group(m, "", "main", true)}
			for _, set := range sets {
				errs = append(errs, m.AddFilesToFileGroup("", "main", set, "", vss.DefaultFileSpecBackupType))
			}
			for _, a := range mappings {
				errs = append(errs, m.AddAlternateLocationMapping(a))
			}
			return errs
		})
		d.method = metadata.RestoreMethod{Method: s.Method, WriterRestore: vss.WriterRestoreAlways}
		told := 0
		d.on[writer.EventPreRestore] = func(e *writer.Event) error {
			if s.Target == vss.RestoreTargetOriginal {
				return nil
			}
			return e.Components.Components()[0].SetRestoreTarget(s.Target)
		}
		d.on[writer.EventPostRestore] = func(e *writer.Event) error {
			told = len(e.Components.Components()[0].AlternateLocationMappings())
			return nil
		}
		w.writers = []*docWriter{d}
		saved := map[string]string{} // by name
		for i, set := range sets {
			for range 1 + r.IntN(3) {
				name := fmt.Sprintf("set%d/f%d", i, r.IntN(5))
				if set.Recursive && r.IntN(2) == 0 {
					name = fmt.Sprintf("set%d/below/f%d", i, r.IntN(5))
				}
				saved[name] = fmt.Sprint("saved ", name)
				w.write(name, saved[name])
			}
		}
		res := w.backup(requester.Request{Selectors: requester.Selectors{Writers: []string{"app"}}})
		w.wipe()
		s.Files = clutter(w, r.IntN, saved, mappings)
		before := disk(t, w.dir)
		again := d.again()
		w.writers = []*docWriter{again}
		back, err := requester.Restore(t.Context(), w.open, w.repo, res.Record, requester.RestoreRequest{}, nil)
		if err != nil && back == nil {
			t.Fatalf("run %d: %v", run, err)
		}
		way := s.Way()
		ways[way]++
		want := maps.Clone(before)
		used := map[string]bool{}
		for name, content := range saved {
			switch way {
			case model.ToOriginal:
				want[name] = content
			case model.ToAlternate:
				set, rest, _ := strings.Cut(name, "/")
				want["alt"+strings.TrimPrefix(set, "set")+"/"+rest] = content
				used[set] = true
			}
		}
		if got := disk(t, w.dir); !maps.Equal(got, want) {
			t.Fatalf("run %d: %v, target %v, mappings %d of %d, outcome %v (%s): the disk has %q, want %q (%s), before %q",
				run, s.Method, s.Target, len(mappings), len(sets), back.Outcome, leftOut(back.LeftOut), got, want, way, before)
		}
		if (back.Outcome == requester.Complete) != (way != model.Nowhere) {
			t.Fatalf("run %d: outcome %v of a restore %s: %s", run, back.Outcome, way, leftOut(back.LeftOut))
		}
		if told != len(used) && way != model.Nowhere {
			t.Fatalf("run %d: the writer was told of %d mappings, %d were used (R-RES-19)", run, told, len(used))
		}
	}
	t.Logf("%d restores: %v", n, ways)
}

// clutter puts things where the files would go, and tells the model of them.
func clutter(w *world, pick func(int) int, saved map[string]string, mappings []metadata.AlternateLocationMapping) (out []model.Restored) {
	full := pick(3) // how much is there
	spot := func(name string) model.Spot {
		switch n := pick(12); {
		case n < 2*full:
			w.write(name, "in the way")
			return model.Spot{There: true, Free: true}
		case n == 11:
			w.mkdir(name)
			return model.Spot{There: true}
		}
		return model.Spot{Free: true}
	}
	for _, name := range slices.Sorted(maps.Keys(saved)) {
		f := model.Restored{Original: spot(name)}
		set, rest, _ := strings.Cut(name, "/")
		number := strings.TrimPrefix(set, "set")
		if slices.ContainsFunc(mappings, func(m metadata.AlternateLocationMapping) bool { return m.Path == w.path(set) }) {
			at := spot("alt" + number + "/" + rest)
			f.Mapped = &at
		}
		out = append(out, f)
	}
	return out
}

// disk gives the files below a directory, by name.
func disk(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, line := range tree(t, dir) {
		if strings.HasPrefix(line, "-") {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			out[name] = string(data)
		}
	}
	return out
}
