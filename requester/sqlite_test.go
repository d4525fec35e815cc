//go:build linux

package requester_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

// TestSQLiteUnderLoad backs up a directory with a database that is written to
// all the time, and gets back one instant of it.
func TestSQLiteUnderLoad(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) { sqliteUnderLoad(t, mode) })
	}
}

func sqliteUnderLoad(t *testing.T, mode string) {
	w := newWorld(t)
	w.write("readme", "beside it")
	file := w.path("app.db")
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode("+mode+")&_pragma=busy_timeout(20000)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("create table t(n integer primary key, pad text)"); err != nil {
		t.Fatal(err)
	}
	var acked atomic.Int64
	var failed atomic.Value
	stop := make(chan struct{})
	var client sync.WaitGroup
	client.Go(func() {
		for n := int64(1); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := db.Exec("insert into t values(?, ?)", n, strings.Repeat("x", 200)); err != nil {
				failed.Store(err)
				return
			}
			acked.Store(n)
		}
	})
	for acked.Load() < 20 && failed.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	w.opts.Kinds = testKinds
	w.opts.Options.Paths = []string{w.dir}
	before := acked.Load()
	res := w.backup(requester.Request{Paths: []string{w.dir}})
	after := acked.Load()
	close(stop)
	client.Wait()
	db.Close()
	if err, ok := failed.Load().(error); ok {
		t.Fatalf("a client's write failed: %v", err)
	}
	if res.Outcome != requester.Complete || len(res.Components) == 0 || res.Components[0].Level != session.LevelApp.String() {
		t.Fatalf("outcome %v, components %+v: %s %+v", res.Outcome, res.Components, leftOut(res.LeftOut), res.Failures)
	}
	t.Logf("held %v", res.Receipt.Hold)
	w.wipe()
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Complete {
		t.Fatalf("restore: outcome %v: %s %+v %q", back.Outcome, leftOut(back.LeftOut), back.Failures, back.Warnings)
	}
	db, err = sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var check string
	var count, last int64
	if err := db.QueryRow("pragma integrity_check").Scan(&check); err != nil || check != "ok" {
		t.Errorf("integrity: %q, %v", check, err)
	}
	if err := db.QueryRow("select count(*), max(n) from t").Scan(&count, &last); err != nil {
		t.Fatal(err)
	}
	if count != last || last < before || last > after+1 {
		t.Errorf("%d rows up to %d; %d were acknowledged before the backup and %d after it", count, last, before, after)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "app.db-shm")); err == nil && mode == "delete" {
		t.Error("a shared memory file was restored")
	}
}
