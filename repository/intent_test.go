package repository

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// sleepyStore has some of the intents put deleted before anything is asked of
// them, as a prune does whose clock says that they are stale: their Puts began
// long before they ended.
type sleepyStore struct {
	store.Store
	gone    func(n int) bool
	intents int
}

func (s *sleepyStore) Put(ctx context.Context, name string, data []byte) error {
	err := s.Store.Put(ctx, name, data)
	if err == nil && strings.HasPrefix(name, prefixIntents) {
		if s.gone(s.intents) {
			err = s.Store.Delete(ctx, name)
		}
		s.intents++
	}
	return err
}

// A backup whose intent a prune found stale, and deleted, before it heard of its
// time was silent: it looks at everything anew, and commits. Which of its intents
// it was does not matter.
func TestAnIntentThatIsDeletedAsStaleMakesTheBackupLookAnew(t *testing.T) {
	ctx := t.Context()
	for at := range 4 {
		st := &sleepyStore{Store: mem.New(), gone: func(int) bool { return false }}
		r := newTestRepository(t, st)
		st.gone, st.intents = func(n int) bool { return n == at }, 0
		b := begin(t, r, nil)
		addFile(t, b, "file", randomData(5000, 1))
		rec, err := b.Commit(ctx, testInfo())
		if err != nil {
			t.Fatalf("intent %d is gone: %v", at, err)
		}
		// The first, two that name the record; and if it was silent another
		// first, and two that name the new record.
		if want := []int{4, 6, 6, 3}[at]; st.intents != want {
			t.Errorf("intent %d is gone: %d intents were put, want %d", at, st.intents, want)
		}
		if files := readTree(t, rec); files["file"] != string(randomData(5000, 1)) {
			t.Errorf("intent %d is gone: the file differs", at)
		}
		if _, problems := check(t, r, CheckOptions{ReadData: true}); len(problems) != 0 {
			t.Errorf("intent %d is gone: check says %+v", at, problems)
		}
	}
	// Who is never heard of gives up.
	st := &sleepyStore{Store: mem.New(), gone: func(int) bool { return false }}
	r := newTestRepository(t, st)
	st.gone = func(int) bool { return true }
	if _, err := r.Begin(ctx, BeginOptions{}); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("no intent stays, and a backup began: %v", err)
	}
	if _, err := r.Prune(ctx, PruneOptions{}, nil); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("no intent stays, and a prune knows the time: %v", err)
	}
}
