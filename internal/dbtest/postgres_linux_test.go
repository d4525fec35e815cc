package dbtest_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
)

// What was committed survives a stop and a kill; the log may lie elsewhere.
func TestPostgresStopsIsKilledAndStartsAgain(t *testing.T) {
	ctx := t.Context()
	dir, err := dbtest.Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := dbtest.StartPostgres(ctx, dbtest.PostgresOptions{Dir: filepath.Join(dir, "data"), WALDir: filepath.Join(dir, "wal")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	if to, err := os.Readlink(filepath.Join(p.Dir, "pg_wal")); err != nil || to != filepath.Join(dir, "wal") {
		t.Errorf("pg_wal leads to %q, %v", to, err)
	}
	if err := p.Exec(ctx, "CREATE TABLE t (n int)"); err != nil {
		t.Fatal(err)
	}
	for n, end := range []func() error{p.Stop, p.Kill, p.Stop} {
		if err := p.Exec(ctx, "INSERT INTO t VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		pids, err := p.Processes()
		if err != nil || len(pids) < 5 {
			t.Fatalf("processes %v, %v", pids, err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if p.Alive() {
			t.Fatal("it still runs")
		}
		if err := p.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if got := count(ctx, t, p); got != n+1 {
			t.Fatalf("%d rows after %d inserts", got, n+1)
		}
	}
	if out, err := p.Run(ctx, "pg_amcheck", "--install-missing", "--all"); err != nil {
		t.Error(out, err)
	}
}

func count(ctx context.Context, t *testing.T, p *dbtest.Postgres) int {
	t.Helper()
	conn, err := p.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var n int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
