package coordinator_test

import (
	"os"
	"testing"

	"github.com/sombra-backup/sombra/session"
)

// TestKeeperIsStartedForWhatItLooksAfter: the first copy that is begun, or writers
// that are about to be held; a log backup, whose set has neither, pays for none.
func TestKeeperIsStartedForWhatItLooksAfter(t *testing.T) {
	there := func() bool { return children(t, os.Getpid())["test-keeper"] != 0 }
	t.Run("volumes", func(t *testing.T) {
		r := newRig(t, "a")
		must(t, r.to("StartSnapshotSet"))
		if there() {
			t.Error("a set without volumes has a keeper")
		}
		must(t, r.from("StartSnapshotSet", "AddToSnapshotSet"))
		if !there() {
			t.Error("a shadow copy is begun, and no keeper would delete it")
		}
	})
	t.Run("writers held", func(t *testing.T) {
		r := newRig(t, "a")
		h := r.holder()
		if there() {
			t.Error("nobody is held yet, and there is a keeper")
		}
		_, err := h.HoldWriters(deadline(t), session.Hold{}, nil)
		must(t, err)
		if !there() {
			t.Error("writers are held, and no keeper would let them go")
		}
		must(t, h.ThawWriters(deadline(t), nil))
	})
}
