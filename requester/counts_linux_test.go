package requester_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/requester"
)

// TestFilesAreCountedAlikeEverywhere: in a backup, in one that takes over, in the
// record, in a dry run, in a restore and in one that finds all in place.
func TestFilesAreCountedAlikeEverywhere(t *testing.T) {
	w := newWorld(t)
	w.write("one", "1")
	w.write("dir/two", "22")
	w.must(os.Link(w.path("one"), w.path("again")))
	w.must(os.Link(w.path("one"), w.path("dir/third")))
	w.must(os.Symlink("one", w.path("link")))
	w.must(unix.Mkfifo(w.path("pipe"), 0o600))
	time.Sleep(young)
	first, second := w.backup(w.paths()), w.backup(w.paths())
	if second.Totals.Unchanged != 4 {
		t.Errorf("%d files were taken over", second.Totals.Unchanged)
	}
	if got := second.Record.Totals; got.Files != 4 || got.Bytes != 5 {
		t.Errorf("the record has %d files, %d bytes", got.Files, got.Bytes)
	}
	all := map[string]requester.Totals{"backup": first.Totals, "second backup": second.Totals,
		"dry run": w.restore(second.Record, requester.RestoreRequest{DryRun: true}).Totals}
	w.wipe()
	all["restore"] = w.restore(second.Record, requester.RestoreRequest{}).Totals
	again := w.restore(second.Record, requester.RestoreRequest{}).Totals
	all["restore in place"] = again
	for what, got := range all {
		if got.Files != 4 || got.Bytes != 5 || got.Others != 2 {
			t.Errorf("%s: %+v, want 4 files, 5 bytes, 2 others", what, got)
		}
	}
	if again.Unchanged != 4 {
		t.Errorf("%d files were found in place", again.Unchanged)
	}
}
