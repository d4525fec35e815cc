package requester_test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// breaking is a service over whose target a write into a file that is there fails,
// after some have gone well: all that a kill would leave is left.
type breaking struct {
	session.Session
	after *atomic.Int64
}

func (b breaking) Target(ctx context.Context, dir string, roots []string) (session.Target, error) {
	t, err := b.Session.Target(ctx, dir, roots)
	return breakingTarget{t, b.after}, err
}

type breakingTarget struct {
	session.Target
	after *atomic.Int64
}

func (b breakingTarget) OpenFile(ctx context.Context, name string) (session.ChangeFile, error) {
	f, err := b.Target.OpenFile(ctx, name)
	return breakingFile{f, b.after}, err
}

type breakingFile struct {
	session.ChangeFile
	after *atomic.Int64
}

func (b breakingFile) WriteAt(p []byte, off int64) (int, error) {
	if b.after.Add(-1) < 0 {
		return 0, syscall.EIO
	}
	return b.ChangeFile.WriteAt(p, off)
}

func (b breakingFile) SetAttributes(ctx context.Context, e session.Entry) error {
	if b.after.Load() < 0 {
		return syscall.EIO
	}
	return b.ChangeFile.SetAttributes(ctx, e)
}

func TestRestoreInPlaceThatBreaksOffIsSaidAndCanBeRunAgain(t *testing.T) {
	w, d := directWorld(t)
	res := w.backup(w.paths())
	now := bytesOf("now", 3_000_000)
	rec := partialRecord(t, w, res.Record, "incremental", "data/a", now, "0:5,1000000:5,2000000:5")
	want := []byte(w.read("data/a"))
	for _, at := range []int{0, 1_000_000, 2_000_000} {
		copy(want[at:at+5], now[at:])
	}
	d = d.again()
	w.writers = []*docWriter{d}
	after := new(atomic.Int64)
	after.Store(2)
	back, err := requester.Restore(t.Context(), func(ctx context.Context) (session.Session, error) {
		s, err := w.open(ctx)
		return breaking{s, after}, err
	}, w.repo, rec, requester.RestoreRequest{}, nil)
	if err != nil || back.Outcome != requester.Incomplete || len(back.Failures) != 1 || !strings.Contains(back.Failures[0].Error, "half written") {
		t.Fatalf("outcome %v, %v, %+v", back.Outcome, err, back.Failures)
	}
	if d.status["main"] != vss.FileRestoreStatusFailed { // R-RES-32
		t.Errorf("status %v", d.status["main"])
	}
	buf := make([]byte, 100)
	if n, err := unix.Getxattr(w.path("data/a"), "user.sombra.half-restored", buf); err != nil || string(buf[:n]) != rec.ID.Short() {
		t.Errorf("marked %q, %v", buf[:max(n, 0)], err)
	}
	w.writers = []*docWriter{d.again()}
	back = w.restore(rec, requester.RestoreRequest{})
	if text := strings.Join(back.Warnings, "\n"); back.Outcome != requester.Complete || !strings.Contains(text, "half written by a restore of backup "+rec.ID.Short()) {
		t.Errorf("run again: outcome %v, warnings %q", back.Outcome, text)
	}
	if w.read("data/a") != string(want) {
		t.Error("the file has other bytes")
	}
}

