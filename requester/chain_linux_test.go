package requester_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// storeWorld is a writer of one database with all kinds of file sets, and what it saw
// of restores.
type storeWorld struct {
	*world
	doc *docWriter

	mu     sync.Mutex
	events []string            // "PreRestore db more"
	states []map[string]string // the files as they were at each PostRestore
}

// newStore makes a writer with a component in each of the directories: data that
// only full backups save, files that every backup saves, and logs.
func newStore(t *testing.T, dirs ...string) *storeWorld {
	t.Helper()
	s := &storeWorld{world: newWorld(t)}
	const dataMask = vss.DefaultFileSpecBackupType &^ (vss.IncrementalBackupRequired | vss.DifferentialBackupRequired)
	s.doc = newDocWriter("store", func(m *metadata.WriterMetadata) []error {
		errs := []error{m.SetBackupSchema(vss.SchemaCopy | vss.SchemaIncremental | vss.SchemaDifferential | vss.SchemaLog)}
		for _, dir := range dirs {
			errs = append(errs, m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeDatabase, Name: dir, Selectable: true}),
				m.AddDatabaseFiles("", dir, s.path(dir), "*.dat", dataMask),
				m.AddDatabaseFiles("", dir, s.path(dir), "*.new", vss.DefaultFileSpecBackupType),
				m.AddDatabaseLogFiles("", dir, s.path(dir), "*.log", vss.DefaultFileSpecBackupType))
		}
		return errs
	})
	s.start()
	return s
}

// start starts the writer, anew if it runs.
func (s *storeWorld) start() {
	s.doc = s.doc.again()
	for _, k := range []writer.EventKind{writer.EventPreRestore, writer.EventPostRestore} {
		s.doc.on[k] = func(e *writer.Event) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, c := range e.Components.Components() {
				if chosen, _ := c.SelectedForRestore(); !chosen {
					continue
				}
				line := fmt.Sprintf("%s %s", k, c.FullPath())
				if c.AdditionalRestores() {
					line += " more"
				}
				s.events = append(s.events, line)
			}
			if k == writer.EventPostRestore {
				s.states = append(s.states, s.state())
			}
			return nil
		}
	}
	s.writers = []*docWriter{s.doc}
	s.events, s.states = nil, nil
}

// after has the writer do something in its nth PostRestore.
func (s *storeWorld) after(n int, do func()) {
	told := s.doc.on[writer.EventPostRestore]
	s.doc.on[writer.EventPostRestore] = func(e *writer.Event) error {
		if n--; n == 0 {
			do()
		}
		return told(e)
	}
}

