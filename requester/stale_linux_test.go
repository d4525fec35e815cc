package requester_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
)

// muteStore holds back the objects that say that a backup goes on, as long as it
// is muted.
type muteStore struct {
	store.Store
	mute sync.RWMutex
}

func (m *muteStore) Put(ctx context.Context, name string, data []byte) error {
	if strings.HasPrefix(name, "intents/") {
		m.mute.RLock()
		defer m.mute.RUnlock()
	}
	return m.Store.Put(ctx, name, data)
}

// beforeCommit does something once, when all files are stored and the record is
// to be committed.
type beforeCommit struct {
	requester.Reporter
	once sync.Once
	do   func()
}

func (r *beforeCommit) Phase(p requester.Phase) {
	if p == requester.PhaseCommit {
		r.once.Do(r.do)
	}
}

// TestASilentBackupStoresAgainWhatIsGone: a backup of which nothing was heard for
// longer than its intents are valid, and whose base was forgotten and pruned
// meanwhile with all the data, ends with a whole record.
func TestASilentBackupStoresAgainWhatIsGone(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b/c", "b/d"} {
		w.write(name, strings.Repeat(name, 5000))
	}
	time.Sleep(young)
	st := &muteStore{Store: mem.New()}
	o := repository.Options{IntentTTL: time.Second}
	w.useRepository(st, o)
	first := w.backup(w.paths())
	ctx := t.Context()
	rep := &beforeCommit{Reporter: requester.Quiet, do: func() {
		st.mute.Lock()
		defer st.mute.Unlock()
		time.Sleep(2 * o.IntentTTL)
		o.KDF, o.TempDir = repository.KDF{Time: 1, Memory: 64, Threads: 1}, t.TempDir()
		other, err := repository.Open(ctx, st.Store, []byte("secret"), o)
		w.must(err)
		defer other.Close()
		_, err = other.Forget(ctx, []repository.ID{first.Record.ID})
		w.must(err)
		for gone := 0; gone == 0; {
			if ctx.Err() != nil {
				return
			}
			did, err := other.Prune(ctx, repository.PruneOptions{Grace: -1}, func(p repository.Problem) { t.Error(p) })
			w.must(err)
			gone += int(did.Deleted)
		}
	}}
	res, err := requester.Backup(ctx, w.open, w.repo, w.paths(), rep)
	w.must(err)
	if res.Outcome != requester.Complete {
		t.Errorf("the backup is %v", res.Outcome)
	}
	if !strings.Contains(strings.Join(res.Warnings, "\n"), "made again") {
		t.Errorf("it does not say that it was made again: %q", res.Warnings)
	}
	if res.Totals.Files != 3 {
		t.Errorf("%d files, want 3", res.Totals.Files)
	}
	want := w.entries(res.Record)
	w.useRepository(mem.New(), repository.Options{})
	if got := w.entries(w.backup(w.paths()).Record); len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(want), len(got))
	}
	w.useRepository(st.Store, repository.Options{})
	if _, err := w.repo.Check(ctx, repository.CheckOptions{ReadData: true}, func(p repository.Problem) { t.Error(p) }); err != nil {
		t.Error(err)
	}
}
