package redis

import (
	"context"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writertest"
)

// TestConformance runs the suite with each way in which a server keeps its data.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]dbtest.RedisOptions{
		"append-only file": {AppendOnly: true, Password: "sesame"},
		"RDB file":         {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			writertest.Run(t, func(t *testing.T) *writertest.Subject { return subject(t, newApp(t, o)) })
		})
	}
}

func subject(t *testing.T, a *app) *writertest.Subject {
	t.Helper()
	c := a.configured()
	again := func() (writer.Writer, func() error, error) { return a.host(a.spec(c)) }
	w, kill, err := again()
	if err != nil {
		t.Fatal(err)
	}
	return &writertest.Subject{
		Writer: w, Kill: kill, Again: again, Load: a.load, Check: a.check,
		Block: func() (func(), error) {
			_, err := a.Do(context.Background(), "CLIENT", "PAUSE", "60000", "WRITE")
			return func() { a.Do(context.Background(), "CLIENT", "UNPAUSE") }, err
		},
	}
}
