package sqlite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writertest"
)

// TestConformance runs the suite in the journal modes whose locks and files
// differ. The writer is always in another process: the suite reads the
// database's files, and where it does no lock lasts.
func TestConformance(t *testing.T) {
	for _, mode := range []string{"wal", "delete", "persist"} {
		t.Run(mode, func(t *testing.T) {
			writertest.Run(t, func(t *testing.T) *writertest.Subject { return subject(t, newApp(t, mode)) })
		})
	}
}

func subject(t *testing.T, a *app) *writertest.Subject {
	t.Helper()
	w, kill, err := a.host()
	if err != nil {
		t.Fatal(err)
	}
	return &writertest.Subject{
		Writer: w,
		Kill:   kill,
		Again:  func() (writer.Writer, func() error, error) { return a.host() },
		Load: func() (writertest.Load, error) {
			dir, err := os.MkdirTemp(t.TempDir(), "load-")
			if err != nil {
				return nil, err
			}
			return a.load(filepath.Join(dir, "counters"), "OFF")
		},
		Block: func() (func(), error) {
			b := startChild(t, "block", a.path, "BEGIN IMMEDIATE; UPDATE u SET n = n WHERE n = 1")
			return func() { b.kill() }, nil
		},
		Check: a.check,
	}
}
