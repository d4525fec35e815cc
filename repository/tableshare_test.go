package repository

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// TestATableIsSharedThoughEntriesEverywhereChange: where one entry in a hundred
// changed, here and there, much of the file table is not stored again.
func TestATableIsSharedThoughEntriesEverywhereChange(t *testing.T) {
	r := newTestRepository(t, mem.New())
	table := func(base *Record, every, touched int) (*Record, int64) {
		b := begin(t, r, base)
		content := putFile(t, b, []byte("content"))
		for n := range 20_000 {
			at := time.Unix(1_700_000_000+int64(n)*7919, int64(n)*104_729%1e9).UTC()
			e := Entry{Root: "/", Path: fmt.Sprintf("%03d/a name of usual length %06d", n/50, n), Type: Regular, Mode: 0o644, UID: 1000, GID: 1000,
				User: "somebody", Group: "somebody", Size: content.Size(), ModTime: at, AccessTime: at, ChangeTime: at, BirthTime: at,
				Device: 1, Inode: uint64(n + 1), Nlink: 1, Content: content,
				Attrs: map[string]string{"volume": "2f5e7a0c-9e1b-4d57-8d0b-2f1f6a3f0c11", "read": "2026-01-02T03:04:05.678901234Z"}}
			if n%every == touched {
				e.ModTime = at.Add(time.Second)
			}
			if err := b.Add(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		before := b.addedBytes.Load()
		rec := commit(t, b, testInfo())
		return rec, b.addedBytes.Load() - before
	}
	first, whole := table(nil, 100, -1)
	_, again := table(first, 100, -1)
	_, changed := table(first, 100, 37)
	t.Logf("a table of %d bytes; with 1 %% of its entries changed %d of them were stored again", whole, changed)
	if again != 0 {
		t.Errorf("%d bytes of an unchanged table were stored again", again)
	}
	if changed == 0 || changed > whole*6/10 {
		t.Errorf("%d of %d bytes were stored again", changed, whole)
	}
}

// TestATableOfLongPathsComesToATop: a reference to a block has a path in it, and
// a few are more bytes than a block should have.
func TestATableOfLongPathsComesToATop(t *testing.T) {
	r := newTestRepository(t, mem.New())
	b := begin(t, r, nil)
	long := strings.Repeat("directory/", MaxPath/10-1)
	const entries = 300
	for n := range entries {
		if err := b.Add(t.Context(), Entry{Root: "/", Path: fmt.Sprintf("%s%03d", long, n), Type: Fifo}); err != nil {
			t.Fatal(err)
		}
	}
	rec := commit(t, b, testInfo())
	n := 0
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil || e.Path != fmt.Sprintf("%s%03d", long, n) {
			t.Fatalf("entry %d: %v", n, err)
		}
		n++
	}
	if n != entries {
		t.Errorf("%d entries of %d", n, entries)
	}
}
