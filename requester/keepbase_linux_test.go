package requester_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// largeSize is a size from which the service is asked what changed. Most of such
// a file is holes, so that tests are quick.
const largeSize = repository.LargeFile + 8<<20

const rangesConfig = `<TestWriter usage="USER_DATA" supportsCopy="yes" supportsIncremental="yes" supportsDifferential="yes" supportsLog="yes">
  <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always" rebootRequired="no"/>
  <Component componentType="database" componentName="db" selectable="yes">
    <ComponentFile path="DIR/db" filespec="*.dat"/>
  </Component>
</TestWriter>`

// rangesWorld has a large file of a component and one of no writer, on a file
// system whose shadow copies can be compared.
func rangesWorld(t *testing.T, fs string) *world {
	t.Helper()
	v := voltest.Make(t, fs, 512<<20)
	w := newWorldIn(t, filepath.Join(v.Root, "data"))
	w.configure(rangesConfig)
	for _, name := range []string{"db/large.dat", "plain/large"} {
		w.mkdir(filepath.Dir(name))
		w.large(name, 1)
	}
	w.write("plain/small", "small")
	t.Cleanup(func() { // what is kept would keep the volume busy with nothing
		for _, p := range w.kept() {
			w.deleteShadow(p.ID)
		}
	})
	return w
}

// large makes a large file with some data in it.
func (w *world) large(name string, seed uint64) {
	w.t.Helper()
	f, err := os.Create(w.path(name))
	w.must(err)
	defer f.Close()
	w.must(f.Truncate(largeSize))
	rng := rand.New(rand.NewPCG(seed, seed))
	data := make([]byte, 1<<20)
	for at := int64(0); at < largeSize; at += 16 << 20 {
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		_, err := f.WriteAt(data, at)
		w.must(err)
	}
}

func (w *world) change(name string, at int64, text string) {
	w.t.Helper()
	f, err := os.OpenFile(w.path(name), os.O_RDWR, 0)
	w.must(err)
	defer f.Close()
	_, err = f.WriteAt([]byte(text), at)
	w.must(err)
}

// kept lists the persistent shadow copies.
func (w *world) kept() []session.SnapshotProperties {
	w.t.Helper()
	s, err := w.open(context.Background())
	w.must(err)
	defer s.Close()
	list, err := s.QuerySnapshots(context.Background())
	w.must(err)
	return list
}

func (w *world) deleteShadow(id vss.GUID) {
	w.t.Helper()
	s, err := w.open(context.Background())
	w.must(err)
	defer s.Close()
	_, err = s.DeleteSnapshots(context.Background(), id, vss.ObjectSnapshot)
	w.must(err)
}

// holds checks that a record has of each file what is on the disk.
func (w *world) holds(rec *repository.Record, names ...string) {
	w.t.Helper()
	for _, name := range names {
		want, err := os.ReadFile(w.path(name))
		w.must(err)
		e, err := rec.Table().Lookup(w.t.Context(), "/", strings.TrimPrefix(w.path(name), "/"))
		w.must(err)
		f, err := w.repo.OpenContent(w.t.Context(), e.Content)
		w.must(err)
		got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		w.must(err)
		if !bytes.Equal(got, want) {
			w.t.Errorf("the record's %s is not what is on the disk (%d bytes, want %d)", name, len(got), len(want))
		}
	}
}

// keeping is a backup of all that keeps shadow copies.
func (w *world) keeping(n int) *requester.Result {
	w.t.Helper()
	res := w.backup(requester.Request{Paths: []string{w.dir}, KeepBaseShadow: n})
	if res.Outcome != requester.Complete {
		w.t.Fatalf("%v %+v %q", res.Outcome, res.Failures, res.Warnings)
	}
	return res
}

var largeFiles = []string{"db/large.dat", "plain/large"}

