package repository

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// replacing is a store that does not promise who of two Puts of a name wins.
type replacing struct{ store.Store }

func (replacing) MayReplace() bool { return true }

// lateReplacing is a replacing that is known to be one when something was put.
type lateReplacing struct {
	store.Store
	put atomic.Bool
}

func (s *lateReplacing) MayReplace() bool { return s.put.Load() }

func (s *lateReplacing) Put(ctx context.Context, name string, data []byte) error {
	s.put.Store(true)
	return s.Store.Put(ctx, name, data)
}

func TestPruneRefusesAStoreThatShowsThatItReplaces(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, st)
	b := begin(t, r, nil)
	addFile(t, b, "file", randomData(60_000, 1))
	commit(t, b, testInfo())
	if _, err := r.on(&lateReplacing{Store: st}).Prune(t.Context(), PruneOptions{}, func(Problem) {}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("prune: %v, want ErrUnsupported", err)
	}
}

// TestPruneNeedsAStoreThatRefusesWhatIsThere: where names can be taken twice
// nobody can say whether a backup or a prune was first.
func TestPruneNeedsAStoreThatRefusesWhatIsThere(t *testing.T) {
	st := mem.New()
	r := newTestRepository(t, replacing{st})
	b := begin(t, r, nil)
	addFile(t, b, "file", randomData(60_000, 1))
	commit(t, b, testInfo())
	if _, err := r.Prune(t.Context(), PruneOptions{}, func(Problem) {}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("prune: %v, want ErrUnsupported", err)
	}
	if _, err := r.Prune(t.Context(), PruneOptions{DryRun: true}, func(Problem) {}); err != nil {
		t.Errorf("what prune would do: %v", err)
	}
}