// set makes the files below the data what is given, and removes all others.
func (s *storeWorld) set(files map[string]string) {
	s.t.Helper()
	for name := range s.state() {
		if _, ok := files[name]; !ok {
			if err := os.Remove(s.path(name)); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	for name, content := range files {
		if have, err := os.ReadFile(s.path(name)); err != nil || string(have) != content {
			s.write(name, content)
		}
	}
}

func (s *storeWorld) state() map[string]string {
	out := map[string]string{}
	filepath.WalkDir(s.dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == ".sombra" {
			return filepath.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			data, _ := os.ReadFile(p)
			rel, _ := filepath.Rel(s.dir, p)
			out[rel] = string(data)
		}
		return nil
	})
	return out
}

// save makes a backup of the writer's components and of the data beside them.
func (s *storeWorld) save(typ vss.BackupType, files map[string]string) *repository.Record {
	s.t.Helper()
	s.set(files)
	res := s.backup(requester.Request{Type: typ, Paths: []string{s.dir}})
	if res.Outcome != requester.Complete {
		s.t.Fatalf("%s: %v %+v %s", typ.Word(), res.Outcome, res.Failures, leftOut(res.LeftOut))
	}
	return res.Record
}

// back restores on an empty disk with the writer started anew.
func (s *storeWorld) back(rec *repository.Record, r requester.RestoreRequest) *requester.RestoreResult {
	s.t.Helper()
	s.wipe()
	s.start()
	return s.restore(rec, r)
}

func (s *storeWorld) expect(what string, want map[string]string) {
	s.t.Helper()
	if got := s.state(); !maps.Equal(got, want) {
		s.t.Errorf("%s: files %q, want %q", what, got, want)
	}
}

// with adds to a map of files.
func with(files map[string]string, more ...string) map[string]string {
	out := maps.Clone(files)
	for i := 0; i < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

// history is a store with one component and six backups: a full, an incremental,
// two logs, a differential and a copy, and what each restores.
type history struct {
	*storeWorld
	full, inc, log1, log2, diff, copied *repository.Record
	want                                map[*repository.Record]map[string]string
}

func newHistory(t *testing.T) *history {
	h := &history{storeWorld: newStore(t, "db"), want: map[*repository.Record]map[string]string{}}
	f := map[string]string{"db/a.dat": "data", "db/x.new": "x1", "db/gone.new": "g", "db/1.log": "log 1", "plain": "p1"}
	h.full = h.save(vss.BackupTypeFull, f)
	h.want[h.full] = f
	// The writer lets go of the log that is saved, and of a file.
	h.inc = h.save(vss.BackupTypeIncremental, map[string]string{"db/a.dat": "data", "db/x.new": "x2", "db/2.log": "log 2", "plain": "p2"})
	h.want[h.inc] = map[string]string{"db/a.dat": "data", "db/x.new": "x2", "db/1.log": "log 1", "db/2.log": "log 2", "plain": "p2"}
	h.log1 = h.save(vss.BackupTypeLog, map[string]string{"db/a.dat": "data", "db/x.new": "x3", "db/3.log": "log 3", "plain": "p3"})
	h.want[h.log1] = with(h.want[h.inc], "db/3.log", "log 3", "plain", "p3")
	h.log2 = h.save(vss.BackupTypeLog, map[string]string{"db/a.dat": "data", "db/x.new": "x4", "db/4.log": "log 4", "plain": "p4"})
	h.want[h.log2] = with(h.want[h.log1], "db/4.log", "log 4", "plain", "p4")
	h.diff = h.save(vss.BackupTypeDifferential, map[string]string{"db/a.dat": "data", "db/x.new": "x5", "db/5.log": "log 5", "plain": "p5"})
	h.want[h.diff] = map[string]string{"db/a.dat": "data", "db/x.new": "x5", "db/1.log": "log 1", "db/5.log": "log 5", "plain": "p5"}
	c := map[string]string{"db/a.dat": "data 6", "db/x.new": "x6", "plain": "p6"}
	h.copied = h.save(vss.BackupTypeCopy, c)
	h.want[h.copied] = c
	return h
}

func TestChainsRestoreEachPointR_TYPE_20(t *testing.T) {
	h := newHistory(t)
	pair := func(more string) []string { return []string{"PreRestore db" + more, "PostRestore db" + more} }
	twice, thrice := append(pair(" more"), pair("")...), append(append(pair(" more"), pair(" more")...), pair("")...)
	for _, tt := range []struct {
		name   string
		rec    *repository.Record
		events []string
		links  []*repository.Record
	}{
		{"full (R-TYPE-2)", h.full, pair(""), nil},
		{"incremental (R-TYPE-4)", h.inc, twice, []*repository.Record{h.full, h.inc}},
		{"log (R-TYPE-6)", h.log1, thrice, []*repository.Record{h.full, h.inc, h.log1}},
		{"log of a log", h.log2, append(pair(" more"), thrice...), []*repository.Record{h.full, h.inc, h.log1, h.log2}},
		{"differential (R-TYPE-5)", h.diff, twice, []*repository.Record{h.full, h.diff}},
		{"copy (R-TYPE-3)", h.copied, pair(""), nil},
	} {
		for _, sequential := range []bool{false, true} {
			name := fmt.Sprintf("%s, sequential %v", tt.name, sequential)
			back := h.back(tt.rec, requester.RestoreRequest{Sequential: sequential})
			if back.Outcome != requester.Complete || len(back.Components) != 1 || !back.Components[0].Succeeded ||
				back.Components[0].Status != "ALL" && back.Components[0].Status != vss.FileRestoreStatusAll.String() {
				t.Errorf("%s: outcome %v %+v %s", name, back.Outcome, back, leftOut(back.LeftOut))
			}
			h.expect(name, h.want[tt.rec])
			if !slices.Equal(h.events, tt.events) {
				t.Errorf("%s: the writer saw %q, want %q", name, h.events, tt.events)
			}
			var ids []string
			for i, l := range back.Chain {
				ids = append(ids, l.Record)
				if i > 0 && l.Components[0].InPlace == sequential {
					t.Errorf("%s: link %d: in place %v", name, i, l.Components[0].InPlace)
				}
				if l.Unclaimed != (i == len(back.Chain)-1) {
					t.Errorf("%s: link %d restores data of no writer: %v; it is restored once, from the record chosen", name, i, l.Unclaimed)
				}
			}
			var want []string
			for _, l := range tt.links {
				want = append(want, l.ID.String())
			}
			if !slices.Equal(ids, want) {
				t.Errorf("%s: links %q, want %q", name, ids, want)
			}
			for i, rec := range tt.links { // what a writer sees in each PostRestore
				want := maps.Clone(h.want[rec])
				if !sequential {
					want = maps.Clone(h.want[tt.rec])
				}
				delete(want, "plain")
				have := maps.Clone(h.states[i])
				delete(have, "plain")
				if !maps.Equal(have, want) {
					t.Errorf("%s: PostRestore %d saw %q, want %q", name, i, have, want)
				}
			}
		}
	}
}

// What a writer says that goes on (SetWriterFailure with success) is a warning, once.
func TestNoteOfAWriterThatGoesOnIsAWarning(t *testing.T) {
	s := newStore(t, "db")
	s.doc.on[writer.EventPrepareForBackup] = func(e *writer.Event) error {
		e.SetWriterFailure(vss.OK, 0, "it is backed up without a connection")
		return nil
	}
	s.set(map[string]string{"db/a.dat": "data"})
	res := s.backup(requester.Request{Type: vss.BackupTypeFull, Paths: []string{s.dir}})
	said := slices.DeleteFunc(slices.Clone(res.Warnings), func(w string) bool { return !strings.Contains(w, "without a connection") })
	if res.Outcome != requester.Complete || len(said) != 1 {
		t.Errorf("outcome %v, warnings %q", res.Outcome, res.Warnings)
	}
}

// The same in a restore, of each of its events and in each operation of a chain.
func TestNoteOfAWriterThatGoesOnIsAWarningOfARestore(t *testing.T) {
	s := newStore(t, "db")
	files := map[string]string{"db/a.dat": "data", "db/1.log": "l1"}
	s.save(vss.BackupTypeFull, files)
	rec := s.save(vss.BackupTypeIncremental, with(files, "db/2.log", "l2"))
	s.wipe()
	s.start()
	for kind, text := range map[writer.EventKind]string{writer.EventPreRestore: "it did not run", writer.EventPostRestore: "it is left stopped"} {
		before := s.doc.on[kind]
		s.doc.on[kind] = func(e *writer.Event) error {
			e.SetWriterFailure(vss.OK, 0, text)
			if before == nil {
				return nil
			}
			return before(e)
		}
	}
	back := s.restore(rec, requester.RestoreRequest{Sequential: true})
	said := slices.Clone(back.Warnings)
	slices.Sort(said)
	if want := []string{"store: it did not run", "store: it is left stopped"}; back.Outcome != requester.Complete || len(back.Chain) != 2 || !slices.Equal(said, want) {
		t.Errorf("outcome %v, %d operations, warnings %q; want %q", back.Outcome, len(back.Chain), said, want)
	}
}

// A directory that only a later backup of the chain has gets the attributes it had
// there, in place since the first operation or not.
func TestDirectoryOfALaterLinkHasItsAttributes(t *testing.T) {
	s := newStore(t, "db")
	s.doc = newDocWriter("store", func(m *metadata.WriterMetadata) []error {
		return []error{m.SetBackupSchema(vss.SchemaCopy | vss.SchemaIncremental | vss.SchemaDifferential | vss.SchemaLog),
			m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeDatabase, Name: "db", Selectable: true}),
			m.AddDatabaseFiles("", "db", s.path("db"), "*.dat", vss.DefaultFileSpecBackupType),
			m.AddDatabaseLogFiles("", "db", s.path("logs/of db"), "*.log", vss.DefaultFileSpecBackupType)}
	})
	s.start()
	files := map[string]string{"db/a.dat": "data"}
	s.set(files)
	s.backup(requester.Request{Type: vss.BackupTypeFull, Paths: []string{s.path("db")}})
	s.set(with(files, "logs/of db/1.log", "log 1"))
	if err := errors.Join(os.Chmod(s.path("logs/of db"), 0o751), os.Chmod(s.path("logs"), 0o715)); err != nil {
		t.Fatal(err)
	}
	res := s.backup(requester.Request{Type: vss.BackupTypeLog, Paths: []string{s.path("db")}})
	for _, sequential := range []bool{false, true} {
		back := s.back(res.Record, requester.RestoreRequest{Sequential: sequential})
		if back.Outcome != requester.Complete || len(back.Chain) != 2 {
			t.Fatalf("outcome %v, chain %+v, %s", back.Outcome, back.Chain, leftOut(back.LeftOut))
		}
		for name, want := range map[string]os.FileMode{"logs/of db": 0o751, "logs": 0o715} {
			if st, err := os.Stat(s.path(name)); err != nil || st.Mode().Perm() != want {
				t.Errorf("sequential %v: %s: %v, %v, want %v", sequential, name, st.Mode(), err, want)
			}
		}
	}
}

