package etcd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writertest"
)

// TestConformance runs the suite with the log in its usual place and in another.
func TestConformance(t *testing.T) {
	for name, o := range map[string]func(t *testing.T) dbtest.EtcdOptions{
		"one directory": func(*testing.T) dbtest.EtcdOptions { return dbtest.EtcdOptions{} },
		"log elsewhere": func(t *testing.T) dbtest.EtcdOptions {
			return dbtest.EtcdOptions{WAL: filepath.Join(scratch(t), "logs", "wal")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "one directory" && os.Getenv("SOMBRA_TORTURE") == "" {
				t.Skip("NOT TESTED: the whole suite once more, with SOMBRA_TORTURE=1 only")
			}
			writertest.Run(t, func(t *testing.T) *writertest.Subject { return subject(t, newApp(t, o(t))) })
		})
	}
}

func subject(t *testing.T, a *app) *writertest.Subject {
	t.Helper()
	again := func() (writer.Writer, func() error, error) { return a.host(a.spec(a.found())) }
	w, kill, err := again()
	if err != nil {
		t.Fatal(err)
	}
	return &writertest.Subject{Writer: w, Kill: kill, Again: again, Load: a.load, Check: a.check}
}