// TestOnlyWhatChangedIsRead: of large files of components and of no writer, as far
// as the service tells it, generation upon generation.
func TestOnlyWhatChangedIsRead(t *testing.T) {
	for _, fs := range []string{"btrfs", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			w := rangesWorld(t, fs)
			first := w.keeping(1)
			if len(first.Kept) != 1 || first.Shadows == nil || first.Shadows.Copies != 1 || first.Totals.Compared != 0 {
				t.Fatalf("kept %+v, counted %+v, %+v", first.Kept, first.Shadows, first.Totals)
			}
			for gen := range 3 {
				for i, name := range largeFiles {
					w.change(name, int64(gen+i)<<20+777, "changed in this generation")
					w.change(name, 40<<20+int64(gen)*8192, "written into a hole")
				}
				if gen == 1 {
					w.must(os.Truncate(w.path("plain/large"), largeSize-5<<20))
				}
				res := w.keeping(1)
				w.holds(res.Record, largeFiles...)
				if res.Totals.Compared != 2 || res.Totals.ChangedBytes > 1<<20 || res.Record.Totals.BytesRead > 2<<20 {
					t.Errorf("generation %d: %+v, %d bytes read", gen, res.Totals, res.Record.Totals.BytesRead)
				}
				kept := w.kept()
				if len(kept) != 1 || len(res.Kept) != 1 || kept[0].ID != res.Kept[0].Snapshot {
					t.Errorf("generation %d: kept %+v, the result says %+v", gen, kept, res.Kept)
				}
				if s, ok := requester.ReadSummary(res.Record); !ok || len(s.Kept) != 1 || s.Kept[0] != res.Kept[0] {
					t.Errorf("generation %d: the summary says %+v", gen, s.Kept)
				}
			}
		})
	}
}

// TestADoubtIsReadWhole: whatever may make the earlier record's content something
// else than its shadow copy shows, or leaves none, costs reading and no truth.
func TestADoubtIsReadWhole(t *testing.T) {
	for name, spoil := range map[string]func(w *world, last *requester.Result){
		"the base was deleted": func(w *world, last *requester.Result) { w.deleteShadow(last.Kept[0].Snapshot) },
		"the base was changed": func(w *world, last *requester.Result) {
			root := w.kept()[0].Device
			for _, name := range largeFiles {
				f, err := os.OpenFile(filepath.Join(root, "data", name), os.O_RDWR, 0)
				w.must(err)
				_, err = f.WriteAt([]byte("somebody was here"), 33<<20)
				w.must(err)
				w.must(f.Close())
			}
		},
		"the base was changed, times put back": func(w *world, last *requester.Result) {
			root := w.kept()[0].Device
			for _, name := range largeFiles {
				p := filepath.Join(root, "data", name)
				info, err := os.Stat(p)
				w.must(err)
				f, err := os.OpenFile(p, os.O_RDWR, 0)
				w.must(err)
				_, err = f.WriteAt([]byte("somebody was here"), 33<<20)
				w.must(err)
				w.must(f.Close())
				w.must(os.Chtimes(p, info.ModTime(), info.ModTime()))
			}
		},
		"another file took the name": func(w *world, last *requester.Result) {
			for _, name := range largeFiles {
				w.large(name+".new", 2)
				w.must(os.Rename(w.path(name+".new"), w.path(name)))
			}
		},
		"the names were exchanged": func(w *world, last *requester.Result) {
			w.must(unix.Renameat2(unix.AT_FDCWD, w.path(largeFiles[0]), unix.AT_FDCWD, w.path(largeFiles[1]), unix.RENAME_EXCHANGE))
		},
		"nothing was kept": func(w *world, last *requester.Result) {
			for _, name := range largeFiles {
				w.change(name, 5000, "changed between")
			}
			w.keeping(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := rangesWorld(t, "xfs")
			last := w.keeping(1)
			spoil(w, last)
			for _, name := range largeFiles {
				w.change(name, 1<<20, "changed")
			}
			res := w.keeping(1)
			if res.Totals.Compared != 0 {
				t.Errorf("%d files were taken by ranges", res.Totals.Compared)
			}
			w.holds(res.Record, largeFiles...)
			// And from then on all is well again.
			for _, name := range largeFiles {
				w.change(name, 2<<20, "changed again")
			}
			res = w.keeping(1)
			if res.Totals.Compared != 2 {
				t.Errorf("afterwards %d files were taken by ranges, want 2", res.Totals.Compared)
			}
			w.holds(res.Record, largeFiles...)
		})
	}
}