func TestChainWithAHoleTouchesNothing(t *testing.T) {
	h := newHistory(t)
	if _, err := h.repo.Forget(t.Context(), []repository.ID{h.inc.ID}); err != nil {
		t.Fatal(err)
	}
	h.wipe()
	h.start()
	res, err := requester.Restore(t.Context(), h.open, h.repo, h.log2, requester.RestoreRequest{}, nil)
	var hole *requester.ChainError
	if !errors.As(err, &hole) || res.Outcome != requester.Failed {
		t.Fatalf("outcome %v, %v", res.Outcome, err)
	}
	for _, part := range []string{h.inc.ID.Short(), h.log1.ID.Short(), "is not in the repository", "can be restored is " + h.full.ID.Short(), `store:\db`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is not one line", err)
	}
	h.expect("after a refusal", map[string]string{})
	if len(h.events) > 0 {
		t.Errorf("the writer saw %q", h.events)
	}
	if back := h.back(h.diff, requester.RestoreRequest{}); back.Outcome != requester.Complete {
		t.Errorf("another chain: %v", back.Outcome)
	}
	h.expect("another chain", h.want[h.diff])
	h.wipe()
	if back := h.restore(h.log2, requester.RestoreRequest{NoWriters: true}); back.Outcome != requester.Complete {
		t.Errorf("without writers: %v", back.Outcome)
	}
	h.expect("without writers", map[string]string{"db/4.log": "log 4", "plain": "p4"})
}

