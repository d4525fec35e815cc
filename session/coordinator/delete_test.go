package coordinator_test

import (
	"errors"
	"testing"

	"github.com/sombra-backup/sombra/vss"
)

// TestDeleteOwnCopies: a session can delete the copies of its own set before they
// go with it, one by one and as a set.
func TestDeleteOwnCopies(t *testing.T) {
	for _, kind := range []vss.ObjectType{vss.ObjectSnapshot, vss.ObjectSnapshotSet} {
		t.Run(kind.String(), func(t *testing.T) {
			r := newRig(t, "one")
			must(t, r.to("DoSnapshotSet"))
			s, c := r.open(), deadline(t)
			p, err := s.SnapshotProperties(c, r.snap)
			must(t, err)
			id := r.snap
			if kind == vss.ObjectSnapshotSet {
				id = p.SetID
			}
			if n, err := s.DeleteSnapshots(c, vss.NewGUID(), kind); n != 0 || !errors.Is(err, vss.ErrObjectNotFound) {
				t.Errorf("a copy that is nobody's: %d deleted, %v", n, err)
			}
			if n, err := s.DeleteSnapshots(c, id, kind); n != 1 || err != nil {
				t.Errorf("%d deleted, %v", n, err)
			}
			if n, err := s.DeleteSnapshots(c, id, kind); n != 0 || !errors.Is(err, vss.ErrObjectNotFound) {
				t.Errorf("again: %d deleted, %v", n, err)
			}
			if _, err := s.Tree(c, r.snap); !errors.Is(err, vss.ErrObjectNotFound) {
				t.Errorf("tree of a deleted copy: %v", err)
			}
			if p, err := s.SnapshotProperties(c, r.snap); !errors.Is(err, vss.ErrObjectNotFound) {
				t.Errorf("properties of a deleted copy: %+v, %v", p, err)
			}
			must(t, r.from("DoSnapshotSet", "BackupComplete"))
			must(t, s.Close())
			if l := left(r.o.StateDir, r.dir); len(l) > 0 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
}

// TestDeleteOwnKeptCopy: one that would outlive the session is deleted in it, too.
func TestDeleteOwnKeptCopy(t *testing.T) {
	r := newRig(t, "one")
	s, c := r.open(), deadline(t)
	must(t, s.InitializeForBackup(c, nil))
	must(t, s.SetContext(c, vss.ContextAppRollback))
	must(t, r.from("InitializeForBackup", "DoSnapshotSet"))
	if n, err := s.DeleteSnapshots(c, r.snap, vss.ObjectSnapshot); n != 1 || err != nil {
		t.Errorf("%d deleted, %v", n, err)
	}
	if _, err := s.Tree(c, r.snap); !errors.Is(err, vss.ErrObjectNotFound) {
		t.Errorf("tree of a deleted copy: %v", err)
	}
	if p, err := s.SnapshotProperties(c, r.snap); !errors.Is(err, vss.ErrObjectNotFound) {
		t.Errorf("properties of a deleted copy: %+v, %v", p, err)
	}
	must(t, s.Close())
	if l := left(r.o.StateDir, r.dir); len(l) > 0 {
		t.Errorf("left behind: %v", l)
	}
}
