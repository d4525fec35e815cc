package repository

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// TestEachTreeHasAStateOfItsOwn: backups of different names do not replace each
// other's state, and of many those made last are kept.
func TestEachTreeHasAStateOfItsOwn(t *testing.T) {
	ctx, st := t.Context(), mem.New()
	open := writeOnlyMachine(t, newTestRepository(t, st), st)
	agent := open()
	backUp := func(name, path string) *Record {
		t.Helper()
		base, err := agent.LocalRecord(ctx, name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		b, err := agent.Begin(ctx, BeginOptions{Base: base, StateOf: name})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Abort()
		addFile(t, b, path, []byte("content of "+path))
		rec := commit(t, b, testInfo())
		if err := b.LocalState(); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	dir := agent.localDir()
	last := map[string]ID{}
	var names []string
	for i := range MaxLocalStates + 3 {
		name := fmt.Sprintf("%064x", i)
		names = append(names, name)
		last[name] = backUp(name, fmt.Sprintf("tree/%d", i)).ID
		// File systems' clocks make steps.
		old := time.Now().Add(time.Duration(i-100) * time.Minute)
		if err := os.Chtimes(filepath.Join(dir, name, stateKeyName), old, old); err != nil {
			t.Fatal(err)
		}
	}
	last[names[5]] = backUp(names[5], "tree/again").ID
	agent = open()
	for i, name := range names {
		rec, err := agent.LocalRecord(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		want := last[name]
		if i < 3 { // dropped: the newest is next best
			want = last[names[5]]
		}
		if rec.ID != want {
			t.Errorf("the state of tree %d is of %s, want %s", i, rec.ID.Short(), want.Short())
		}
		if _, err := rec.Table().Lookup(ctx, "/", fmt.Sprintf("tree/%d", i)); (err == nil) != (i >= 3 && i != 5) {
			t.Errorf("tree %d: %v", i, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != MaxLocalStates {
		t.Errorf("%d states are left, %v; want %d", len(entries), err, MaxLocalStates)
	}
	for _, e := range entries {
		if files := dirFiles(t, filepath.Join(dir, e.Name())); len(files) != 2 {
			t.Errorf("%d files are left in %s", len(files), e.Name())
		}
	}
	for _, bad := range []string{"..", "a/b", "x", fmt.Sprintf("%065x", 1)} {
		if _, err := agent.LocalRecord(ctx, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("a state called %q: %v", bad, err)
		}
		if _, err := agent.Begin(ctx, BeginOptions{StateOf: bad}); !errors.Is(err, ErrInvalid) {
			t.Errorf("a backup of a state called %q: %v", bad, err)
		}
	}
}
