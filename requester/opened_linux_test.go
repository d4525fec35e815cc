package requester_test

import (
	"os"
	"testing"

	"github.com/sombra-backup/sombra/requester"
)

// TestBytesAreSavedWithTheAttributesOfTheirOwnFile: another file takes a name after
// it was listed, as whoever may write in the directory can have it. Its bytes must
// not get the mode of the listed one, nor become those of that one's other names.
func TestBytesAreSavedWithTheAttributesOfTheirOwnFile(t *testing.T) {
	w := newWorld(t)
	w.write("alone", "was here")
	w.write("l1", "two names")
	w.must(os.Link(w.path("l1"), w.path("l2")))
	w.must(os.Link(w.path("l1"), w.path("l3")))
	w.must(os.Chmod(w.path("alone"), 0o755|os.ModeSetuid))
	w.must(os.Chmod(w.path("l1"), 0o755|os.ModeSetuid))
	res, _ := w.backupWhile("/data", func() {
		for _, n := range []string{"alone", "l1"} {
			w.write("other/new", "of another")
			w.must(os.Chmod(w.path("other/new"), 0o600))
			w.must(os.Rename(w.path("other/new"), w.path(n)))
		}
	})
	if res.Outcome != requester.Complete {
		t.Fatalf("%v %+v", res.Outcome, res.Failures)
	}
	w.wipe()
	if back := w.restore(res.Record, requester.RestoreRequest{}); back.Outcome != requester.Complete {
		t.Fatalf("restore: %v %+v", back.Outcome, back.Failures)
	}
	for n, want := range map[string]struct {
		mode os.FileMode
		text string
	}{
		"alone": {0o600, "of another"},
		"l1":    {0o600, "of another"},
		"l2":    {0o755 | os.ModeSetuid, "two names"},
		"l3":    {0o755 | os.ModeSetuid, "two names"},
	} {
		info, err := os.Lstat(w.path(n))
		w.must(err)
		text, err := os.ReadFile(w.path(n))
		w.must(err)
		if info.Mode() != want.mode || string(text) != want.text {
			t.Errorf("%s: %v %q, want %v %q", n, info.Mode(), text, want.mode, want.text)
		}
	}
	two, err := os.Stat(w.path("l2"))
	w.must(err)
	three, err := os.Stat(w.path("l3"))
	w.must(err)
	if !os.SameFile(two, three) {
		t.Error("l2 and l3 are no longer names of one file")
	}
}
