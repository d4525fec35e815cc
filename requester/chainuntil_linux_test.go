package requester_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

func TestRecordUntilPicksThePoint(t *testing.T) {
	s := newStore(t, "db", "other")
	files := map[string]string{"db/a.dat": "a", "db/1.log": "1", "other/a.dat": "o"}
	full := s.save(vss.BackupTypeFull, files)
	// A log of one component, in a record of its own.
	s.set(with(files, "db/2.log", "2"))
	log := s.backup(requester.Request{Type: vss.BackupTypeLog, Selectors: requester.Selectors{Components: []string{"db"}}}).Record
	inc := s.save(vss.BackupTypeIncremental, with(files, "db/3.log", "3"))
	db := requester.Selectors{Components: []string{"db"}}
	other := requester.Selectors{Components: []string{"other"}}
	for _, tt := range []struct {
		name  string
		of    *repository.Record
		until time.Time
		sel   requester.Selectors
		want  *repository.Record
	}{
		{"the newest of the same paths", full, time.Now(), requester.Selectors{}, inc},
		{"at that very time", full, inc.Time, requester.Selectors{}, inc},
		{"just before it: not the record of other paths", inc, inc.Time.Add(-1), requester.Selectors{}, full},
		{"of the paths of a record of its own", log, time.Now(), requester.Selectors{}, log},
		{"of a component, whatever else is in the record", full, inc.Time.Add(-1), db, log},
		{"of a component that is not in the newest", full, inc.Time.Add(-1), other, full},
		{"of two components: where both are", full, inc.Time.Add(-1), requester.Selectors{Components: []string{"db", "other"}}, full},
		{"too early", full, full.Time.Add(-1), requester.Selectors{}, nil},
		{"too early for a component", full, full.Time.Add(-1), db, nil},
		{"a component that is in none", full, time.Now(), requester.Selectors{Components: []string{"nothing"}}, nil},
	} {
		rec, skipped, err := requester.RecordUntil(t.Context(), s.repo, tt.of, tt.until, tt.sel)
		switch {
		case tt.want == nil:
			if !errors.Is(err, repository.ErrNotFound) || rec != nil {
				t.Errorf("%s: %v, %v", tt.name, rec, err)
			}
			if strings.HasPrefix(tt.name, "too early") && !strings.Contains(err.Error(), "the first is "+full.ID.Short()) {
				t.Errorf("%s: %v does not name the first", tt.name, err)
			}
		case err != nil || rec.ID != tt.want.ID || len(skipped) > 0:
			t.Errorf("%s: %v (%v), skipped %q, want %s", tt.name, rec, err, skipped, tt.want.ID.Short())
		}
	}
	// The log is restored upon the full backup of the other record.
	back := s.back(log, requester.RestoreRequest{})
	if back.Outcome != requester.Complete || len(back.Chain) != 2 {
		t.Errorf("outcome %v, chain %+v", back.Outcome, back.Chain)
	}
	s.expect("the log", map[string]string{"db/a.dat": "a", "db/1.log": "1", "db/2.log": "2"})
}
