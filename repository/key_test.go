package repository

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// opensWith says whether the password opens the repository, and with what key.
func opensWith(t *testing.T, st store.Store, password string) (r *Repository, ok bool) {
	t.Helper()
	r, err := Open(t.Context(), st, []byte(password), testOptions())
	if err != nil && !errors.Is(err, ErrWrongPassword) {
		t.Fatal(err)
	}
	return r, err == nil
}

func TestKeysAreAddedListedAndRemoved(t *testing.T) {
	ctx := t.Context()
	for name, st := range bothStores(t) {
		t.Run(name, func(t *testing.T) {
			r := newTestRepository(t, st)
			k, err := r.AddKey(ctx, []byte("second"), KeyOptions{Label: "laptop"})
			if err != nil {
				t.Fatal(err)
			}
			w, err := r.AddKey(ctx, []byte("third"), KeyOptions{WriteOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			second, ok := opensWith(t, st, "second")
			if !ok || second.WriteOnly() {
				t.Fatal("the added key does not open")
			}
			if third, ok := opensWith(t, st, "third"); !ok || !third.WriteOnly() {
				t.Fatal("the write-only key does not open as one")
			}
			keys, err := second.Keys(ctx)
			if err != nil || len(keys) != 3 {
				t.Fatalf("%d keys, %v", len(keys), err)
			}
			for _, got := range keys {
				if got.Current != (got.ID == k.ID) || got.WriteOnly != (got.ID == w.ID) || (got.Label == "laptop") != (got.ID == k.ID) || got.Created.IsZero() {
					t.Errorf("%+v", got)
				}
			}
			if err := r.RemoveKey(ctx, k.ID, false); err != nil {
				t.Fatal(err)
			}
			if _, ok := opensWith(t, st, "second"); ok {
				t.Error("the removed key opens")
			}
			if err := r.RemoveKey(ctx, k.ID, false); !errors.Is(err, ErrNotFound) {
				t.Errorf("removed twice: %v", err)
			}
		})
	}
}

func TestWhatWouldLockTheOwnerOutIsRefused(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	r := newTestRepository(t, st)
	keys, err := r.Keys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	own := keys[0].ID
	if _, err := r.AddKey(ctx, []byte("agent"), KeyOptions{WriteOnly: true}); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveKey(ctx, own, true); !errors.Is(err, ErrLastKey) {
		t.Errorf("the last full key: %v", err)
	}
	agent, _ := opensWith(t, st, "agent")
	if err := agent.RemoveKey(ctx, own, true); !errors.Is(err, ErrWriteOnly) {
		t.Errorf("removed by a write-only key: %v", err)
	}
	if _, err := agent.AddKey(ctx, []byte("x"), KeyOptions{}); !errors.Is(err, ErrWriteOnly) {
		t.Errorf("a full key made by a write-only one: %v", err)
	}
	second, err := r.AddKey(ctx, []byte("second"), KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveKey(ctx, own, false); !errors.Is(err, ErrKeyInUse) {
		t.Errorf("the key in use: %v", err)
	}
	for password, o := range map[string]KeyOptions{"second": {WriteOnly: true}, string(testPassword): {}, "agent": {}} {
		if _, err := r.AddKey(ctx, []byte(password), o); !errors.Is(err, ErrPasswordTaken) {
			t.Errorf("the password %q twice: %v", password, err)
		}
	}
	for _, o := range []KeyOptions{{Label: "\xff"}, {Label: strings.Repeat("x", MaxName+1)}} {
		if _, err := r.AddKey(ctx, []byte("x"), o); !errors.Is(err, ErrInvalid) {
			t.Errorf("the label %.9q: %v", o.Label, err)
		}
	}
	if _, err := r.AddKey(ctx, nil, KeyOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an empty password: %v", err)
	}
	if err := r.RemoveKey(ctx, own, true); err != nil {
		t.Errorf("the key in use, another being there: %v", err)
	}
	if again, ok := opensWith(t, st, "second"); !ok {
		t.Error("nothing opens")
	} else if err := again.RemoveKey(ctx, second.ID, true); !errors.Is(err, ErrLastKey) {
		t.Errorf("then the last: %v", err)
	}
}

// TestAPasswordChangeThatStopsAnywhereLeavesOneThatOpens: at every call of the
// store in turn the change fails for good; one of the two passwords opens.
func TestAPasswordChangeThatStopsAnywhereLeavesOneThatOpens(t *testing.T) {
	ctx := t.Context()
	for _, writeOnly := range []bool{false, true} {
		reached := map[string]bool{}
		for stop := 1; ; stop++ {
			st := mem.New()
			r := newTestRepository(t, st)
			if _, err := r.AddKey(ctx, []byte("old"), KeyOptions{WriteOnly: writeOnly, Label: "l"}); err != nil {
				t.Fatal(err)
			}
			r, _ = opensWith(t, st, "old")
			dying := &dyingStore{Store: st, left: stop}
			r.store = dying
			k, err := r.ChangePassword(ctx, []byte("new"))
			byOld, oldOpens := opensWith(t, st, "old")
			byNew, newOpens := opensWith(t, st, "new")
			if !oldOpens && !newOpens {
				t.Fatalf("stopped at call %d: no password opens", stop)
			}
			for _, r := range []*Repository{byOld, byNew} {
				if r != nil && r.WriteOnly() != writeOnly {
					t.Fatalf("stopped at call %d: the kind changed", stop)
				}
			}
			if err == nil {
				if oldOpens || !newOpens || !k.Current || k.Label != "l" || k.WriteOnly != writeOnly {
					t.Fatalf("changed: old opens %t, new opens %t, %+v", oldOpens, newOpens, k)
				}
				break
			}
			reached[dying.last] = true
		}
		for _, op := range []string{"read", "stat", "list", "put", "delete"} {
			if !reached[op] {
				t.Errorf("no change was stopped at a %s", op)
			}
		}
	}
}

// dyingStore fails for good after a number of calls.
type dyingStore struct {
	store.Store
	left int
	last string
}

var errDied = errors.New("the store died")

func (s *dyingStore) dead(op string) error {
	if s.left--; s.left > 0 {
		return nil
	}
	if s.left == 0 {
		s.last = op
	}
	return errDied
}

func (s *dyingStore) Put(ctx context.Context, name string, data []byte) error {
	if err := s.dead("put"); err != nil {
		return err
	}
	return s.Store.Put(ctx, name, data)
}

func (s *dyingStore) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if err := s.dead("read"); err != nil {
		return 0, err
	}
	return s.Store.ReadAt(ctx, name, p, off)
}

func (s *dyingStore) Stat(ctx context.Context, name string) (store.Info, error) {
	if err := s.dead("stat"); err != nil {
		return store.Info{}, err
	}
	return s.Store.Stat(ctx, name)
}

func (s *dyingStore) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	if err := s.dead("list"); err != nil {
		return err
	}
	return s.Store.List(ctx, prefix, f)
}

func (s *dyingStore) Delete(ctx context.Context, name string) error {
	if err := s.dead("delete"); err != nil {
		return err
	}
	return s.Store.Delete(ctx, name)
}

// TestTwoThatRemoveEachOthersKeyLeaveOne: whatever the order of the two
// deletions and the looks that follow, a full key is left.
func TestTwoThatRemoveEachOthersKeyLeaveOne(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	r := newTestRepository(t, st)
	first, _ := r.Keys(ctx)
	second, err := r.AddKey(ctx, []byte("second"), KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other, _ := opensWith(t, st, "second")
	// The other one's deletion happens between the first one's look at the
	// slots and its own deletion.
	r.store = &beforeDelete{Store: st, do: func() {
		if err := other.RemoveKey(ctx, first[0].ID, false); err != nil {
			t.Error(err)
		}
	}}
	if err := r.RemoveKey(ctx, second.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, ok := opensWith(t, st, string(testPassword)); !ok {
		t.Error("no key is left")
	}
}

type beforeDelete struct {
	store.Store
	do func()
}

func (s *beforeDelete) Delete(ctx context.Context, name string) error {
	s.do()
	return s.Store.Delete(ctx, name)
}

// TestADamagedSlotIsNamedAndHidesNoOther: what anyone can put below keys/ keeps
// nobody from seeing and using his own.
func TestADamagedSlotIsNamedAndHidesNoOther(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	r := newTestRepository(t, st)
	junk := []byte("junk")
	name := slotName(hashObject(junk))
	if err := st.Put(ctx, name, junk); err != nil {
		t.Fatal(err)
	}
	keys, err := r.Keys(ctx)
	if len(keys) != 1 || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if _, err := r.AddKey(ctx, []byte("another"), KeyOptions{}); err != nil {
		t.Error(err)
	}
}
