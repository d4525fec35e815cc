package requester_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// TestForgetKeepsChains: what a kept record needs is kept, what it does not need
// is not, and after a prune the chain is whole.
func TestForgetKeepsChains(t *testing.T) {
	for _, tt := range []struct {
		keep func(h *history) *repository.Record
		kept func(h *history) []*repository.Record
	}{
		{func(h *history) *repository.Record { return h.full }, func(h *history) []*repository.Record { return []*repository.Record{h.full} }},
		{func(h *history) *repository.Record { return h.log2 }, func(h *history) []*repository.Record { return []*repository.Record{h.full, h.inc, h.log1, h.log2} }},
		{func(h *history) *repository.Record { return h.diff }, func(h *history) []*repository.Record { return []*repository.Record{h.full, h.diff} }},
		{func(h *history) *repository.Record { return h.copied }, func(h *history) []*repository.Record { return []*repository.Record{h.copied} }},
	} {
		h := newHistory(t)
		rec := tt.keep(h)
		records, err := h.repo.Records(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var verdicts []repository.Verdict
		for _, r := range records {
			v := repository.Verdict{Record: r}
			if r.ID == rec.ID {
				v.Keep = []string{"as the test wants"}
			}
			verdicts = append(verdicts, v)
		}
		rules := repository.Retention{Chain: requester.Chain}
		rules.KeepChains(verdicts, records)
		var gone []repository.ID
		var kept []string
		for _, v := range verdicts {
			if len(v.Keep) == 0 {
				gone = append(gone, v.Record.ID)
			} else {
				kept = append(kept, v.Record.Type)
			}
		}
		var want []string
		for _, r := range tt.kept(h) {
			want = append(want, r.Type)
		}
		if !slices.Equal(kept, want) {
			t.Errorf("%s keeps %q, want %q", rec.Type, kept, want)
		}
		if _, err := h.repo.Forget(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := h.repo.Prune(t.Context(), repository.PruneOptions{Grace: 1}, nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, sequential := range []bool{false, true} {
			if back := h.back(rec, requester.RestoreRequest{Sequential: sequential}); back.Outcome != requester.Complete {
				t.Errorf("%s after forget and prune: %v %+v", rec.Type, back.Outcome, back.Failures)
			}
			h.expect(rec.Type+" after forget and prune", h.want[rec])
		}
	}
}

// TestChainsInACopiedRepository: copies have other ids than the histories name.
func TestChainsInACopiedRepository(t *testing.T) {
	h := newHistory(t)
	copies := func(list ...*repository.Record) (*repository.Repository, *repository.Record) {
		repo, err := repository.Create(t.Context(), mem.New(), []byte("other"), repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}, TempDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { repo.Close() })
		c, err := repository.NewCopier(t.Context(), repo, h.repo, nil)
		if err != nil {
			t.Fatal(err)
		}
		var last *repository.Record
		for _, rec := range list {
			if last, err = c.Copy(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		}
		return repo, last
	}
	repo, rec := copies(h.full, h.inc, h.log1, h.log2)
	h.wipe()
	h.start()
	back, err := requester.Restore(t.Context(), h.open, repo, rec, requester.RestoreRequest{}, nil)
	if err != nil || back.Outcome != requester.Complete || len(back.Chain) != 4 {
		t.Fatalf("%v, outcome %v, %d links", err, back.Outcome, len(back.Chain))
	}
	h.expect("from the copy", h.want[h.log2])
	repo, rec = copies(h.full, h.log1, h.log2)
	h.start()
	_, err = requester.Restore(t.Context(), h.open, repo, rec, requester.RestoreRequest{}, nil)
	var hole *requester.ChainError
	if !errors.As(err, &hole) || !strings.Contains(err.Error(), h.inc.ID.Short()) {
		t.Errorf("without the record in the middle: %v", err)
	}
}

// TestComponentsOfOneRecordHaveChainsOfTheirOwn: D-30 makes one full where the
// others are incremental, and it has a part in the last operation only.
func TestComponentsOfOneRecordHaveChainsOfTheirOwn(t *testing.T) {
	s := newStore(t, "db")
	simple := newDocWriter("simple", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "set", true), files(m, "", "set", s.path("set"), "*", true)}
	})
	files := map[string]string{"db/a.dat": "a", "db/1.log": "1", "set/x": "1", "set/gone": "1"}
	s.set(files)
	s.writers = append(s.writers, simple)
	full := s.save(vss.BackupTypeFull, files)
	want := map[string]string{"db/a.dat": "a", "db/2.log": "2", "set/x": "2"}
	rec := s.save(vss.BackupTypeIncremental, want)
	want = with(want, "db/1.log", "1")
	s.wipe()
	s.start()
	simple = simple.again()
	s.writers = append(s.writers, simple)
	back := s.restore(rec, requester.RestoreRequest{Sequential: true})
	if back.Outcome != requester.Complete || len(back.Chain) != 2 || back.Chain[0].Record != full.ID.String() {
		t.Fatalf("outcome %v, chain %+v", back.Outcome, back.Chain)
	}
	s.expect("both", want)
	var parts []string
	for i, l := range back.Chain {
		for _, c := range l.Components {
			parts = append(parts, fmt.Sprintf("%d %s %s %v", i, c.Name, c.Type, c.More))
		}
	}
	slices.Sort(parts)
	if !slices.Equal(parts, []string{"0 db full true", "1 db incremental false", "1 set full false"}) {
		t.Errorf("parts %q", parts)
	}
	if n := len(slices.DeleteFunc(simple.seen, func(k writer.EventKind) bool { return k != writer.EventPreRestore })); n != 1 {
		t.Errorf("the writer whose component has a chain of one saw %d PreRestore", n)
	}
}

