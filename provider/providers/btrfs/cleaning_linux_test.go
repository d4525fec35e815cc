package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/extents"
	"github.com/sombra-backup/sombra/vss"
)

// deleteOne deletes a subvolume of which much is left to remove: a snapshot from
// which nearly all has changed since.
func deleteOne(t *testing.T, root *os.File) {
	t.Helper()
	write := func(text string) {
		for i := range 4000 {
			must(t, os.WriteFile(filepath.Join(root.Name(), fmt.Sprint("file", i)), []byte(strings.Repeat(text, 3000)), 0o600))
		}
		must(t, wake(root)) // what is deleted from here on waits up to 30 s for the cleaner
	}
	write("a")
	must(t, snapshot(int(root.Fd()), int(root.Fd()), "old"))
	write("b")
	must(t, destroy(int(root.Fd()), "old"))
}

func beingRemoved(t *testing.T, root *os.File) int {
	t.Helper()
	r, err := extents.RemovalOf(root)
	must(t, err)
	return r.Subvolumes
}

// TestDeletedSubvolumesAreGoneBeforeTheHold: the file system's cleaner makes every
// commit beside it long, so that it is woken and waited for.
func TestDeletedSubvolumesAreGoneBeforeTheHold(t *testing.T) {
	voltest.Need(t, "btrfs")
	v := voltest.Btrfs(t, 1<<30)
	root, err := os.Open(v.Root)
	must(t, err)
	defer root.Close()
	if n := beingRemoved(t, root); n != 0 {
		t.Fatalf("%d deleted subvolumes on a new file system", n)
	}
	prepare := func() *making {
		s, err := New().BeginPrepare(t.Context(), requestFor(v.Root, vss.NewGUID()))
		must(t, err)
		t.Cleanup(func() { must(t, s.Abort(context.Background())) })
		return s.(*making)
	}

	deleteOne(t, root)
	s := prepare()
	t.Logf("before EndPrepare %d are being removed", beingRemoved(t, root))
	must(t, s.EndPrepare(t.Context()))
	if n := beingRemoved(t, root); n != 0 {
		t.Errorf("%d deleted subvolumes are left to remove after EndPrepare", n)
	}
	deleteOne(t, root) // somebody, between the two
	must(t, s.Refresh(t.Context()))
	if n := beingRemoved(t, root); n != 0 {
		t.Errorf("%d deleted subvolumes are left to remove after Refresh", n)
	}
	if c := finish(t, s); c.Note != "" {
		t.Errorf("notes %q, and all was removed", c.Note)
	}
}

// TestDeletedSubvolumeThatIsOpenIsNotWaitedFor: the cleaner does not begin with it,
// nor does it cost the hold anything.
func TestDeletedSubvolumeThatIsOpenIsNotWaitedFor(t *testing.T) {
	voltest.Need(t, "btrfs")
	v := voltest.Btrfs(t, 1<<30)
	root, err := os.Open(v.Root)
	must(t, err)
	defer root.Close()
	old := filepath.Join(v.Root, "old")
	voltest.Subvolume(t, old)
	open, err := os.Create(filepath.Join(old, "file"))
	must(t, err)
	defer open.Close()
	must(t, destroy(int(root.Fd()), "old"))

	c := cleaning{patience: maxCleaning}
	must(t, c.await(t.Context(), root))
	if n := beingRemoved(t, root); n != 1 {
		t.Fatalf("%d deleted subvolumes are left, want the one with the open file", n)
	}
	if c.note != "" || c.patience < maxCleaning/2 {
		t.Errorf("it is waited for as long as %v, and noted %q", maxCleaning-c.patience, c.note)
	}
	before := c.patience
	must(t, c.await(t.Context(), root)) // that of Refresh
	if before-c.patience >= noProgress {
		t.Errorf("it is waited for again: %v", before-c.patience)
	}

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	c = cleaning{patience: maxCleaning}
	if err := c.await(canceled, root); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while it waits: %v", err)
	}

	short, cancel := context.WithTimeout(t.Context(), 2*noProgress-100*time.Millisecond)
	defer cancel()
	c = cleaning{patience: maxCleaning}
	if must(t, c.await(short, root)); c.note == "" {
		t.Error("notes nothing when half of the step's time is over")
	}

	s, err := New().BeginPrepare(t.Context(), requestFor(v.Root, vss.NewGUID()))
	must(t, err)
	s.(*making).cleaning.patience = 0
	must(t, s.EndPrepare(t.Context()))
	if c := finish(t, s); !strings.Contains(c.Note, "a deleted subvolume was still being removed") {
		t.Errorf("notes %q of a removal that could not be waited for", c.Note)
	}
	must(t, s.Abort(t.Context()))
}

func finish(t *testing.T, s provider.Snapshot) provider.Copied {
	t.Helper()
	must(t, s.PreCommit(t.Context()))
	must(t, s.Commit(t.Context()))
	c, err := s.PostCommit(t.Context())
	must(t, err)
	return c
}
