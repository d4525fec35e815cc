package postgres

import (
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writertest"
)

// TestConformance runs the suite with the writer in a process of its own, that of
// the cluster's owner. All checks share a cluster, in which the numbers go on.
func TestConformance(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{Logs: true})
	writertest.Run(t, func(t *testing.T) *writertest.Subject {
		w, kill, err := c.host()
		if err != nil {
			t.Fatal(err)
		}
		before := c.slots()
		return &writertest.Subject{
			Writer: w,
			Kill:   kill,
			Again:  func() (writer.Writer, func() error, error) { return c.host() },
			Load:   func() (writertest.Load, error) { return c.load() },
			Check:  c.check,
			Truncated: func() (bool, error) {
				now := c.slots()
				changed := now != before
				before = now
				return changed, nil
			},
		}
	})
	c.amcheck()
}
