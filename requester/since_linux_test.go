package requester_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

func (w *world) entry(rec *repository.Record, name string) *repository.Entry {
	w.t.Helper()
	e, err := rec.Table().Lookup(w.t.Context(), "/", strings.TrimPrefix(w.path(name), "/"))
	w.must(err)
	return e
}

// TestEntriesTellWhatTheProviderTold: of a file of which only what changed was read
// the entry says since which record, and how much it was. Where a later record takes
// over the content it takes over the word, which is still of the backup that read it.
// It is no writer's word of ranges.
func TestEntriesTellWhatTheProviderTold(t *testing.T) {
	w := rangesWorld(t, "btrfs")
	w.configure(strings.Replace(rangesConfig, `filespec="*.dat"`, `filespec="*.dat" incBackupRequired="no"`, 1))
	w.must(os.Link(w.path("plain/large"), w.path("plain/also large")))
	names := append([]string{"plain/also large"}, largeFiles...)
	keeping := func(typ vss.BackupType) *requester.Result {
		res := w.backup(requester.Request{Paths: []string{w.dir}, KeepBaseShadow: 1, Type: typ})
		if res.Outcome != requester.Complete {
			t.Fatalf("%v %+v %q", res.Outcome, res.Failures, res.Warnings)
		}
		return res
	}
	first := keeping(vss.BackupTypeFull)
	for _, name := range names {
		if e := w.entry(first.Record, name); e.Attrs[requester.AttrSince] != "" || e.Attrs[requester.AttrChanged] != "" {
			t.Errorf("the first backup of %s: %q", name, e.Attrs)
		}
	}
	for _, name := range largeFiles {
		w.change(name, 3<<20+777, "changed")
	}
	w.age("plain/large")
	time.Sleep(young)
	second := keeping(vss.BackupTypeFull)
	if c := second.Components[0].Read; c.Compared != 1 || c.Whole != 0 || c.Ranged != 0 || c.ChangedBytes == 0 || c.ChangedBytes > 1<<20 {
		t.Errorf("the component's files: %+v", c)
	}
	for _, name := range names {
		e := w.entry(second.Record, name)
		since, ranges, bytes, ok := requester.ReadSince(second.Record, e)
		if !ok || since != first.Record.ID.String() || ranges < 1 || bytes < 7 || bytes > 1<<20 {
			t.Errorf("%s: since %q, %d ranges of %d bytes, %v: %q", name, since, ranges, bytes, ok, e.Attrs)
		}
		if _, said, err := requester.ReadEntryRanges(t.Context(), second.Record, e); said || err != nil ||
			e.Attrs[requester.AttrMatched] != "" || e.Attrs[requester.AttrPartial] != "" || e.Attrs[requester.AttrBase] != "" {
			t.Errorf("%s: what a writer may say: %q", name, e.Attrs)
		}
	}
	third := keeping(vss.BackupTypeIncremental)
	if third.Components[0].Read.Unchanged != 1 || third.Totals.Compared != 0 {
		t.Fatalf("%v %+v, %+v", third.Outcome, third.Components[0].Read, third.Totals)
	}
	for _, name := range names {
		was, e := w.entry(second.Record, name), w.entry(third.Record, name)
		for _, key := range []string{requester.AttrRead, requester.AttrSince, requester.AttrChanged} {
			if e.Attrs[key] != was.Attrs[key] {
				t.Errorf("%s: a record that took over the content says %s %q, the one that read it %q", name, key, e.Attrs[key], was.Attrs[key])
			}
		}
		if _, _, _, ok := requester.ReadSince(third.Record, e); ok {
			t.Errorf("%s: the third backup read it: %q", name, e.Attrs)
		}
	}
	w.change("db/large.dat", 1<<20, "changed")
	w.change("plain/large", 1<<20, "changed")
	whole := w.backup(requester.Request{Paths: []string{w.dir}, Reread: true})
	for _, name := range names {
		if e := w.entry(whole.Record, name); e.Attrs[requester.AttrSince] != "" || e.Attrs[requester.AttrRead] != requester.ReadMark(whole.Record) {
			t.Errorf("%s, read whole: %q", name, e.Attrs)
		}
	}
}

// TestWhatAnEntrySaysOfChangesMayBeNonsense: the medium is hostile.
func TestWhatAnEntrySaysOfChangesMayBeNonsense(t *testing.T) {
	rec := &repository.Record{}
	rec.Started = time.Unix(1, 0)
	for changed, want := range map[string]bool{"2:10": true, "0:0": true, "": false, "1": false, ":": false, "-1:5": false, "5:-1": false,
		"1:99999999999999999999": false, "1:2:3": false} {
		e := &repository.Entry{Attrs: map[string]string{requester.AttrRead: requester.ReadMark(rec), requester.AttrSince: "x", requester.AttrChanged: changed}}
		if _, ranges, bytes, ok := requester.ReadSince(rec, e); ok != want || ranges < 0 || bytes < 0 {
			t.Errorf("%q: %d, %d, %v", changed, ranges, bytes, ok)
		}
	}
}
