//go:build linux

package requester_test

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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

// sqliteClient is another program: it commits numbered rows until its input
// ends, and prints each number once it is acknowledged. It cannot live in the
// test's own process, where reading the database's files would drop its locks.
func sqliteClient(dsn string) int {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	var ended atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		ended.Store(true)
	}()
	for n := 1; !ended.Load(); n++ {
		if _, err := db.Exec("insert into t values(?, ?)", n, strings.Repeat("x", 200)); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(n)
	}
	return 0
}

// client is a running sqliteClient.
type client struct {
	acked  atomic.Int64
	failed atomic.Value
	stop   func()
}

func startClient(t *testing.T, dsn string) *client {
	t.Helper()
	cmd := exec.Command(os.Args[0], "test-client", dsn)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &client{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				c.failed.Store(lines.Text())
				continue
			}
			c.acked.Store(n)
		}
	}()
	c.stop = sync.OnceFunc(func() {
		in.Close()
		<-done
		cmd.Wait()
	})
	t.Cleanup(c.stop)
	return c
}

func sqliteUnderLoad(t *testing.T, mode string) {
	w := newWorld(t)
	w.write("readme", "beside it")
	file := w.path("app.db")
	dsn := "file:" + file + "?_pragma=journal_mode(" + mode + ")&_pragma=busy_timeout(20000)"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("create table t(n integer primary key, pad text)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	c := startClient(t, dsn)
	for c.acked.Load() < 20 && c.failed.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	w.opts.Kinds = testKinds
	w.opts.Options.Paths = []string{w.dir}
	before := c.acked.Load()
	res := w.backup(requester.Request{Paths: []string{w.dir}})
	after := c.acked.Load()
	time.Sleep(20 * time.Millisecond) // it goes on
	c.stop()
	if failed := c.failed.Load(); failed != nil {
		t.Fatalf("a client's write failed: %v", failed)
	}
	if c.acked.Load() <= after {
		t.Error("the client did not go on after the backup")
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
