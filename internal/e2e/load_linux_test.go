package e2e

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// loadClient inserts into a database in any journal mode and notes, in a log,
// when each transaction was begun and acknowledged. It retries nothing itself:
// a write that fails ends it.
func loadClient(args []string) error {
	db, err := openDB(args[0], args[2])
	if err != nil {
		return err
	}
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, at INTEGER)"); err != nil {
		return err
	}
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS late (n INTEGER PRIMARY KEY)"); err != nil {
		return err
	}
	log, err := os.OpenFile(args[1], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		begun := time.Now()
		if _, err := db.Exec("INSERT INTO t VALUES (?, ?)", n, begun.UnixNano()); err != nil {
			fmt.Fprintf(log, "failed %d %v\n", n, err)
			return fmt.Errorf("write %d failed: %w", n, err)
		}
		fmt.Fprintf(log, "%d %d %d\n", n, begun.UnixNano(), time.Now().UnixNano())
		time.Sleep(200 * time.Microsecond)
	}
}

// lateClient does a single write, and prints when it was begun and acknowledged.
func lateClient(args []string) error {
	db, err := openDB(args[0], args[1])
	if err != nil {
		return err
	}
	begun := time.Now()
	if _, err := db.Exec("INSERT INTO late DEFAULT VALUES"); err != nil {
		return err
	}
	fmt.Printf("1 %d %d\n", begun.UnixNano(), time.Now().UnixNano())
	return nil
}

// readClient reads again and again and notes when each read was begun and
// answered.
func readClient(args []string) error {
	db, err := openDB(args[0], args[2])
	if err != nil {
		return err
	}
	log, err := os.OpenFile(args[1], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		var rows int
		begun := time.Now()
		if err := db.QueryRow("SELECT count(*) FROM t").Scan(&rows); err != nil {
			fmt.Fprintf(log, "failed %d %v\n", n, err)
			return fmt.Errorf("read %d failed: %w", n, err)
		}
		fmt.Fprintf(log, "%d %d %d\n", n, begun.UnixNano(), time.Now().UnixNano())
		time.Sleep(5 * time.Millisecond)
	}
}

func openDB(path, mode string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(20000)&_pragma=journal_mode("+mode+")&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// load is a database with a client that writes to it all the time.
type load struct {
	t             *testing.T
	db, log, mode string
	client        *exec.Cmd
}

// newLoad starts the client, with its log outside what is backed up.
func newLoad(t *testing.T, db, mode string) *load {
	t.Helper()
	return newLoadAs(t, db, mode, nil)
}

// newLoadAs starts it as another user.
func newLoadAs(t *testing.T, db, mode string, user *syscall.Credential) *load {
	t.Helper()
	l := &load{t: t, db: db, log: filepath.Join(scratch(t), "acknowledged"), mode: mode}
	if user != nil {
		giveTo(t, filepath.Dir(l.log))
	}
	l.client = childAs(t, user, "test-load", l.db, l.log, mode)
	l.await(30*time.Second, 20)
	return l
}

// transaction is an operation as its client saw it.
type transaction struct {
	n            int64
	begun, acked time.Time
}

// transactions reads what a client has noted; one that failed fails the test.
func transactions(t *testing.T, log string) (list []transaction) {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var n, begun, acked int64
		if !strings.HasSuffix(line, "\n") {
			break // being written
		}
		if _, err := fmt.Sscan(line, &n, &begun, &acked); err != nil {
			t.Fatalf("a client could not go on: %s", line)
		}
		list = append(list, transaction{n, time.Unix(0, begun), time.Unix(0, acked)})
	}
	return list
}

// stop ends the client.
func (l *load) stop() {
	l.client.Process.Kill()
	l.client.Wait()
}

func (l *load) transactions() []transaction { return transactions(l.t, l.log) }

// await waits until some more transactions have been acknowledged.
func (l *load) await(limit time.Duration, more int) {
	l.t.Helper()
	have := len(l.transactions())
	waitFor(l.t, limit, "the client of "+l.db+" writes", func() bool { return len(l.transactions()) >= have+more })
}

// firstAfter is how long after a time the first transaction was acknowledged. It
// waits for that.
func (l *load) firstAfter(at time.Time, limit time.Duration) time.Duration {
	l.t.Helper()
	for {
		list := l.transactions()
		for _, tx := range list {
			if tx.acked.After(at) {
				return tx.acked.Sub(at)
			}
		}
		if time.Since(at) > limit {
			l.t.Fatalf("%s accepts no write within %v", l.db, limit)
		}
		time.Sleep(time.Millisecond)
	}
}

// late starts a client that does one write. What is returned waits for its
// answer.
func (l *load) late() func() transaction {
	l.t.Helper()
	cmd := exec.Command(os.Args[0], "test-late", l.db, l.mode)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { cmd.Process.Kill() })
	return func() (tx transaction) {
		l.t.Helper()
		var begun, acked int64
		if err := cmd.Wait(); err != nil {
			l.t.Fatalf("a write during the hold failed: %v: %s", err, errs.String())
		}
		if _, err := fmt.Sscan(out.String(), &tx.n, &begun, &acked); err != nil {
			l.t.Fatal(err)
		}
		tx.begun, tx.acked = time.Unix(0, begun), time.Unix(0, acked)
		return tx
	}
}

// dbCopy is what the copy of a database below dir holds.
type dbCopy struct{ last, late int64 }

// copied reads the copy, which must be sound and without a gap.
func (l *load) copied(dir string) (c dbCopy) {
	l.t.Helper()
	return readCopy(l.t, filepath.Join(dir, l.db))
}

func readCopy(t *testing.T, path string) (c dbCopy) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var check string
	var count int64
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		t.Fatalf("%s: integrity check %q, %v", path, check, err)
	}
	if err := db.QueryRow("SELECT count(*), coalesce(max(n), 0) FROM t").Scan(&count, &c.last); err != nil {
		t.Fatal(err)
	}
	if count != c.last {
		t.Fatalf("%s: %d rows up to %d", path, count, c.last)
	}
	if err := db.QueryRow("SELECT count(*) FROM late").Scan(&c.late); err != nil {
		t.Fatal(err)
	}
	return c
}

// shows checks that a copy holds all transactions acknowledged before a time,
// and none begun after another.
func (l *load) shows(c dbCopy, before, after time.Time) {
	l.t.Helper()
	for _, tx := range l.transactions() {
		switch {
		case tx.acked.Before(before) && tx.n > c.last:
			l.t.Fatalf("transaction %d was acknowledged before the freeze, and the copy ends with %d", tx.n, c.last)
		case tx.begun.After(after) && tx.n <= c.last:
			l.t.Fatalf("transaction %d was begun after the freeze, and the copy has %d", tx.n, c.last)
		}
	}
}
