package requester_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// atReboot restores a record on a host that can take files at its next start.
func (s *storeWorld) atReboot(rec *repository.Record, r requester.RestoreRequest) (*requester.RestoreResult, *starts) {
	s.t.Helper()
	host := &starts{pending: map[string]string{}}
	s.start()
	back, err := s.restoreThrough(s.doc, &requester.Result{Record: rec}, r, func(t session.Target) session.Target {
		host.Target = t
		return host
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return back, host
}

// A chain that waits for the next start is staged once, as all of it comes to: what
// each operation staged would take its place there in any order.
func TestChainAtTheNextStartIsStagedOnceR_RES_2_R_RES_10(t *testing.T) {
	for _, sequential := range []bool{false, true} {
		t.Run(fmt.Sprintf("sequential %v", sequential), func(t *testing.T) {
			s := newStore(t, "db")
			s.doc.method.Method = vss.RestoreMethodAtReboot
			s.start()
			s.save(vss.BackupTypeFull, map[string]string{"db/a.dat": "a", "db/1.log": "1", "db/x.new": "x1"})
			s.save(vss.BackupTypeIncremental, map[string]string{"db/a.dat": "a", "db/1.log": "1", "db/2.log": "2", "db/x.new": "x2"})
			rec := s.save(vss.BackupTypeIncremental, map[string]string{"db/a.dat": "a", "db/3.log": "3", "db/x.new": "x3"})
			s.wipe()
			now := map[string]string{"db/a.dat": "newer", "db/x.new": "newer", "db/other": "somebody else's"}
			s.set(now)
			back, host := s.atReboot(rec, requester.RestoreRequest{Sequential: sequential})
			if back.Outcome != requester.Complete || len(back.RebootFor) != 1 || len(host.pending) != 5 {
				t.Errorf("outcome %v, restart for %q, %d files wait, %s", back.Outcome, back.RebootFor, len(host.pending), leftOut(back.LeftOut))
			}
			want := "PreRestore db more, PostRestore db more, PreRestore db more, PostRestore db more, PreRestore db, PostRestore db"
			if got := strings.Join(s.events, ", "); got != want {
				t.Errorf("events %s", got)
			}
			if s.read("db/a.dat") != "newer" || s.doc.status["db"] != vss.FileRestoreStatusAll {
				t.Errorf("before the start: %q, status %v", s.read("db/a.dat"), s.doc.status["db"])
			}
			host.start(t)
			s.expect("after the start", with(now, "db/a.dat", "a", "db/1.log", "1", "db/2.log", "2", "db/3.log", "3", "db/x.new", "x3"))
		})
	}
}

// Ranges that a later operation of a chain would write into the file of an earlier
// one cannot be staged: the set is refused, and not a file of zeros staged.
func TestChainWithRangesIsNotStagedR_RES_10_R_RES_27(t *testing.T) {
	s := newStore(t, "db")
	s.doc.method.Method = vss.RestoreMethodAtReboot
	s.start()
	files := map[string]string{"db/a.dat": "a", "db/1.log": "0123456789"}
	s.save(vss.BackupTypeFull, files)
	s.save(vss.BackupTypeLog, map[string]string{"db/a.dat": "a", "db/2.log": "2"})
	s.doc.on[writer.EventPrepareForBackup] = func(e *writer.Event) error {
		return e.Components.Components()[0].AddPartialFile(metadata.PartialFile{Path: s.path("db"), Name: "1.log", Ranges: "2:3"})
	}
	files = with(files, "db/1.log", "01abc56789", "db/3.log", "3")
	rec := s.save(vss.BackupTypeLog, files)
	delete(s.doc.on, writer.EventPrepareForBackup)
	if e := s.entryOf(rec, "db/1.log"); e.Attrs[requester.AttrPartial] != "only" {
		t.Fatalf("not what is to be tested: %v", e.Attrs)
	}
	now := map[string]string{"db/a.dat": "of today", "db/1.log": "of today"}
	s.set(now)
	back, host := s.atReboot(rec, requester.RestoreRequest{})
	if back.Outcome != requester.Incomplete || len(host.pending) > 0 || s.doc.status["db"] != vss.FileRestoreStatusNone ||
		!strings.Contains(leftOut(back.LeftOut), "nothing but ranges are stored") {
		t.Errorf("outcome %v, %d files wait, status %v, %s", back.Outcome, len(host.pending), s.doc.status["db"], leftOut(back.LeftOut))
	}
	host.start(t)
	s.expect("nothing was restored", now)
}
