package writertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// ledger is an application in this process: clients append numbers to a file,
// one at a time, and to a log.
type ledger struct {
	path, log    string
	turn         chan struct{} // who holds the token may write
	reading      chan struct{} // and who holds this one, read
	acknowledged atomic.Uint64
	reads        atomic.Uint64
	truncated    atomic.Bool
	ahead        bool // acknowledges before it writes
}

func newLedger(t testing.TB) *ledger {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{path: filepath.Join(dir, "ledger"), log: filepath.Join(dir, "log"), turn: make(chan struct{}, 1), reading: make(chan struct{}, 1)}
	for _, path := range []string{l.path, l.log} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func (l *ledger) append(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// check reads the ledger and counts its transactions.
func (l *ledger) check() (uint64, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var n uint64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		v, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil || v != n+1 {
			return 0, fmt.Errorf("after %d comes %q", n, lines.Text())
		}
		n = v
	}
	return n, nil
}

// ledgerLoad is a client and a reader.
type ledgerLoad struct {
	*ledger
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan error
}

func (l *ledger) load() (Load, error) {
	n, err := l.check()
	if err != nil {
		return nil, err
	}
	l.acknowledged.Store(n)
	d := &ledgerLoad{ledger: l, ended: make(chan error, 2)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	go func() { d.ended <- d.write() }()
	go func() { d.ended <- d.read() }()
	return d, nil
}

func (d *ledgerLoad) write() error {
	for d.ctx.Err() == nil {
		n := d.acknowledged.Load() + 1
		if d.ahead && n%2 == 0 {
			d.acknowledged.Store(n)
		}
		select {
		case d.turn <- struct{}{}:
		case <-d.ctx.Done():
			return nil
		}
		err := d.append(d.path, fmt.Sprintln(n))
		if err == nil {
			err = d.append(d.log, "x")
		}
		<-d.turn
		if err != nil {
			return err
		}
		d.acknowledged.Store(n)
		time.Sleep(200 * time.Microsecond)
	}
	return nil
}

func (d *ledgerLoad) read() error {
	for d.ctx.Err() == nil {
		select {
		case d.reading <- struct{}{}:
		case <-d.ctx.Done():
			return nil
		}
		d.reads.Add(1)
		<-d.reading
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (d *ledgerLoad) Acknowledged() uint64 { return d.acknowledged.Load() }
func (d *ledgerLoad) Reads() uint64        { return d.reads.Load() }
func (d *ledgerLoad) Stop() error {
	d.cancel()
	return errors.Join(<-d.ended, <-d.ended)
}

// fault is one way in which a clerk breaks a promise.
type fault string

// clerk is the ledger's writer.
type clerk struct {
	l        *ledger
	fault    fault
	instance vss.GUID
	asked    atomic.Int64
	began    atomic.Bool
	held     atomic.Bool
	aborts   atomic.Int64
	stop     chan struct{} // ends what scribbles in the background
}

func newClerk(l *ledger, f fault) *clerk {
	c := &clerk{l: l, fault: f, instance: vss.NewGUID(), stop: make(chan struct{})}
	if f == "keeps its instance id" {
		c.instance = vss.GUID{1}
	}
	return c
}

func (c *clerk) Describe() writer.Description {
	return writer.Description{Stillness: writer.FilesStill, OutlivesProcess: c.fault == "outlives its process"}
}

func (c *clerk) Identify(context.Context) (*metadata.WriterMetadata, error) {
	id := metadata.Identity{
		InstanceID: c.instance, ClassID: vss.GUID{0xc1, 0xe4}, Name: "Clerk", InstanceName: "ledger",
		Usage: vss.UsageUserData, Source: vss.SourceTransactedDB,
	}
	switch c.fault {
	case "has no usage":
		id.Usage = vss.UsageUndefined
	case "says another thing each time":
		id.InstanceName += fmt.Sprint(c.asked.Add(1))
	}
	m, err := metadata.NewWriterMetadata(id)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(c.l.path)
	return m, errors.Join(
		m.SetRestoreMethod(metadata.RestoreMethod{Method: vss.RestoreMethodIfCanReplace, WriterRestore: vss.WriterRestoreAlways}),
		m.AddComponent(metadata.ComponentInfo{Type: vss.ComponentTypeDatabase, Name: "ledger", Selectable: true}),
		m.AddDatabaseFiles("", "ledger", dir, "ledger", 0),
		m.AddDatabaseLogFiles("", "ledger", dir, "log", 0),
	)
}

func (c *clerk) PrepareForBackup(context.Context, *writer.Event) error {
	c.began.Store(true)
	return nil
}

func (c *clerk) Freeze(ctx context.Context, e *writer.Event) error {
	switch c.fault {
	case "does not hold commits":
		return nil
	case "ignores its limit":
		ctx = context.Background()
	case "comes late":
		if ctx.Err() != nil {
			c.l.turn <- struct{}{}
			return nil
		}
	case "takes what it no longer waits for":
		go func() { c.l.turn <- struct{}{} }()
		<-ctx.Done()
		return vss.Errorf(vss.ErrWriterErrorTimeout, "Freeze", "ledger", "%w", ctx.Err())
	}
	if ctx.Err() == nil {
		select {
		case c.l.turn <- struct{}{}:
			c.held.Store(true)
			return c.frozen(e)
		case <-ctx.Done():
		}
	}
	code := vss.ErrWriterErrorTimeout
	if c.fault == "has codes of its own" {
		code = vss.ErrBadState
	}
	return vss.Errorf(code, "Freeze", "ledger", "%w", ctx.Err())
}

func (c *clerk) frozen(e *writer.Event) error {
	e.Frozen(writer.FreezeReport{LockWait: time.Millisecond})
	switch c.fault {
	case "pauses reads":
		c.l.reading <- struct{}{}
	case "writes while frozen":
		go func() {
			for {
				select {
				case <-c.stop:
					return
				case <-time.After(time.Millisecond):
					c.l.append(c.l.log, "y")
				}
			}
		}()
	}
	return nil
}

func (c *clerk) release() {
	if c.held.CompareAndSwap(true, false) {
		switch c.fault {
		case "pauses reads":
			<-c.l.reading
		case "writes while frozen":
			c.stop <- struct{}{}
		}
		<-c.l.turn
	}
}

func (c *clerk) Thaw(context.Context, *writer.Event) error {
	switch c.fault {
	case "does not thaw":
		return nil
	case "thaws with an error":
		c.release()
		return errors.New("cannot thaw")
	}
	c.release()
	return nil
}

func (c *clerk) Abort(context.Context, *writer.Event) error {
	switch {
	case c.fault == "does not abort":
		return nil
	case c.fault == "aborts once" && c.aborts.Add(1) > 1:
		return errors.New("it was aborted already")
	case c.fault == "aborts only what it began" && !c.began.Load():
		return errors.New("there is nothing to abort")
	case c.fault == "outlives its process":
		return nil
	}
	c.release()
	return nil
}

func (c *clerk) BackupComplete(_ context.Context, e *writer.Event) error {
	for _, comp := range e.Components.Components() {
		ok, known := comp.BackupSucceeded()
		if c.fault == "complains of failures" && known && !ok {
			return errors.New("the backup failed")
		}
		if ok && c.fault != "never truncates" || c.fault == "truncates always" {
			c.l.truncated.Store(true)
		}
	}
	return nil
}

func (c *clerk) BackupShutdown(context.Context, *writer.Event) error {
	if c.fault == "needs a backup to shut down" && !c.began.Load() {
		return errors.New("there was no backup")
	}
	return nil
}

func (c *clerk) PreRestore(context.Context, *writer.Event) error {
	if c.fault == "clears before a restore" {
		return os.WriteFile(c.l.path, nil, 0o600)
	}
	return nil
}

func (c *clerk) PostRestore(context.Context, *writer.Event) error {
	if c.fault == "adds after a restore" {
		n, err := c.l.check()
		if err != nil {
			return err
		}
		return c.l.append(c.l.path, fmt.Sprintln(n+1))
	}
	return nil
}

// ledgerSubject is a ledger with a clerk. Its writer's process is played: what
// the clerk holds is let go when that dies, unless the fault says otherwise.
func ledgerSubject(t *testing.T, f fault) *Subject {
	l := newLedger(t)
	l.ahead = f == "acknowledges what is not there"
	start := func() (writer.Writer, func() error, error) {
		c := newClerk(l, f)
		return c, func() error {
			if f != "holds on after its death" && f != "outlives its process" {
				c.release()
			}
			return nil
		}, nil
	}
	w, kill, _ := start()
	return &Subject{
		Writer: w,
		Kill:   kill,
		Again:  start,
		Load:   l.load,
		Block: func() (func(), error) {
			l.turn <- struct{}{}
			released := new(atomic.Bool)
			return func() {
				if !released.Swap(true) {
					<-l.turn
				}
			}, nil
		},
		Check:     l.check,
		Truncated: func() (bool, error) { return l.truncated.Swap(false), nil },
	}
}
