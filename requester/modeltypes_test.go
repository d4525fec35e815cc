package requester

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester/internal/model"
	"github.com/sombra-backup/sombra/vss"
)

var allTypes = []vss.BackupType{vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeDifferential, vss.BackupTypeLog, vss.BackupTypeCopy}

// TestTypesAgainstModel compares what a type comes to, and the base it builds
// upon, with the model for random writers and histories: R-TYPE-2 to R-TYPE-10,
// D-19, D-22, D-30.
func TestTypesAgainstModel(t *testing.T) {
	r, runs := seeded(t, 50_000)
	c := model.ID{Writer: "w", Component: "c"}
	for run := range runs {
		m := model.Writer{Name: "w", Schema: vss.BackupSchema(r.IntN(0x80)), Components: []model.Component{{Path: "c", Selectable: true}}}
		w := &Writer{Name: "w", Schema: m.Schema}
		var h model.History
		var counts []vss.BackupType
		for range 1 + r.IntN(8) {
			asked, strict := pick(r, allTypes...), r.IntN(4) == 0
			want := h.Decide(&m, "c", asked, strict)
			got := DecideType(asked, w, told(h, counts), strict)
			base := -1
			if got.Base != nil {
				base = int(got.Base.Time.Unix())
			}
			if (got.LeftOut != "") != want.Out || !want.Out && (got.Type != want.Type || base != want.Base || got.Asked != asked) {
				t.Fatalf("run %d, schema %v, history %+v: %v comes to %+v, want %+v", run, m.Schema, h, asked, got, want)
			}
			if !want.Out && (want.Type != asked || want.Base < 0 && asked != vss.BackupTypeFull && asked != vss.BackupTypeCopy) && len(got.Notes) == 0 {
				t.Fatalf("run %d: %v came to %v and nobody says so", run, asked, got.Type)
			}
			want.Failed = r.IntN(6) == 0
			h = append(h, &model.Record{Parts: map[model.ID]model.Part{c: want}, Gone: r.IntN(10) == 0})
			counts = append(counts, got.Counts)
		}
	}
}

// told is what records tell of a component, from what each part counts as.
func told(h model.History, counts []vss.BackupType) (out ComponentHistory) {
	c := model.ID{Writer: "w", Component: "c"}
	newest := func(types ...vss.BackupType) *Base {
		for i := len(h) - 1; i >= 0; i-- {
			if p := h[i].Parts[c]; h[i].Gone || p.Out || p.Failed || !slices.Contains(types, counts[i]) {
				continue
			}
			if h.Chain(i, c) == nil {
				break // the newest counts, or none
			}
			return &Base{Time: time.Unix(int64(i), 0)}
		}
		return nil
	}
	out.Full = newest(vss.BackupTypeFull)
	out.Incremental = newest(vss.BackupTypeFull, vss.BackupTypeIncremental)
	out.Log = newest(vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeLog)
	for i := range h {
		if h[i].Gone || h[i].Parts[c].Out || h[i].Parts[c].Failed {
			continue
		}
		if counts[i] == vss.BackupTypeFull {
			out.Incrementals, out.Differentials = false, false
		}
		switch h[i].Parts[c].Type {
		case vss.BackupTypeIncremental:
			out.Incrementals = true
		case vss.BackupTypeDifferential:
			out.Differentials = true
		}
	}
	return out
}

