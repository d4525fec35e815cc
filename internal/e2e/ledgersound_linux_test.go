package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/sombra-backup/sombra/internal/dbtest"
)

// sound has each database checked by its own means.
func sound(ctx context.Context, pg *dbtest.Postgres, maria *dbtest.MariaDB, redis *dbtest.Redis, sqlite string) error {
	var all sync.WaitGroup
	var errs [4]error
	all.Go(func() { errs[0] = soundPostgres(ctx, pg) })
	all.Go(func() { errs[1] = maria.Check(ctx) })
	all.Go(func() { errs[2] = soundRedis(ctx, redis.Dir) })
	all.Go(func() { errs[3] = soundSQLite(ctx, sqlite) })
	all.Wait()
	return errors.Join(errs[:]...)
}

// soundPostgres has every table and index of every database checked.
func soundPostgres(ctx context.Context, pg *dbtest.Postgres) error {
	if err := pg.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS amcheck"); err != nil {
		return err
	}
	_, err := pg.Run(ctx, "pg_amcheck", "--all", "--heapallindexed", "--parent-check", "--jobs=1")
	return err
}

// soundRedis has the append-only file checked, and what it begins with.
func soundRedis(ctx context.Context, dir string) error {
	manifests, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.manifest"))
	if err != nil || len(manifests) != 1 {
		return fmt.Errorf("%s: want one manifest of an append-only file, have %q, %v", dir, manifests, err)
	}
	if out, err := exec.CommandContext(ctx, "redis-check-aof", manifests[0]).CombinedOutput(); err != nil {
		return fmt.Errorf("redis-check-aof: %w: %s", err, out)
	}
	snapshots, err := filepath.Glob(filepath.Join(dir, "*.rdb"))
	for _, name := range snapshots {
		if out, e := exec.CommandContext(ctx, "redis-check-rdb", name).CombinedOutput(); e != nil {
			err = errors.Join(err, fmt.Errorf("redis-check-rdb: %w: %s", e, out))
		}
	}
	return err
}

func soundSQLite(ctx context.Context, name string) error {
	db, err := sql.Open("sqlite", "file:"+name)
	if err != nil {
		return err
	}
	defer db.Close()
	var said string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&said); err != nil || said != "ok" {
		return fmt.Errorf("%s: integrity check %q, %v", name, said, err)
	}
	return nil
}