// TestAFileNotReadFromTheBaseIsReadWhole: the record before says of an unchanged
// file what a record before that had read.
func TestAFileNotReadFromTheBaseIsReadWhole(t *testing.T) {
	w := rangesWorld(t, "btrfs")
	w.age("plain/large")
	time.Sleep(young)
	w.keeping(1)
	if res := w.keeping(1); res.Totals.Unchanged == 0 {
		t.Fatalf("%+v: the file counts as changed", res.Totals)
	}
	w.change("plain/large", 1<<20, "changed")
	res := w.keeping(1)
	if res.Totals.Compared != 1 { // the component's: it is read each time
		t.Errorf("%d files were taken by ranges, want 1", res.Totals.Compared)
	}
	w.holds(res.Record, largeFiles...)
}

// TestRereadAsksNobody: what is to be read again is.
func TestRereadAsksNobody(t *testing.T) {
	w := rangesWorld(t, "xfs")
	w.keeping(1)
	w.change("plain/large", 1<<20, "changed")
	res := w.backup(requester.Request{Paths: []string{w.dir}, KeepBaseShadow: 1, Reread: true})
	if res.Totals.Compared != 0 || res.Record.Totals.BytesRead < 8<<20 {
		t.Errorf("%+v, %d bytes read", res.Totals, res.Record.Totals.BytesRead)
	}
	w.holds(res.Record, largeFiles...)
}

// TestNoMoreIsKeptThanAsked: as many sets as asked for, and those of other paths
// are left alone.
func TestNoMoreIsKeptThanAsked(t *testing.T) {
	w := rangesWorld(t, "xfs")
	other := requester.Request{Paths: []string{w.path("plain")}, KeepBaseShadow: 1}
	w.backup(other)
	for i := range 4 {
		res := w.keeping(2)
		if want := min(i+1, 2) + 1; len(w.kept()) != want || res.Shadows.Copies != want {
			t.Fatalf("after %d backups %d copies are kept, counted %d; want %d", i+1, len(w.kept()), res.Shadows.Copies, want)
		}
	}
	w.keeping(1)
	if n := len(w.kept()); n != 2 {
		t.Errorf("%d copies are kept after one was asked for, want it and that of other paths", n)
	}
	res := w.keeping(0)
	if n := len(w.kept()); n != 1 || len(res.Kept) != 0 {
		t.Errorf("%d copies are kept after none was asked for, want that of other paths", n)
	}
	other.KeepBaseShadow = 0
	if res = w.backup(other); len(w.kept()) != 0 || res.Shadows != nil {
		t.Errorf("kept %+v, counted %+v", w.kept(), res.Shadows)
	}
}

// TestABackupThatFailsKeepsNothingOfItsOwn: the earlier copy stays, as the earlier
// record does.
func TestABackupThatFailsKeepsNothingOfItsOwn(t *testing.T) {
	w := rangesWorld(t, "xfs")
	first := w.keeping(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := requester.Backup(ctx, w.open, w.repo, requester.Request{Paths: []string{w.dir}, KeepBaseShadow: 1}, &atPhase{requester.Quiet, requester.PhaseCopy, cancel})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v; want the context's end", err)
	}
	if kept := w.kept(); len(kept) != 1 || kept[0].ID != first.Kept[0].Snapshot {
		t.Errorf("kept %+v, want that of the backup that succeeded", kept)
	}
	w.change("plain/large", 1<<20, "changed")
	if res := w.keeping(1); res.Totals.Compared != 2 {
		t.Errorf("%+v", res.Totals)
	}
}

