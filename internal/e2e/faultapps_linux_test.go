package e2e

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/requester"
)

// faultApp is an application whose data is backed up, as the table of faults
// needs it: what can be done to it, and what must be true of it afterwards.
type faultApp interface {
	// name is its writer's in the table, volume the root of the file system
	// that its data is on.
	name() string
	volume() string
	// owner is the user as whom its writer host runs.
	owner() uint32
	// claims reports whether a component of a backup is its own.
	claims(c requester.ComponentResult) bool
	// pids are its processes. Without any it does not run.
	pids() []int
	// write commits a number and returns when that is acknowledged. Numbers
	// come in order; one may come again if nobody knows what became of it.
	write(ctx context.Context, n int64) error
	// start starts it, kill ends all its processes at once, with SIGKILL, and
	// waits for their end.
	start() error
	kill() error
	// copied starts it on a copy of its data below dir, checks that this is
	// sound and has every number up to the last, and gives that.
	copied(dir string) (last int64, err error)
	// held lists what its writer, or whoever works for it, may leave only while
	// a backup goes on: pauses, locks, sessions, slots.
	held() []string
	// fails makes its writer's event fail, or says why that cannot be brought
	// about; mend takes that back. Both are called while no backup runs.
	fails(event string) (mend func(), whyNot string)
}

// The users whose the data of applications is, so that their writer hosts can
// be told apart.
const (
	uidSQLite uint32 = 12001
	uidShop   uint32 = 12002
)

// clientApp is an application that is one process of this test program, which is
// told by its standard input what to write.
type clientApp struct {
	title string
	root  string // of its volume
	uid   uint32
	args  []string
	copy  func(dir string) (int64, error)
	own   func(requester.ComponentResult) bool
	pause func() []string
	veto  func(event string) (func(), string)

	mu      sync.Mutex
	running *clientRun // nil: it does not run
}

// clientRun is such a process.
type clientRun struct {
	cmd     *exec.Cmd
	in, out *os.File
	answers chan string // closed when the process has ended
}

func (a *clientApp) name() string                               { return a.title }
func (a *clientApp) volume() string                             { return a.root }
func (a *clientApp) owner() uint32                              { return a.uid }
func (a *clientApp) claims(c requester.ComponentResult) bool    { return a.own(c) }
func (a *clientApp) copied(dir string) (int64, error)           { return a.copy(dir) }
func (a *clientApp) fails(event string) (mend func(), w string) { return a.veto(event) }

func (a *clientApp) held() []string {
	if a.pause == nil {
		return nil
	}
	return a.pause()
}

func (a *clientApp) now() *clientRun {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}

func (a *clientApp) pids() []int {
	if r := a.now(); r != nil {
		return []int{r.cmd.Process.Pid}
	}
	return nil
}

func (a *clientApp) start() error {
	theirs, in, err := os.Pipe()
	if err != nil {
		return err
	}
	out, answers, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", a.args...)
	cmd.Args[0] = os.Args[0]
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.uid, Gid: a.uid}}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, answers, os.Stderr
	err = cmd.Start()
	theirs.Close()
	answers.Close()
	if err != nil {
		return err
	}
	r := &clientRun{cmd, in, out, make(chan string, 1)}
	go func() {
		defer close(r.answers)
		for s := bufio.NewScanner(out); s.Scan(); {
			r.answers <- s.Text()
		}
	}()
	a.mu.Lock()
	a.running = r
	a.mu.Unlock()
	return nil
}

func (a *clientApp) kill() error {
	r := a.now()
	if r == nil {
		return nil
	}
	err := r.cmd.Process.Kill()
	r.cmd.Wait() // that it was killed is no error
	r.in.Close()
	a.mu.Lock()
	a.running = nil
	a.mu.Unlock()
	return err
}

