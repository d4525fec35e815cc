package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// rowBytes is about what a row of the database takes.
const rowBytes = 1024

// openDB opens the database as an application does that must lose nothing: with
// a write-ahead log, and synchronous=FULL.
func openDB(path string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: path}
	u.RawQuery = "_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// fillMain makes the database: rows of random bytes, as many as make the size.
func fillMain(args []string) error {
	size, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	db, err := openDB(args[0])
	if err != nil {
		return err
	}
	for _, s := range []string{
		"CREATE TABLE item (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, body BLOB NOT NULL)",
		"CREATE TABLE entry (id INTEGER PRIMARY KEY, who TEXT, at INTEGER)",
	} {
		if _, err := db.Exec(s); err != nil {
			return err
		}
	}
	for rows := size / rowBytes; rows > 0; rows -= 100_000 {
		// 993 bytes and what SQLite adds let four rows fill a page.
		_, err := db.Exec("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT ?) INSERT INTO item (n, body) SELECT 0, randomblob(993) FROM c",
			min(rows, 100_000))
		if err != nil {
			return err
		}
	}
	return errors.Join(db.Close(), os.WriteFile(args[0]+".done", nil, 0o600))
}

// loadMain is the load: transactions without a pause, each of which changes five
// rows anywhere in the database and adds one.
func loadMain(args []string) error {
	db, err := openDB(args[0])
	if err != nil {
		return err
	}
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	return serveSamples(func() (sample, error) {
		begun := time.Now()
		_, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE")
		got := time.Now()
		if err == nil {
			err = change(ctx, conn)
		}
		return sample{Wait: got.Sub(begun), Whole: time.Since(begun)}, err
	})
}

func change(ctx context.Context, conn *sql.Conn) error {
	var rows int64
	if err := conn.QueryRowContext(ctx, "SELECT max(id) FROM item").Scan(&rows); err != nil {
		return err
	}
	for range 5 {
		if _, err := conn.ExecContext(ctx, "UPDATE item SET n = n + 1 WHERE id = ?", 1+rand.Int64N(rows)); err != nil {
			return err
		}
	}
	_, err := conn.ExecContext(ctx, "INSERT INTO entry (who, at) VALUES ('load', ?); COMMIT", time.Now().UnixNano())
	return err
}

// retry is how long the control client waits between two tries.
const retry = 200 * time.Microsecond

// controlMain is the control client. It does not leave waiting to SQLite: it
// tries every 0.2 ms until it has the lock, so that what it waits is what it was
// made to wait.
func controlMain(args []string) error {
	db, err := openDB(args[0])
	if err != nil {
		return err
	}
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout=0"); err != nil {
		return err
	}
	// Sleeps are to be as short as asked for.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return err
	}
	return serveSamples(func() (sample, error) {
		s := sample{}
		begun := time.Now()
		for {
			_, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE")
			if err == nil {
				break
			}
			if !isBusy(err) {
				return s, err
			}
			s.Tries++
			pause(retry)
		}
		s.Wait = time.Since(begun)
		_, err := conn.ExecContext(ctx, "INSERT INTO entry (who, at) VALUES ('control', ?); COMMIT", time.Now().UnixNano())
		s.Whole = time.Since(begun)
		pause(retry)
		return s, err
	})
}

func isBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlitelib.SQLITE_BUSY
}

func pause(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil) // being woken early only means trying early
}

// sample is the longest a client waited for the lock, and the longest a whole
// transaction took, since it was last asked.
type sample struct {
	Wait, Whole time.Duration
	Tries       int
	Count       int
}

// serveSamples does transactions for ever, and for each line of standard input
// answers with a sample. It ends with its input.
func serveSamples(transact func() (sample, error)) error {
	var mu sync.Mutex
	var s sample
	failed := make(chan error, 1)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			mu.Lock()
			line, err := json.Marshal(s)
			s = sample{}
			mu.Unlock()
			if err == nil {
				_, err = fmt.Println(string(line))
			}
			if err != nil {
				failed <- err
				return
			}
		}
		failed <- in.Err()
	}()
	for {
		one, err := transact()
		if err != nil {
			return err
		}
		mu.Lock()
		s.Wait, s.Whole, s.Tries = max(s.Wait, one.Wait), max(s.Whole, one.Whole), max(s.Tries, one.Tries)
		s.Count++
		mu.Unlock()
		select {
		case err := <-failed:
			return err
		default:
		}
	}
}

// client is a client in a process of its own.
type client struct {
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Scanner
}

func startClient(role string, args ...string) (*client, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c := &client{cmd: self(role, args...), in: w}
	c.cmd.Stdin = r
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.out = bufio.NewScanner(out)
		err = c.cmd.Start()
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return c, nil
}

// take asks for what was seen since it was last asked.
func (c *client) take() (s sample, err error) {
	if _, err := c.in.WriteString("\n"); err != nil {
		return s, err
	}
	if !c.out.Scan() {
		return s, fmt.Errorf("%s ended: %w", strings.Join(c.cmd.Args[1:2], " "), errors.Join(c.out.Err(), c.cmd.Wait()))
	}
	return s, json.Unmarshal(c.out.Bytes(), &s)
}

// stop ends the client and waits for it.
func (c *client) stop() error {
	c.in.Close()
	return c.cmd.Wait()
}

// self is this program in another role.
func self(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{role}, args...)...)
	cmd.Stderr = os.Stderr
	return cmd
}