func TestDryRunShowsTheChainAndTouchesNothing(t *testing.T) {
	h := newHistory(t)
	back := h.back(h.log1, requester.RestoreRequest{DryRun: true})
	if back.Outcome != requester.Complete || len(back.Chain) != 3 || len(h.events) > 0 {
		t.Fatalf("outcome %v, chain %+v, events %q", back.Outcome, back.Chain, h.events)
	}
	h.expect("after a dry run", map[string]string{})
	var files []int64
	for _, l := range back.Chain {
		files = append(files, l.Components[0].Files)
	}
	if !slices.Equal(files, []int64{5, 0, 0}) || back.Totals.Files != 6 {
		t.Errorf("files %v, totals %+v; want five in the first link, and one of no writer", files, back.Totals)
	}
	back = h.back(h.log1, requester.RestoreRequest{DryRun: true, Sequential: true})
	files = nil
	for _, l := range back.Chain {
		files = append(files, l.Components[0].Files)
	}
	if !slices.Equal(files, []int64{4, 2, 1}) || back.Chain[1].Components[0].Removed != 1 {
		t.Errorf("sequential: files %v, %+v", files, back.Chain)
	}
}

func TestFailedLinkStopsTheLaterOnes(t *testing.T) {
	s := newStore(t, "one", "two")
	files := map[string]string{"one/a.dat": "1", "one/1.log": "l1", "two/a.dat": "2", "two/1.log": "l2"}
	s.save(vss.BackupTypeFull, files)
	inc := s.save(vss.BackupTypeIncremental, with(files, "one/2.log", "m1", "two/2.log", "m2"))
	rec := s.save(vss.BackupTypeIncremental, with(files, "one/3.log", "n1", "two/3.log", "n2"))
	s.wipe()
	s.start()
	s.after(1, func() { s.mkdir("one/2.log/in the way") }) // blocks a file of the second link
	back := s.restore(rec, requester.RestoreRequest{Sequential: true})
	if back.Outcome != requester.Incomplete || len(back.Components) != 2 {
		t.Fatalf("outcome %v, %+v", back.Outcome, back.Components)
	}
	one, two := back.Components[0], back.Components[1]
	if one.Succeeded || one.Status != vss.FileRestoreStatusFailed.String() || !strings.Contains(one.Error, inc.ID.Short()) {
		t.Errorf("one: %+v; it must say that it is half restored, and name record %s", one, inc.ID.Short())
	}
	if !two.Succeeded || two.Status != vss.FileRestoreStatusAll.String() {
		t.Errorf("two: %+v", two)
	}
	if c := back.Chain[2].Components[0]; c.Status != vss.FileRestoreStatusNone.String() || c.Error == "" {
		t.Errorf("the third link of one: %+v", c)
	}
	last := s.events[len(s.events)-2:]
	if !slices.Equal(last, []string{"PreRestore two", "PostRestore two"}) {
		t.Errorf("the last operation was %q", last)
	}
	if _, err := os.Lstat(s.path("one/3.log")); err == nil {
		t.Error("a link after the failed one was restored")
	}
}