// TestFailureStopsWhatDependsOnItR_SEL_31: later links of a component are not
// restored without what it depends on.
func TestFailureStopsWhatDependsOnItR_SEL_31(t *testing.T) {
	s := newStore(t, "db")
	const mask = vss.DefaultFileSpecBackupType
	front := newDocWriter("front", func(m *metadata.WriterMetadata) []error {
		return []error{m.SetBackupSchema(vss.SchemaCopy | vss.SchemaIncremental),
			m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeDatabase, Name: "app", Selectable: true}),
			m.AddDatabaseLogFiles("", "app", s.path("app"), "*.log", mask), m.AddComponentDependency("", "app", metadata.Dependency{WriterClass: s.doc.class, Name: "db"})}
	})
	s.writers = append(s.writers, front)
	files := map[string]string{"db/a.dat": "a", "db/1.log": "1", "app/1.log": "1"}
	s.save(vss.BackupTypeFull, files)
	files = with(files, "db/2.log", "2", "app/2.log", "2")
	inc := s.save(vss.BackupTypeIncremental, files)
	rec := s.save(vss.BackupTypeIncremental, with(files, "db/3.log", "3", "app/3.log", "3"))
	s.wipe()
	s.start()
	front = front.again()
	s.writers = append(s.writers, front)
	s.after(1, func() { s.mkdir("db/2.log/in the way") })
	back := s.restore(rec, requester.RestoreRequest{Sequential: true})
	if back.Outcome != requester.Incomplete || len(back.Components) != 2 {
		t.Fatalf("outcome %v, %+v", back.Outcome, back.Components)
	}
	for _, c := range back.Components {
		if c.Succeeded || !strings.Contains(c.Error, inc.ID.Short()) || c.Status != vss.FileRestoreStatusFailed.String() {
			t.Errorf("%+v", c)
		}
		if c.Name == "app" && !strings.Contains(c.Error, `store:\db`) {
			t.Errorf("%q does not name what it depends on", c.Error)
		}
	}
	got := s.state()
	if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, []string{"app/1.log", "db/1.log", "db/a.dat"}) {
		t.Errorf("files %q: only the first link is there", have)
	}
}