func (a *clientApp) write(ctx context.Context, n int64) error {
	r := a.now()
	if r == nil {
		return errors.New("the application does not run")
	}
	if _, err := fmt.Fprintln(r.in, n); err != nil {
		return err
	}
	for {
		select {
		case text, ok := <-r.answers:
			if !ok {
				return errors.New("the application has ended")
			}
			if got, why, _ := strings.Cut(text, " "); got != strconv.FormatInt(n, 10) {
				continue // to one that was not waited for
			} else if why != "" {
				return errors.New(why)
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// appClient is such a process: "sqlite DB" or "file FILE LOCK PAUSE". It answers
// each number when it is stored, or with the reason why it is not.
func appClient(args []string) error {
	var store func(n int64) error
	var err error
	switch args[0] {
	case "sqlite":
		store, err = sqliteStore(args[1])
	case "file":
		store, err = fileStore(args[1], args[2], args[3])
	default:
		err = fmt.Errorf("no application %q", args[0])
	}
	if err != nil {
		return err
	}
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		n, err := strconv.ParseInt(s.Text(), 10, 64)
		if err != nil {
			return err
		}
		if err := store(n); err != nil {
			fmt.Println(n, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println(n)
		}
	}
	return nil
}

func sqliteStore(path string) (func(int64) error, error) {
	db, err := openDB(path, "wal")
	if err != nil {
		return nil, err
	}
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS ledger (n INTEGER PRIMARY KEY)"); err != nil {
		return nil, err
	}
	return func(n int64) error {
		_, err := db.Exec("INSERT OR IGNORE INTO ledger VALUES (?)", n)
		return err
	}, nil
}

// numberLine is one number in a file of numbers.
const numberLine = "%020d\n"

// fileStore writes numbers to a file, each at its place, under a lock (if it is
// given one), and not while there is a file that says to pause.
func fileStore(file, lock, pause string) (func(int64) error, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	var l *os.File
	if lock != "" {
		if l, err = os.OpenFile(lock, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
			return nil, err
		}
	}
	return func(n int64) error {
		if l != nil {
			if err := unpaused(l, pause); err != nil {
				return err
			}
			defer unix.Flock(int(l.Fd()), unix.LOCK_UN)
		}
		line := fmt.Appendf(nil, numberLine, n)
		if _, err := f.WriteAt(line, (n-1)*int64(len(line))); err != nil {
			return err
		}
		return f.Sync()
	}, nil
}

// unpaused takes the lock when there is no pause.
func unpaused(lock *os.File, pause string) error {
	for {
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
			return err
		}
		if _, err := os.Lstat(pause); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// numbersIn reads a file of numbers, which must have no gap.
func numbersIn(path string) (last int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for r := bufio.NewReader(f); ; last++ {
		line, err := r.ReadString('\n')
		if err == io.EOF && line == "" {
			return last, nil
		}
		if want := fmt.Sprintf(numberLine, last+1); line != want {
			return last, fmt.Errorf("%s: line %d is %.60q (%v)", path, last+1, line, err)
		}
	}
}

// ledgerIn reads the copy of a database, which must be sound and have no gap.
func ledgerIn(path string) (last int64, err error) {
	if _, err := os.Stat(path); err != nil {
		return 0, err
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var check string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		return 0, fmt.Errorf("%s: integrity check %q, %v", path, check, err)
	}
	var count int64
	if err := db.QueryRow("SELECT count(*), coalesce(max(n), 0) FROM ledger").Scan(&count, &last); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	if count != last {
		return 0, fmt.Errorf("%s: %d rows up to %d", path, count, last)
	}
	return last, nil
}

// ownDir makes a directory that belongs to a user.
func ownDir(dir string, uid uint32) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chown(dir, int(uid), int(uid))
}

// newSQLiteApp is a program that writes to a SQLite database, in WAL mode. Its
// writer is found by itself.
func newSQLiteApp(root string) (*clientApp, error) {
	dir := filepath.Join(root, "sqlite")
	db := filepath.Join(dir, "app.db")
	return &clientApp{title: "sqlite", root: root, uid: uidSQLite, args: []string{"test-app", "sqlite", db},
		copy: func(to string) (int64, error) { return ledgerIn(filepath.Join(to, db)) },
		own:  func(c requester.ComponentResult) bool { return strings.Contains(strings.ToLower(c.Writer), "sqlite") },
		veto: func(string) (func(), string) {
			return nil, "it has nothing of its own that could fail: what fails is its database (killed, hung) or its volume"
		}}, ownDir(dir, uidSQLite)
}