func TestStoppedChainCanBeRunAgain(t *testing.T) {
	for _, sequential := range []bool{false, true} {
		h := newHistory(t)
		h.wipe()
		h.start()
		ctx, cancel := context.WithCancel(t.Context())
		h.after(2, cancel)
		back, err := requester.Restore(ctx, h.open, h.repo, h.log2, requester.RestoreRequest{Sequential: sequential}, nil)
		if back.Outcome != requester.Interrupted || !errors.Is(err, context.Canceled) {
			t.Fatalf("outcome %v, %v", back.Outcome, err)
		}
		h.start()
		if back := h.restore(h.log2, requester.RestoreRequest{Sequential: sequential}); back.Outcome != requester.Complete || back.Totals.Unchanged == 0 {
			t.Errorf("sequential %v: outcome %v, %+v: what is in place is not written again", sequential, back.Outcome, back.Totals)
		}
		h.expect("after it was run again", h.want[h.log2])
	}
}

// TestChainTakesOneBranchR_RES_2: what is decided of a set holds for all its
// links, and what the restore has put itself is no reason to decide otherwise.
func TestChainTakesOneBranchR_RES_2(t *testing.T) {
	for _, tt := range []struct {
		name, there string
		method      vss.RestoreMethod
		alternate   bool
	}{
		{"nothing is there", "", vss.RestoreMethodIfNotThere, false},
		{"a file of the first link is there", "db/a.dat", vss.RestoreMethodIfNotThere, true},
		{"a file of the second link is there", "db/2.log", vss.RestoreMethodIfNotThere, true},
		{"a directory is in the way of the second link", "db/2.log/x", vss.RestoreMethodIfCanReplace, true},
		{"always elsewhere", "", vss.RestoreMethodToAlternateLocation, true},
	} {
		for _, sequential := range []bool{false, true} {
			name := fmt.Sprintf("%s, sequential %v", tt.name, sequential)
			s := newStore(t, "db")
			build := s.doc.build
			s.doc.build = func(m *metadata.WriterMetadata) []error {
				errs := build(m)
				for _, pattern := range []string{"*.dat", "*.new", "*.log"} {
					errs = append(errs, m.AddAlternateLocationMapping(metadata.AlternateLocationMapping{
						FileSpec: vss.FileSpec{Path: s.path("db"), Pattern: pattern}, AlternatePath: s.path("alt")}))
				}
				return errs
			}
			s.doc.method.Method = tt.method
			s.start()
			files := map[string]string{"db/a.dat": "a", "db/1.log": "1", "db/gone.new": "g", "db/both.new": "1st"}
			s.save(vss.BackupTypeFull, files)
			rec := s.save(vss.BackupTypeIncremental, map[string]string{"db/a.dat": "a", "db/2.log": "2", "db/x.new": "x", "db/both.new": "2nd"})
			s.wipe()
			s.start()
			want := map[string]string{}
			if tt.there != "" {
				s.write(tt.there, "somebody else's")
				want[tt.there] = "somebody else's"
			}
			back := s.restore(rec, requester.RestoreRequest{Sequential: sequential})
			if back.Outcome != requester.Complete {
				t.Errorf("%s: %v %+v %s", name, back.Outcome, back.Components, leftOut(back.LeftOut))
			}
			dir := "db/"
			if tt.alternate {
				dir = "alt/"
			}
			s.expect(name, with(want, dir+"a.dat", "a", dir+"1.log", "1", dir+"2.log", "2", dir+"x.new", "x", dir+"both.new", "2nd"))
		}
	}
}