// atPhase calls a function when a phase begins.
type atPhase struct {
	requester.Reporter
	phase requester.Phase
	do    func()
}

func (a *atPhase) Phase(p requester.Phase) {
	if p == a.phase {
		a.do()
	}
}

// TestWhatADeadBackupKeptIsListedAndGoes: it died after the set was made and
// before there was a record.
func TestWhatADeadBackupKeptIsListedAndGoes(t *testing.T) {
	w := rangesWorld(t, "xfs")
	first := w.keeping(1)
	c := t.Context()
	s, err := w.open(c)
	w.must(err)
	w.must(s.InitializeForBackup(c, nil))
	w.must(s.SetContext(c, vss.ContextNASRollback))
	w.must(s.SetBackupState(c, session.BackupState{Type: vss.BackupTypeCopy, Purpose: w.kept()[0].Purpose}))
	_, err = s.StartSnapshotSet(c)
	w.must(err)
	loc, err := s.ResolvePath(c, w.dir)
	w.must(err)
	orphan, err := s.AddToSnapshotSet(c, loc.Volume, vss.GUID{}, session.Scope{})
	w.must(err)
	w.must(s.DoSnapshotSet(c, nil))
	w.must(s.Close())
	if n := len(w.kept()); n != 2 {
		t.Fatalf("%d copies are listed, want 2", n)
	}
	for _, name := range largeFiles {
		w.change(name, 1<<20, "changed")
	}
	res := w.keeping(1)
	if res.Totals.Compared != 2 {
		t.Errorf("%+v: the copy of the last record was there", res.Totals)
	}
	for _, p := range w.kept() {
		if p.ID == orphan || p.ID == first.Kept[0].Snapshot {
			t.Errorf("%s is still there", p.ID)
		}
	}
}

// TestNothingIsKeptThatCannotBeCompared: and the plan says so.
func TestNothingIsKeptThatCannotBeCompared(t *testing.T) {
	w := newWorld(t)
	w.configure(rangesConfig)
	w.write("db/small.dat", "small")
	plan, err := requester.MakePlan(t.Context(), w.open, requester.Request{Paths: []string{w.dir}, KeepBaseShadow: 1}, nil)
	w.must(err)
	if notes := strings.Join(plan.Volumes[0].Notes, "\n"); !strings.Contains(notes, "cannot be compared") || plan.KeepBaseShadow != 1 {
		t.Errorf("the plan says %q", notes)
	}
	res := w.keeping(1)
	if len(res.Kept) != 0 || res.Shadows != nil || len(w.kept()) != 0 || len(res.Warnings) != 0 {
		t.Errorf("kept %+v, %q", w.kept(), res.Warnings)
	}
}

// TestTheBaseOfDifferentialsStays (R-TYPE-5): each builds upon the full one,
// however many came between.
func TestTheBaseOfDifferentialsStays(t *testing.T) {
	w := rangesWorld(t, "btrfs")
	make := func(typ vss.BackupType) *requester.Result {
		res := w.backup(requester.Request{Type: typ, Selectors: requester.Selectors{Writers: []string{"app"}}, KeepBaseShadow: 1})
		if res.Outcome != requester.Complete {
			t.Fatalf("%v %+v %q", res.Outcome, res.Failures, res.Warnings)
		}
		return res
	}
	full := make(vss.BackupTypeFull)
	for i := range 3 {
		w.change("db/large.dat", int64(i)<<20, "changed")
		res := make(vss.BackupTypeDifferential)
		if res.Totals.Compared != 1 {
			t.Errorf("differential %d: %+v", i, res.Totals)
		}
		w.holds(res.Record, "db/large.dat")
		found := false
		for _, p := range w.kept() {
			found = found || p.ID == full.Kept[0].Snapshot
		}
		if !found || len(w.kept()) != 2 {
			t.Errorf("differential %d: kept %d, that of the full one: %v", i, len(w.kept()), found)
		}
	}
	make(vss.BackupTypeFull)
	if n := len(w.kept()); n != 1 {
		t.Errorf("after another full one %d copies are kept, want 1", n)
	}
}