// TestChainsAgainstModel makes chains of backups of random types, while files
// come, go and change and records are forgotten, and compares each record with
// the model: R-SET-25 to R-SET-30, R-TYPE-2 to R-TYPE-10, and that records are
// complete.
func TestChainsAgainstModel(t *testing.T) {
	r, runs := seeded(t, 1000)
	counts := map[string]int{}
	for run := range runs {
		w := newModelWorld()
		w.fill(r, 1+r.IntN(3))
		w.writer(t, r, "w0", []string{"/a", "/a/b", "/a/b/c"}, true)
		w.writer(t, r, "w1", []string{"/d", "/d/e"}, true)
		for i := range w.host.writers {
			w.host.writers[i].Discovered = true // what has no files takes no part unasked
		}
		w.spill(r)
		w.put("/plain/file", "plain")
		w.host.after = func(call string) {
			if call == "PrepareForBackup" {
				w.tell(t)
			}
		}
		repo := memRepo(t)
		var h model.History
		var made []repository.ID
		explicit := w.explicit([]string{"/a", "/d"})
		if len(chosen(explicit)) == 0 {
			continue
		}
		for step := range 2 + r.IntN(5) {
			ask := model.Ask{Type: pick(r, allTypes...), Strict: r.IntN(4) == 0, Explicit: explicit, Paths: []string{"/plain"}}
			if step == 0 && r.IntN(4) > 0 {
				ask.Type = vss.BackupTypeFull
			}
			w.host.later += time.Hour
			ask.NoPartial = r.IntN(12) == 0
			w.list(r)
			want := h.Backup(w.writers, model.Host{Shadow: w.tree()}, ask)
			res, err := Backup(t.Context(), w.host.open, repo, Request{Type: ask.Type, StrictType: ask.Strict, Paths: ask.Paths, NoPartial: ask.NoPartial,
				Selectors: Selectors{Components: chosen(explicit)}}, nil)
			if err != nil {
				t.Fatalf("run %d, step %d: %v\n%s", run, step, err, w.say())
			}
			made = append(made, res.Record.ID)
			ok := t.Run("", func(t *testing.T) {
				compareRecord(t, repo, res.Record, want)
				compareParts(t, repo, res.Record, want, made)
			})
			if !ok {
				for i, rec := range h {
					t.Logf("record %d: %+v", i, rec.Parts)
				}
				t.Fatalf("run %d, step %d: %v, strict %v\n%s", run, step, ask.Type, ask.Strict, w.say())
			}
			for _, p := range want.Parts {
				counts[fmt.Sprint(p.Asked.Word(), " as ", p.Type.Word())]++
			}
			for _, e := range want.Files {
				switch {
				case e.Known != nil:
					counts["files held by ranges alone"]++
				case e.Now != "":
					counts["files patched"]++
				}
			}
			w.change(r)
			if gone := r.IntN(len(h)); r.IntN(6) == 0 && !h[gone].Gone {
				h[gone].Gone = true
				if _, err := repo.Forget(t.Context(), []repository.ID{made[gone]}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("%d chains: %v", runs, counts)
}

// list has the writers list some of their files: all of a file set as modified
// after a time, or new ones, and ranges of single files.
func (w *modelWorld) list(r *rand.Rand) {
	paths := slices.Sorted(maps.Keys(w.tree()))
	for i := range w.writers {
		m := &w.writers[i]
		for j := range m.Components {
			c := &m.Components[j]
			c.Differenced, c.Partial = nil, nil
			for _, s := range c.Sets {
				if r.IntN(3) == 0 {
					c.Differenced = append(c.Differenced, model.Differenced{Spec: s.Spec, After: w.since(r)})
				}
			}
			own := fmt.Sprintf("/new/%s/%d", m.Name, j)
			if r.IntN(4) == 0 {
				w.put(own+"/"+pick(r, "n1", "n2"), fmt.Sprint("new ", r.IntN(1000)))
			}
			if r.IntN(3) == 0 {
				c.Differenced = append(c.Differenced, model.Differenced{Spec: model.Spec{Dir: own, Pattern: "n*"}, After: w.since(r)})
			}
			for _, path := range paths {
				mine := strings.HasPrefix(path, own+"/")
				for _, s := range c.Sets {
					mine = mine || s.Has(path) && s.Alternate == ""
				}
				if mine && r.IntN(6) == 0 {
					c.Partial = append(c.Partial, model.Partial{Path: path, Ranges: someRanges(r)})
				}
			}
		}
	}
}

// since is a time of a differenced set: zero, or one that some files are older than.
func (w *modelWorld) since(r *rand.Rand) int64 {
	if r.IntN(4) == 0 {
		return 0
	}
	return w.clock.Add(-time.Duration(r.IntN(40)) * time.Minute).Unix()
}

func someRanges(r *rand.Rand) (out []model.Range) {
	for range 1 + r.IntN(3) {
		out = append(out, model.Range{Offset: int64(r.IntN(30)), Length: int64(pick(r, 0, 1, 5, 1<<62))})
	}
	return out
}

// tell writes what the writers list into the document of the backup under way, as
// they do in an event.
func (w *modelWorld) tell(t *testing.T) {
	doc := w.host.bcd
	for i := range w.writers {
		m := &w.writers[i]
		part, ok := doc.Writer(w.host.writers[i].Instance)
		if !ok {
			continue
		}
		for _, explicit := range part.Components() {
			for _, full := range m.Members(explicit.FullPath()) {
				for _, c := range m.Components {
					if c.Path != full {
						continue
					}
					for _, d := range c.Differenced {
						f := metadata.DifferencedFile{FileSpec: vssSpec(d.Spec)}
						if d.After != 0 {
							f.LastModifyTime = vss.FileTimeOf(time.Unix(d.After, 0))
						}
						if err := explicit.AddDifferencedFilesByLastModifyTime(f); err != nil {
							t.Fatal(err)
						}
					}
					for _, p := range c.Partial {
						var list vss.Ranges
						for _, x := range p.Ranges {
							list = append(list, vss.Range{Offset: uint64(x.Offset), Length: uint64(x.Length)})
						}
						dir, name := path.Split(p.Path)
						if err := explicit.AddPartialFile(metadata.PartialFile{Path: path.Clean(dir), Name: name, Ranges: list.Format()}); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		}
	}
}

// chosen gives selectors for explicit components.
func chosen(explicit map[string][]string) (out []string) {
	for w, list := range explicit {
		for _, c := range list {
			out = append(out, w+":"+c)
		}
	}
	return out
}

// change lets files come, go and change.
func (w *modelWorld) change(r *rand.Rand) {
	paths := w.may()
	for path := range w.tree() {
		if strings.HasPrefix(path, "/spit") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	for _, path := range paths {
		now, there := w.tree()[path]
		switch r.IntN(6) {
		case 0:
			w.remove(path)
		case 1:
			w.put(path, fmt.Sprint("content ", r.IntN(1000), " of ", path))
		case 2:
			if there {
				w.put(path, now.Data+" and more")
			}
		}
	}
}

// compareParts compares what the record says of each component.
func compareParts(t *testing.T, repo *repository.Repository, rec *repository.Record, want *model.Record, made []repository.ID) {
	t.Helper()
	data, err := rec.Document(t.Context(), DocHistory, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var lines []HistoryLine
	if err := json.Unmarshal(data, &lines); err != nil {
		t.Fatal(err)
	}
	got := map[model.ID]model.Part{}
	for _, l := range lines {
		p := model.Part{Base: -1, Failed: !l.Succeeded}
		p.Asked, _ = vss.ParseBackupType(l.Asked)
		p.Type, _ = vss.ParseBackupType(l.Type)
		for i, id := range made {
			if id.String() == l.Base {
				p.Base = i
			}
		}
		got[model.ID{Writer: strings.TrimSuffix(l.InstanceName, " instance"), Component: vss.FullPath(l.LogicalPath, l.Name)}] = p
	}
	for c, p := range want.Parts {
		g, ok := got[c]
		if ok == p.Out {
			t.Fatalf("%+v: in the record %v, want %v", c, ok, !p.Out)
		}
		if p.Known = false; ok && g != p {
			t.Fatalf("%+v: the record has %+v, want %+v", c, g, p)
		}
		delete(got, c)
	}
	if len(got) > 0 {
		t.Fatalf("the record has %+v, which the model has not", got)
	}
}