// TestChainIsStagedOnceR_RES_10: what waits for the host's next start is staged in
// its final state, by the first operation, whichever way the chain is restored. The
// result tells of it, and before the start nothing has changed.
func TestChainIsStagedOnceR_RES_10(t *testing.T) {
	for _, method := range []vss.RestoreMethod{vss.RestoreMethodAtReboot, vss.RestoreMethodAtRebootIfCannotReplace} {
		for _, sequential := range []bool{false, true} {
			name := fmt.Sprintf("%s, sequential %v", method.Word(), sequential)
			s := newStore(t, "db")
			s.doc.method.Method = method
			s.start()
			s.save(vss.BackupTypeFull, map[string]string{"db/a.dat": "a", "db/1.log": "1", "db/x.new": "full", "db/gone.new": "g"})
			s.save(vss.BackupTypeIncremental, map[string]string{"db/a.dat": "a", "db/2.log": "2", "db/x.new": "first"})
			last := s.save(vss.BackupTypeIncremental, map[string]string{"db/a.dat": "a", "db/3.log": "3", "db/x.new": "second"})
			now := map[string]string{"db/a.dat": "damaged", "db/x.new": "damaged"}
			s.wipe()
			s.set(now)
			s.start()
			host := &starts{pending: map[string]string{}, blocked: method == vss.RestoreMethodAtRebootIfCannotReplace}
			back, err := s.restoreThrough(s.doc, &requester.Result{Record: last}, requester.RestoreRequest{Sequential: sequential},
				func(t session.Target) session.Target { host.Target = t; return host })
			if err != nil || back.Outcome != requester.Complete || len(back.Components) != 1 || len(back.Chain) != 3 {
				t.Fatalf("%s: %v, %v, %+v %s", name, back.Outcome, err, back.Components, leftOut(back.LeftOut))
			}
			if c := back.Components[0]; c.Branch != "reboot" || c.PendingReboot != "set 1" || len(back.RebootFor) != 1 {
				t.Errorf("%s: the result tells branch %q, pending %q, restart for %q", name, c.Branch, c.PendingReboot, back.RebootFor)
			}
			want := []string{"db/1.log", "db/2.log", "db/3.log", "db/a.dat", "db/x.new"}
			var staged []string
			for _, final := range host.pending {
				rel, _ := filepath.Rel(s.dir, "/"+final)
				staged = append(staged, rel)
			}
			if slices.Sort(staged); !slices.Equal(staged, want) || !slices.Equal(slices.Sorted(slices.Values(host.names)), slices.Sorted(maps.Keys(host.finals()))) {
				t.Errorf("%s: pending %q, staged %q", name, staged, host.names)
			}
			for n, final := range now {
				if got := s.read(n); got != final {
					t.Errorf("%s: %s is %q before the start", name, n, got)
				}
			}
			host.start(t)
			s.expect(name, map[string]string{"db/a.dat": "a", "db/1.log": "1", "db/2.log": "2", "db/3.log": "3", "db/x.new": "second"})
		}
	}
}

