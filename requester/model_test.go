package requester

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester/internal/model"
	"github.com/sombra-backup/sombra/vss"
)

// The tests here compare the requester with the plain model of the rules in
// internal/model: random documents, trees and wishes go to both.

// seeded gives a random source whose seed is printed if the test fails, and how
// often to repeat what is done with it: a tenth without SOMBRA_TORTURE. A seed in
// SOMBRA_SEED is taken instead of one of the day's.
func seeded(t *testing.T, runs int) (*rand.Rand, int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SOMBRA_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatalf("SOMBRA_SEED is %q, and no number: %v", s, err)
		}
	}
	if os.Getenv("SOMBRA_TORTURE") == "" {
		runs = (runs + 9) / 10
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seen with SOMBRA_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0)), runs
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// modelWorld is a host in memory, and what the model knows of it.
type modelWorld struct {
	host    *memHost
	vol     *memVolume
	writers []model.Writer
	dirs    []string // of files that may be
	names   []string
	clock   time.Time
}

var fileNames = []string{"one", "two", "x.db", "y.log"}

func newModelWorld() *modelWorld {
	v := volume()
	v.times, v.live = map[string]time.Time{}, map[string]string{}
	return &modelWorld{host: newMemHost(v), vol: v, clock: time.Unix(1e9, 0), names: fileNames,
		dirs: []string{"/a", "/a/b", "/a/b/c", "/d", "/d/e"}}
}

// put makes a file, newer than any other. What is live is another thing than
// what the shadow copy has.
func (w *modelWorld) put(path, content string) {
	w.clock = w.clock.Add(time.Minute)
	name := strings.TrimPrefix(path, "/")
	w.vol.files[name], w.vol.times[name] = content, w.clock
	w.vol.live[name] = content + " LIVE"
}

func (w *modelWorld) remove(path string) {
	name := strings.TrimPrefix(path, "/")
	delete(w.vol.files, name)
	delete(w.vol.times, name)
	delete(w.vol.live, name)
}

// tree gives the files as the model has them.
func (w *modelWorld) tree() model.Tree {
	out := model.Tree{}
	for name, content := range w.vol.files {
		out["/"+name] = model.File{Data: content, Time: w.vol.times[name].Unix(), ID: 1} // no other file takes its place
	}
	return out
}

// fill makes some of the files that may be.
func (w *modelWorld) fill(r *rand.Rand, of int) {
	for _, path := range w.may() {
		if r.IntN(of) == 0 {
			w.put(path, fmt.Sprint("content ", r.IntN(1000), " of ", path))
		}
	}
}

// may gives the paths of all files that may be.
func (w *modelWorld) may() (out []string) {
	for _, d := range w.dirs {
		for _, n := range w.names {
			out = append(out, d+"/"+n)
		}
	}
	return out
}

// masks are those that a random file set has.
var masks = []vss.FileSpecBackupType{
	vss.DefaultFileSpecBackupType, vss.DefaultFileSpecBackupType,
	vss.DefaultFileSpecBackupType &^ vss.FullBackupRequired,
	vss.DefaultFileSpecBackupType &^ vss.IncrementalBackupRequired,
	vss.DefaultFileSpecBackupType &^ vss.DifferentialBackupRequired,
	vss.DefaultFileSpecBackupType &^ (vss.IncrementalBackupRequired | vss.DifferentialBackupRequired | vss.LogBackupRequired),
	vss.LogBackupRequired | vss.LogSnapshotRequired,
	vss.AllBackupRequired | vss.FullSnapshotRequired,
	vss.FullBackupRequired | vss.FullSnapshotRequired,
}