// TestEveryLinkIsLookedAtBeforeAnythingIsTouched: data, file tables and documents
// of any link that are gone from the store are told, with the backup to restore
// instead, and neither a file nor a writer is touched.
func TestEveryLinkIsLookedAtBeforeAnythingIsTouched(t *testing.T) {
	for _, tt := range []struct {
		prefix string // of the packs that go
		of     int    // the link that wrote them
		want   string
		none   bool // no earlier one can be restored
	}{
		{"data/", 0, "lacks data of ", true},
		{"data/", 1, "lacks data of ", false},
		{"data/", 2, "lacks data of ", false},
		{"meta/", 0, "cannot be used: ", true},
		{"meta/", 1, "cannot be used: ", false},
	} {
		s := newStore(t, "db")
		st := mem.New()
		o := repository.Options{PackSize: 1}
		s.useRepository(st, o)
		packs := func() (out []string) {
			s.must(st.List(t.Context(), tt.prefix, func(i store.Info) error {
				out = append(out, i.Name)
				return nil
			}))
			return out
		}
		files := map[string]string{"db/a.dat": "a", "db/1.log": "1"}
		var records []*repository.Record
		var gone []string
		for i := range 4 {
			before := packs()
			typ := vss.BackupTypeFull
			if i > 0 {
				typ = vss.BackupTypeIncremental
			}
			s.start() // records of one instance share its document
			files = with(files, fmt.Sprintf("db/%d.log", i+2), fmt.Sprint("log ", i))
			records = append(records, s.save(typ, files))
			if i == tt.of {
				gone = slices.DeleteFunc(packs(), func(name string) bool { return slices.Contains(before, name) })
			}
		}
		if len(gone) == 0 {
			t.Fatalf("%s: no pack was written", tt.prefix)
		}
		for _, name := range gone {
			s.must(st.Delete(t.Context(), name))
		}
		s.useRepository(st, o)
		rec, err := s.repo.Record(t.Context(), records[3].ID.String())
		s.must(err)
		s.wipe()
		s.start()
		res, err := requester.Restore(t.Context(), s.open, s.repo, rec, requester.RestoreRequest{}, nil)
		var hole *requester.ChainError
		if !errors.As(err, &hole) || res.Outcome != requester.Failed {
			t.Errorf("%s of %d: outcome %v, %v", tt.prefix, tt.of, res.Outcome, err)
			continue
		}
		for _, c := range res.Components {
			if c.Succeeded {
				t.Errorf("%s of %d: %s is said to be restored", tt.prefix, tt.of, c.Name)
			}
		}
		want := "can be restored is " + records[max(tt.of, 1)-1].ID.Short()
		if tt.none {
			want = "no earlier backup"
		}
		at := records[tt.of]
		if tt.prefix == "data/" {
			at = records[3] // which has read the file, too
		}
		if text := err.Error(); !strings.Contains(text, "record "+at.ID.Short()) || !strings.Contains(text, tt.want) || !strings.Contains(text, want) {
			t.Errorf("%s of %d: %s", tt.prefix, tt.of, text)
		}
		if s.expect("after a refusal", map[string]string{}); len(s.events) > 0 {
			t.Errorf("%s of %d: the writer saw %q", tt.prefix, tt.of, s.events)
		}
		if !tt.none {
			rec, err := s.repo.Record(t.Context(), hole.Holes[0].Instead.String())
			s.must(err)
			if back := s.back(rec, requester.RestoreRequest{}); back.Outcome != requester.Complete {
				t.Errorf("%s of %d: what is to be restored instead: %v", tt.prefix, tt.of, back.Outcome)
			}
		}
	}
}

// TestHardLinksOfSeveralRecords: names of one file in one record are one file
// again, and a number of another record is not the same file (R-SET-19).
func TestHardLinksOfSeveralRecords(t *testing.T) {
	for _, sequential := range []bool{false, true} {
		s := newStore(t, "db")
		s.set(map[string]string{"db/a.dat": "a", "db/1.log": "one"})
		s.must(os.Link(s.path("db/1.log"), s.path("db/2.log")))
		s.backup(requester.Request{Type: vss.BackupTypeFull, Selectors: requester.Selectors{Components: []string{"db"}}})
		s.must(os.Remove(s.path("db/1.log")))
		s.must(os.Remove(s.path("db/2.log"))) // the number may be used again at once
		s.write("db/3.log", "three")
		s.must(os.Link(s.path("db/3.log"), s.path("db/4.log")))
		rec := s.backup(requester.Request{Type: vss.BackupTypeIncremental, Selectors: requester.Selectors{Components: []string{"db"}}}).Record
		if back := s.back(rec, requester.RestoreRequest{Sequential: sequential}); back.Outcome != requester.Complete {
			t.Errorf("sequential %v: outcome %v %+v", sequential, back.Outcome, back.Failures)
		}
		s.expect("hard links", map[string]string{"db/a.dat": "a", "db/1.log": "one", "db/2.log": "one", "db/3.log": "three", "db/4.log": "three"})
		same := func(a, b string) bool {
			x, err := os.Stat(s.path(a))
			s.must(err)
			y, err := os.Stat(s.path(b))
			s.must(err)
			return os.SameFile(x, y)
		}
		if !same("db/1.log", "db/2.log") || !same("db/3.log", "db/4.log") || same("db/1.log", "db/3.log") {
			t.Errorf("sequential %v: 1=2 %v, 3=4 %v, 1=3 %v", sequential, same("db/1.log", "db/2.log"), same("db/3.log", "db/4.log"), same("db/1.log", "db/3.log"))
		}
	}
}
