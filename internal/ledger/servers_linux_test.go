package ledger_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/ledger"
	"github.com/sombra-backup/sombra/internal/voltest"
)

// server is one that can be killed and started again.
type server interface {
	Start(ctx context.Context) error
	Kill() error
	Close() error
}

// TestWhatAServerAcknowledgedOutlivesItsKilling, which is what the ledger takes
// for granted of each store: else a backup's copy could lack it too, and nobody
// would be to blame.
func TestWhatAServerAcknowledgedOutlivesItsKilling(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, dir string) (server, ledger.Place, error){
		"PostgreSQL": func(t *testing.T, dir string) (server, ledger.Place, error) {
			need(t, filepath.Join(dbtest.PostgresBin, "postgres"))
			s, err := dbtest.StartPostgres(t.Context(), dbtest.PostgresOptions{Dir: dir})
			if err != nil {
				return nil, ledger.Place{}, err
			}
			return s, ledger.Place{Name: "store", Kind: "postgres", Where: s.DSN("postgres", "postgres")}, nil
		},
		"MariaDB": func(t *testing.T, dir string) (server, ledger.Place, error) {
			need(t, "mariadbd")
			s, err := dbtest.StartMariaDB(t.Context(), dbtest.MariaDBOptions{Dir: dir})
			if err != nil {
				return nil, ledger.Place{}, err
			}
			dsn, err := s.DSN("mysql")
			return s, ledger.Place{Name: "store", Kind: "mysql", Where: dsn}, err
		},
		"Redis": func(t *testing.T, dir string) (server, ledger.Place, error) {
			need(t, dbtest.RedisBin)
			s, err := dbtest.StartRedis(t.Context(), dbtest.RedisOptions{Dir: dir, AppendOnly: true, Lines: []string{"appendfsync always"}})
			if err != nil {
				return nil, ledger.Place{}, err
			}
			return s, ledger.Place{Name: "store", Kind: "redis", Where: s.Socket}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			scratch, err := dbtest.Scratch("")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(scratch) })
			s, place, err := start(t, filepath.Join(scratch, "data"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			outlives(t, s, place)
		})
	}
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		voltest.Skip(t, "%s is not installed", program)
	}
}

// outlives kills the server under load and reads it when it is started again.
func outlives(t *testing.T, s server, place ledger.Place) {
	t.Helper()
	h := ledger.History{Log: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(h.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	const clients = 4
	l := ledger.Load{Places: []ledger.Place{place}, Clients: clients, Log: log}
	done := make(chan error)
	go func() { done <- l.Run(context.WithoutCancel(t.Context()), nil) }()
	for end := time.Now().Add(time.Minute); h.Len() < 200; time.Sleep(time.Millisecond) {
		if err := h.Update(); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatal("the clients commit nothing")
		}
	}
	err = errors.Join(s.Kill(), s.Start(t.Context()), h.Update())
	if err != nil {
		t.Fatal(err)
	}
	if <-done == nil {
		t.Error("no client noticed that the server was killed")
	}
	killed := time.Now()
	if err := h.Update(); err != nil {
		t.Fatal(err)
	}
	store, err := ledger.Open(place)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	held, err := store.Read(t.Context(), clients)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range held {
		n := h.Acked("store", i, killed)
		if got.Count != got.Last || got.Last < n || got.Last > n+1 {
			t.Errorf("client %d: %d numbers up to %d, and %d was the last acknowledged", i, got.Count, got.Last, n)
		}
	}
}