// Nothing is written before all that is to be written was read and verifies.
func TestRestoreInPlaceFromDamagedRepositoryWritesNothing(t *testing.T) {
	w, d := directWorld(t)
	st := mem.New()
	o := repository.Options{PackSize: 1} // a pack for each chunk
	w.useRepository(st, o)
	res := w.backup(w.paths())
	list := func() map[string]bool {
		out := map[string]bool{}
		w.must(st.List(t.Context(), "data/", func(i store.Info) error {
			out[i.Name] = true
			return nil
		}))
		return out
	}
	had := list()
	now := make([]byte, 8_000_000)
	rand.Read(now)
	rec := partialRecord(t, w, res.Record, "incremental", "data/a", string(now), "0:5,1000000:7000000")
	before := tree(t, w.dir)
	harmed := 0
	for pack := range list() {
		if had[pack] {
			continue
		}
		harmed++
		bad := st.Copy()
		info, err := bad.Stat(t.Context(), pack)
		w.must(err)
		data := make([]byte, info.Size)
		if _, err := bad.ReadAt(t.Context(), pack, data, 0); err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		w.must(bad.Delete(t.Context(), pack))
		w.must(bad.Put(t.Context(), pack, data))
		w.useRepository(bad, o)
		again, err := w.repo.Record(t.Context(), rec.ID.String())
		w.must(err)
		w.writers = []*docWriter{d.again()}
		back := w.restore(again, requester.RestoreRequest{})
		if back.Outcome != requester.Incomplete || len(back.Failures) == 0 {
			t.Errorf("%s: outcome %v, %+v", pack, back.Outcome, back.Failures)
		}
		if got := tree(t, w.dir); got["data/a"] != before["data/a"] {
			t.Fatalf("%s: the file was written although what was to be written does not verify", pack)
		}
	}
	if harmed < 3 {
		t.Errorf("only %d packs were harmed", harmed)
	}
}

func TestTwoSetsDirectedToOneFile(t *testing.T) {
	w := newWorld(t)
	w.write("a/f", "of a")
	w.write("b/f", "of b")
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "a", true), files(m, "", "a", w.path("a"), "*", false),
			group(m, "", "b", true), files(m, "", "b", w.path("b"), "*", false)}
	})
	w.writers = []*docWriter{d}
	res := w.backup(w.paths())
	w.wipe()
	d = d.again()
	d.on[writer.EventPreRestore] = func(e *writer.Event) error {
		for _, c := range e.Components.Components() {
			if err := c.AddDirectedTarget(w.to(c.Name()+"/f", "0:4", "one", "0:4")); err != nil {
				return err
			}
			if err := c.SetRestoreTarget(vss.RestoreTargetDirected); err != nil {
				return err
			}
		}
		return nil
	}
	w.writers = []*docWriter{d}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if out := leftOut(back.LeftOut); back.Outcome != requester.Incomplete || back.LeftOuts != 1 || !strings.Contains(out, "so does that of") {
		t.Errorf("outcome %v, left out %s", back.Outcome, out)
	}
	if d.status["a"] != vss.FileRestoreStatusAll || d.status["b"] != vss.FileRestoreStatusNone || w.read("one") != "of a" {
		t.Errorf("status %v, %q", d.status, w.read("one"))
	}
}

// What a medium says of ranges is checked like all else it says.
func TestPartialFileOfADamagedRecordIsRefused(t *testing.T) {
	w, d := directWorld(t)
	res := w.backup(w.paths())
	rec := partialRecord(t, w, res.Record, "incremental", "data/a", bytesOf("now", 3_000_000), "0:5")
	for _, ranges := range []string{"", "x", "0:18446744073709551615,1:18446744073709551615", "ranges/7", "ranges/../bcd.xml", requester.DocBCD} {
		bad := likeWithRanges(t, w, rec, ranges)
		before := tree(t, w.dir)
		d = d.again()
		w.writers = []*docWriter{d}
		back := w.restore(bad, requester.RestoreRequest{})
		if out := leftOut(back.LeftOut); back.Outcome != requester.Incomplete || !strings.Contains(out, "ranges") || d.status["main"] != vss.FileRestoreStatusNone {
			t.Errorf("%q: outcome %v, status %v, left out %s", ranges, back.Outcome, d.status["main"], out)
		}
		diffTrees(t, tree(t, w.dir), before)
	}
}

