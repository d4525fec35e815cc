package requester_test

import (
	"errors"
	"os"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/writer"
)

// What a writer did in PreRestore with the directories that are restored into is
// what the restore finds: files go where the names lead then.
func TestRestoreSeesWhatPreRestoreDidWithItsDirectories(t *testing.T) {
	for name, does := range map[string]func(w *world) error{
		"moved aside": func(w *world) error {
			return os.Rename(w.path("data"), w.path("old"))
		},
		"moved aside, and another made": func(w *world) error {
			return errors.Join(os.Rename(w.path("data"), w.path("old")), os.MkdirAll(w.path("data/sub"), 0o700))
		},
		"removed": func(w *world) error {
			return os.RemoveAll(w.path("data"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.write("data/sub/a", "as it was saved")
			w.write("data/sub/deep/b", "as well")
			d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
				return []error{group(m, "", "main", true), files(m, "", "main", w.path("data/sub"), "*", true)}
			})
			w.writers = []*docWriter{d}
			res := w.backup(requester.Request{Paths: []string{w.path("data/sub")}})
			w.write("data/sub/a", "newer")
			w.write("data/sub/deep/b", "newer")
			d = d.again()
			d.on[writer.EventPreRestore] = func(*writer.Event) error { return does(w) }
			w.writers = []*docWriter{d}
			back := w.restore(res.Record, requester.RestoreRequest{Overwrite: requester.OverwriteAlways})
			if back.Outcome != requester.Complete {
				t.Fatalf("outcome %v: %+v %q", back.Outcome, back.Failures, back.Warnings)
			}
			if a, b := w.read("data/sub/a"), w.read("data/sub/deep/b"); a != "as it was saved" || b != "as well" {
				t.Errorf("restored %q and %q", a, b)
			}
			if _, err := os.Stat(w.path("old")); err == nil && w.read("old/sub/a") != "newer" {
				t.Error("what was moved aside was written to")
			}
		})
	}
}