// TestLaterLinkDoesNotGoElsewhereR_RES_2: what keeps a later operation from going on
// where the first one began does not send it to the mapped place: half of the set
// would be here and half there.
func TestLaterLinkDoesNotGoElsewhereR_RES_2(t *testing.T) {
	s := newStore(t, "db")
	build := s.doc.build
	s.doc.build = func(m *metadata.WriterMetadata) []error {
		errs := build(m)
		for _, pattern := range []string{"*.dat", "*.new", "*.log"} {
			errs = append(errs, m.AddAlternateLocationMapping(metadata.AlternateLocationMapping{
				FileSpec: vss.FileSpec{Path: s.path("db"), Pattern: pattern}, AlternatePath: s.path("alt")}))
		}
		return errs
	}
	s.start()
	files := map[string]string{"db/a.dat": "a", "db/1.log": "1"}
	s.save(vss.BackupTypeFull, files)
	rec := s.save(vss.BackupTypeIncremental, with(files, "db/2.log", "2"))
	s.wipe()
	s.start()
	s.after(1, func() { s.mkdir("db/2.log/in the way") })
	back := s.restore(rec, requester.RestoreRequest{Sequential: true})
	if back.Outcome != requester.Incomplete || back.Components[0].Status != vss.FileRestoreStatusFailed.String() || !strings.Contains(back.Components[0].Error, "restored it by branch original") {
		t.Errorf("outcome %v, %+v", back.Outcome, back.Components)
	}
	s.expect("the first operation", files)
}

// TestWhatChangedBetweenOperationsIsRestoredAgain: a file that is as the first
// operation left it is not read again, and one that somebody changed is.
func TestWhatChangedBetweenOperationsIsRestoredAgain(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 8<<10)
	s := newStore(t, "one")
	files := map[string]string{"one/a.new": big, "one/b.new": big + "b", "one/c.new": big + "c", "one/1.log": "l1"}
	s.save(vss.BackupTypeFull, files)
	s.save(vss.BackupTypeIncremental, with(files, "one/2.log", "m1"))
	rec := s.save(vss.BackupTypeIncremental, with(files, "one/3.log", "n1"))
	s.wipe()
	s.start()
	s.after(1, func() {
		name := s.path("one/a.new")
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		s.write("one/a.new", strings.Repeat("x", len(big)))
		if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		// Another file of the same size and time takes the name of the second one.
		other, name := s.path("one/other"), s.path("one/b.new")
		if err := errors.Join(os.WriteFile(other, []byte(strings.Repeat("y", len(big)+1)), 0o644), os.Chtimes(other, info.ModTime(), info.ModTime())); err != nil {
			t.Fatal(err)
		}
		if was, err := os.Stat(name); err != nil || os.Chtimes(other, was.ModTime(), was.ModTime()) != nil || os.Rename(other, name) != nil {
			t.Fatal(err)
		}
	})
	back := s.restore(rec, requester.RestoreRequest{})
	if back.Outcome != requester.Complete || !back.Chain[1].Components[0].InPlace {
		t.Fatalf("outcome %v, %+v", back.Outcome, back.Chain)
	}
	for _, name := range []string{"one/a.new", "one/b.new", "one/c.new"} {
		got, err := os.ReadFile(s.path(name))
		if err != nil || string(got) != files[name] {
			t.Errorf("%s is %.20q of %d bytes, %v", name, got, len(got), err)
		}
	}
}