func TestHowManyAreKeptHasALimit(t *testing.T) {
	w := newWorld(t)
	for _, n := range []int{-1, requester.MaxKeepBaseShadow + 1} {
		_, err := requester.Backup(t.Context(), w.open, w.repo, requester.Request{Paths: []string{w.dir}, KeepBaseShadow: n}, nil)
		if !errors.Is(err, vss.ErrInvalidArgument) {
			t.Errorf("%d: %v, want VSS_E_INVALID_ARGUMENT", n, err)
		}
	}
}

// TestChangedRangesWithAWriteOnlyKey: what the local state lacks of an earlier
// record costs reading, never the backup.
func TestChangedRangesWithAWriteOnlyKey(t *testing.T) {
	w := rangesWorld(t, "xfs")
	st, o := mem.New(), repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}, TempDir: t.TempDir(), StateDir: t.TempDir()}
	full, err := repository.Create(t.Context(), st, []byte("secret"), o)
	w.must(err)
	defer full.Close()
	_, err = full.AddKey(t.Context(), []byte("agent"), repository.KeyOptions{WriteOnly: true})
	w.must(err)
	for gen := range 4 {
		for _, name := range largeFiles {
			w.change(name, int64(gen)<<20, "changed in this generation")
		}
		if w.repo, err = repository.Open(t.Context(), st, []byte("agent"), o); err != nil {
			t.Fatal(err)
		}
		res := w.keeping(1)
		w.repo.Close()
		w.repo = full
		rec, err := full.Record(t.Context(), res.ID)
		w.must(err)
		w.holds(rec, largeFiles...)
		t.Logf("generation %d: %+v", gen, res.Totals)
		if gen > 0 && res.Totals.Compared != 2 {
			t.Errorf("generation %d: %d files were taken by ranges, want 2", gen, res.Totals.Compared)
		}
	}
}

// TestWhatAWriterSaidOfAFileIsNotWhatItShows: a record that holds a writer's
// ranges upon an older content is no ground, as its writer may have left some out.
func TestWhatAWriterSaidOfAFileIsNotWhatItShows(t *testing.T) {
	w := rangesWorld(t, "btrfs")
	app := func(typ vss.BackupType, partial string) *requester.Result {
		t.Helper()
		w.configure(partialConfig(partial))
		res := w.backup(requester.Request{Type: typ, Selectors: requester.Selectors{Writers: []string{"app"}}, KeepBaseShadow: 1})
		if res.Outcome != requester.Complete {
			t.Fatalf("%v %+v %q", res.Outcome, res.Failures, res.Warnings)
		}
		return res
	}
	app(vss.BackupTypeFull, "")
	w.change("db/large.dat", 1<<20, "changed, and told")
	w.change("db/large.dat", 17<<20, "changed, and not told")
	res := app(vss.BackupTypeIncremental, `<PartialFile path="DIR/db" filespec="large.dat" ranges="1048576:4096"/>`)
	if e := w.entryOf(res.Record, "db/large.dat"); e.Attrs[requester.AttrRanges] == "" || res.Totals.Compared != 0 {
		t.Fatalf("it was not saved by the writer's ranges: %q, %+v", e.Attrs, res.Totals)
	}
	w.change("db/large.dat", 33<<20, "changed later")
	res = app(vss.BackupTypeFull, "")
	if res.Totals.Compared != 0 {
		t.Errorf("it was taken by ranges upon the writer's word")
	}
	w.holds(res.Record, "db/large.dat")
	w.change("db/large.dat", 34<<20, "changed again")
	if res = app(vss.BackupTypeCopy, ""); res.Totals.Compared != 1 {
		t.Errorf("afterwards: %+v", res.Totals)
	}
	w.holds(res.Record, "db/large.dat")
}