// writer makes a random writer of the host and its model. Without masks all file
// sets have the mask of a document that gives none.
func (w *modelWorld) writer(t *testing.T, r *rand.Rand, name string, dirs []string, withMasks bool) {
	m := model.Writer{Name: name}
	for bit := vss.BackupSchema(1); bit <= vss.SchemaTimestamped; bit <<= 1 {
		if r.IntN(4) > 0 {
			m.Schema |= bit
		}
	}
	for _, full := range []string{"a", `a\b`, `a\b\c`, "d", `d\e`} {
		if r.IntN(3) == 0 {
			continue
		}
		m.Components = append(m.Components, model.Component{Path: full, Selectable: r.IntN(2) == 0, Database: withMasks && r.IntN(3) == 0})
		c := &m.Components[len(m.Components)-1]
		for range r.IntN(4) {
			s := model.Set{Spec: someSpec(r, dirs), Mask: vss.DefaultFileSpecBackupType}
			switch {
			case !withMasks:
			case c.Database:
				s.Mask, s.Recursive, s.Log = pick(r, masks...), false, r.IntN(2) == 0
			default:
				s.Mask = pick(r, masks...)
				if r.IntN(4) == 0 {
					s.Alternate = fmt.Sprintf("/spit/%s/%s/%d", name, strings.ReplaceAll(full, `\`, "-"), len(c.Sets))
				}
			}
			if !w.overlaps(&m, s) {
				c.Sets = append(c.Sets, s)
			}
		}
	}
	if r.IntN(3) == 0 {
		m.Excludes = append(m.Excludes, someSpec(r, append(dirs, "/spit")))
	}
	w.writers = append(w.writers, m)
	w.host.writer(t, name, func(doc *metadata.WriterMetadata) []error { return document(doc, &m) })
}

func someSpec(r *rand.Rand, dirs []string) model.Spec {
	return model.Spec{Dir: pick(r, dirs...), Pattern: pick(r, "*", "*.db", "one", "?wo", "*.*"), Recursive: r.IntN(2) == 0}
}

// overlaps reports whether some file belongs to the set and to one that the
// writer has, which is forbidden (R-SET-6).
func (w *modelWorld) overlaps(m *model.Writer, s model.Set) bool {
	for _, path := range w.may() {
		for _, c := range m.Components {
			for _, o := range c.Sets {
				if o.Has(path) && s.Has(path) {
					return true
				}
			}
		}
	}
	return false
}

// document writes a model's document.
func document(doc *metadata.WriterMetadata, m *model.Writer) (errs []error) {
	errs = append(errs, doc.SetBackupSchema(m.Schema))
	for _, c := range m.Components {
		logical, name := vss.SplitFullPath(c.Path)
		info := metadata.ComponentInfo{Type: vss.ComponentTypeFileGroup, LogicalPath: logical, Name: name, Selectable: c.Selectable}
		if c.Database {
			info.Type = vss.ComponentTypeDatabase
		}
		errs = append(errs, doc.AddComponent(info))
		for _, s := range c.Sets {
			switch {
			case s.Log:
				errs = append(errs, doc.AddDatabaseLogFiles(logical, name, s.Dir, s.Pattern, s.Mask))
			case c.Database:
				errs = append(errs, doc.AddDatabaseFiles(logical, name, s.Dir, s.Pattern, s.Mask))
			default:
				errs = append(errs, doc.AddFilesToFileGroup(logical, name, vssSpec(s.Spec), s.Alternate, s.Mask))
			}
		}
	}
	for _, s := range m.Excludes {
		errs = append(errs, doc.AddExcludeFiles(vssSpec(s)))
	}
	return errs
}

func vssSpec(s model.Spec) vss.FileSpec { return spec(s.Dir, s.Pattern, s.Recursive) }

// spill makes files at the alternate paths.
func (w *modelWorld) spill(r *rand.Rand) {
	for _, s := range w.alternates() {
		for _, path := range w.may() {
			if rest, ok := strings.CutPrefix(path, s.Dir); ok && strings.HasPrefix(rest, "/") && r.IntN(2) == 0 {
				w.put(s.Alternate+rest, fmt.Sprint("spit ", r.IntN(1000), " of ", path))
			}
		}
	}
}

// explicit gives what the model adds for components with a file under the paths.
func (w *modelWorld) explicit(paths []string) map[string][]string {
	out := map[string][]string{}
	for i := range w.writers {
		m := &w.writers[i]
		out[m.Name] = m.Explicit(model.Wanted(m, w.tree(), paths)...)
	}
	return out
}

// contested reports whether two writers could read one file from alternate paths:
// what is there in the end nobody knows before.
func (w *modelWorld) contested(explicit map[string][]string) bool {
	all := model.Tree{}
	for _, path := range w.may() {
		all[path] = model.File{}
	}
	return len(w.alternates()) > 0 && model.Conflict(w.writers, all, explicit) && !model.Conflict(w.writers, w.tree(), explicit)
}

// alternates gives the file sets with alternate paths.
func (w *modelWorld) alternates() (out []model.Set) {
	for _, m := range w.writers {
		for _, c := range m.Components {
			for _, s := range c.Sets {
				if s.Alternate != "" {
					out = append(out, s)
				}
			}
		}
	}
	return out
}

// compareRecord compares what a record holds with what the model says. Of files
// that are held by ranges only those count.
func compareRecord(t *testing.T, repo *repository.Repository, rec *repository.Record, want *model.Record) {
	t.Helper()
	got, sets := readRecord(t, repo, rec)
	wanted := map[string]string{}
	for path := range want.Files {
		wanted[strings.TrimPrefix(path, "/")] = ""
	}
	if g, w := keysOf(got), keysOf(wanted); g != w {
		t.Fatalf("the record has %q, want %q", g, w)
	}
	for path, e := range want.Files {
		name := strings.TrimPrefix(path, "/")
		content := got[name]
		if e.Now != "" && len(content) == len(e.Data) {
			// Of a small chunk more may be read than the ranges.
			data := []byte(e.Data)
			for i := range data {
				if content[i] == e.Now[i] {
					data[i] = e.Now[i]
				}
			}
			e.Data = string(data)
			want.Files[path] = e
		}
		if len(content) != len(e.Data) && strings.TrimSuffix(content, " LIVE") != e.Data {
			t.Fatalf("%s holds %q, want %q", path, content, e.Data)
		}
		if e.Shadow {
			for i := range e.Data {
				if content[i] != e.Data[i] && (e.Known == nil || e.Known[i]) {
					t.Fatalf("%s holds %q, want %q, of which %v count", path, content, e.Data, e.Known)
				}
			}
		}
		set := ""
		if e.Of.Writer != "" {
			set = e.Of.Writer + ":" + e.Of.Component
		}
		if sets[name] != set {
			t.Fatalf("%s is in the set %q, want %q", path, sets[name], set)
		}
	}
}

// say describes a world for a test that fails.
func (w *modelWorld) say() string {
	var b strings.Builder
	for _, m := range w.writers {
		fmt.Fprintf(&b, "%s, schema %v, excludes %+v\n", m.Name, m.Schema, m.Excludes)
		for _, c := range m.Components {
			fmt.Fprintf(&b, "  %s selectable %v database %v\n", c.Path, c.Selectable, c.Database)
			for _, s := range c.Sets {
				fmt.Fprintf(&b, "    %+v\n", s)
			}
		}
	}
	fmt.Fprintf(&b, "files %s\n", strings.Join(slices.Sorted(maps.Keys(w.vol.files)), " "))
	return b.String()
}

// TestBackupAgainstModel compares, for random documents, trees and paths chosen,
// what is copied with what the model says: R-SEL-6 to R-SEL-11, R-SET-1 to
// R-SET-12, R-SET-25 to R-SET-27, and DESIGN 5 on what a path selects.
func TestBackupAgainstModel(t *testing.T) {
	r, runs := seeded(t, 3000)
	conflicts, files := 0, 0
	for run := range runs {
		w := newModelWorld()
		w.fill(r, 1+r.IntN(4))
		for n := range 1 + r.IntN(2) {
			w.writer(t, r, fmt.Sprint("w", n), w.dirs, r.IntN(2) == 0)
		}
		w.spill(r)
		req := Request{AsPlainFiles: r.IntN(3) == 0, Type: pick(r, vss.BackupTypeCopy, vss.BackupTypeFull)}
		for _, d := range append(w.dirs, "/spit") {
			if r.IntN(3) == 0 {
				req.Paths = append(req.Paths, d)
				w.put(d+"/anchor", "x") // chosen paths must be there
			}
		}
		if there := slices.Sorted(maps.Keys(w.tree())); r.IntN(3) == 0 && len(there) > 0 {
			req.Paths = append(req.Paths, pick(r, there...))
		}
		if len(req.Paths) == 0 {
			continue
		}
		explicit := w.explicit(req.Paths)
		if w.contested(explicit) {
			continue
		}
		repo := memRepo(t)
		res, err := Backup(t.Context(), w.host.open, repo, req, nil)
		if model.Conflict(w.writers, w.tree(), explicit) {
			conflicts++
			if err == nil {
				t.Fatalf("run %d: two writers claim a file and nobody says so\n%s", run, w.say())
			}
			continue
		}
		if err != nil {
			t.Fatalf("run %d: %v\n%s", run, err, w.say())
		}
		var h model.History
		want := h.Backup(w.writers, model.Host{Shadow: w.tree()}, model.Ask{Type: req.Type, Explicit: explicit,
			Paths: req.Paths, AsPlainFiles: req.AsPlainFiles})
		ok := t.Run("", func(t *testing.T) { compareRecord(t, repo, res.Record, want) })
		if !ok {
			t.Fatalf("run %d: %v of %v, plain %v\n%s", run, req.Type, req.Paths, req.AsPlainFiles, w.say())
		}
		files += len(want.Files)
	}
	t.Logf("%d backups with %d files, %d refused as two writers claimed one", runs, files, conflicts)
}