// likeWithRanges is a record like another whose partial files have other ranges.
func likeWithRanges(t *testing.T, w *world, like *repository.Record, ranges string) *repository.Record {
	t.Helper()
	b, err := w.repo.Begin(t.Context(), repository.BeginOptions{})
	w.must(err)
	defer b.Abort()
	for e, err := range like.Table().All(t.Context()) {
		w.must(err)
		n := e.Clone()
		if n.Attrs[requester.AttrPartial] != "" {
			n.Attrs[requester.AttrRanges] = ranges
		}
		w.must(b.Add(t.Context(), n))
	}
	rec, err := b.Commit(t.Context(), repository.RecordInfo{Time: like.Time, Started: like.Started, Type: like.Type, Host: like.Host, Summary: like.Summary,
		Roots: like.Roots, State: repository.Complete, Documents: like.Documents})
	w.must(err)
	return rec
}

// Without writers, and into a directory, the same holds of partial files: they are
// written into what is there, or refused, or made if there is no other backup.
func TestPartialFilesWithoutWriters(t *testing.T) {
	w, _ := directWorld(t)
	res := w.backup(w.paths())
	now := bytesOf("now", 1000)
	part := partialRecord(t, w, res.Record, "incremental", "data/b", now, "0:5")
	full := partialRecord(t, w, res.Record, "full", "data/b", now, "0:5")
	w.writers = nil
	back := w.restore(part, requester.RestoreRequest{NoWriters: true})
	if got := w.read("data/b"); back.Outcome != requester.Complete || got != now[:5]+bytesOf("b", 1000)[5:] {
		t.Errorf("into the file: outcome %v, %+v, %.20q", back.Outcome, back.Failures, got)
	}
	for _, tt := range []struct {
		rec  *repository.Record
		want requester.Outcome
		text string
	}{{part, requester.Incomplete, "there is none"}, {full, requester.Complete, "the rest is zeros"}} {
		got, err := requester.Extract(t.Context(), w.open, w.repo, tt.rec, requester.ExtractRequest{Dir: scratch(t)}, nil)
		w.must(err)
		text := strings.Join(got.Warnings, "\n") + leftOut(got.LeftOut)
		for _, f := range got.Failures {
			text += f.Error
		}
		if got.Outcome != tt.want || !strings.Contains(text, tt.text) {
			t.Errorf("extraction: outcome %v, %s", got.Outcome, text)
		}
	}
}

// Ranges are not written into a file that the operations before have left because it
// is newer than what they bring: it would be neither that nor what was backed up.
func TestRangesAreNotLaidUponAnotherFileR_RES_27(t *testing.T) {
	s := newStore(t, "db")
	files := map[string]string{"db/a.dat": "a", "db/1.log": "0123456789"}
	s.set(files)
	old := time.Now().Add(-time.Hour)
	s.must(os.Chtimes(s.path("db/1.log"), old, old))
	s.save(vss.BackupTypeFull, files)
	s.save(vss.BackupTypeLog, map[string]string{"db/a.dat": "a", "db/2.log": "2"})
	s.doc.on[writer.EventPrepareForBackup] = func(e *writer.Event) error {
		return e.Components.Components()[0].AddPartialFile(metadata.PartialFile{Path: s.path("db"), Name: "1.log", Ranges: "2:3"})
	}
	rec := s.save(vss.BackupTypeLog, with(files, "db/1.log", "01abc56789", "db/3.log", "3"))
	delete(s.doc.on, writer.EventPrepareForBackup)
	for _, overwrite := range []requester.Overwrite{requester.OverwriteIfNewer, requester.OverwriteNever, requester.OverwriteAlways} {
		s.wipe()
		s.write("db/1.log", "##########")
		between := old.Add(time.Minute)
		s.must(os.Chtimes(s.path("db/1.log"), between, between))
		s.start()
		s.restore(rec, requester.RestoreRequest{Overwrite: overwrite})
		want := "##########"
		if overwrite == requester.OverwriteAlways {
			want = "01abc56789"
		}
		if got := s.read("db/1.log"); got != want {
			t.Errorf("overwrite %v: %q, want %q", overwrite, got, want)
		}
	}
}
