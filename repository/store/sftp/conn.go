package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"

	"github.com/sombra-backup/sombra/repository/store"
)

// conn is one connection: a process of ssh and the protocol over its pipes.
type conn struct {
	client *sftp.Client
	cmd    *exec.Cmd
	stderr *lastWords
	// pending is how many calls wait. period is when the period began in which
	// enough must move, moved how many bytes have.
	pending atomic.Int64
	period  atomic.Int64
	moved   atomic.Int64
	least   int64
	names   *names
	// broken is what the server did that no other try will mend.
	broken atomic.Pointer[error]

	closing sync.Once
	ended   chan struct{}
}

// errStall is why a connection is given up.
var errStall = errors.New("the connection stands still")

// connect gives the connection in use, or makes one.
func (s *Store) connect(ctx context.Context) (*conn, error) {
	select {
	case s.dialing <- struct{}{}:
		defer func() { <-s.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := s.current.Load(); c != nil {
		select {
		case <-c.ended:
		default:
			return c, nil
		}
	}
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := c.client.HasExtension(hardlink); !ok {
		s.replaces.Store(true)
	}
	s.current.Store(c)
	return c, nil
}

// dial starts ssh and waits for the server's first word.
func (s *Store) dial(ctx context.Context) (*conn, error) {
	c := &conn{cmd: exec.Command(s.o.Command[0], s.arguments()...), stderr: &lastWords{}, ended: make(chan struct{}), least: s.o.Least, names: newNames(maxFolder)}
	c.cmd.Stderr = c.stderr
	c.cmd.Env = environment()
	c.cmd.WaitDelay = time.Second
	ownGroup(c.cmd)
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, store.Permanent(fmt.Errorf("start %s: %w", s.o.Command[0], err))
	}
	c.begin()
	go c.monitor(s.o.Stall)
	err = c.call(ctx, func() (err error) {
		c.client, err = sftp.NewClientPipe(watched{s.o.Reader(stdout), c}, s.o.Writer(watchedWriter{stdin, c}), sftp.UseConcurrentWrites(true))
		return err
	})
	if err == nil {
		go func() {
			c.client.Wait()
			c.close()
		}()
		return c, nil
	}
	stdin.Close()
	c.close()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if words := c.stderr.String(); words != "" {
		err = errors.New(words)
		if isFinal(words) {
			err = store.Permanent(err)
		}
	}
	return nil, fmt.Errorf("connect to %s: %w", s.l.Host, err)
}

// arguments are those of ssh. The first value of an option counts there, so that
// what was given with the command comes before ours, and both before the
// user's configuration.
func (s *Store) arguments() []string {
	args := append([]string{}, s.o.Command[1:]...)
	args = append(args, "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oServerAliveInterval=30", "-oServerAliveCountMax=4",
		"-oClearAllForwardings=yes", "-oPermitLocalCommand=no")
	if s.l.Port != "" {
		args = append(args, "-p", s.l.Port)
	}
	if s.l.User != "" {
		args = append(args, "-l", s.l.User)
	}
	return append(args, "-s", "--", s.l.Host, "sftp")
}

// environment is this process's without our own secrets.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SOMBRA_") {
			env = append(env, v)
		}
	}
	return env
}

// isFinal says whether what ssh says will be the same next time.
func isFinal(words string) bool {
	for _, w := range []string{"Permission denied", "Host key verification failed", "host key is known", "IDENTIFICATION HAS CHANGED",
		"subsystem request failed", "Name or service not known", "Bad configuration", "command-line", "Too many authentication failures"} {
		if strings.Contains(words, w) {
			return true
		}
	}
	return false
}

// begin begins a period in which enough must move.
func (c *conn) begin() {
	c.moved.Store(0)
	c.period.Store(time.Now().UnixNano())
}

// move counts bytes that moved; enough of them begin a new period.
func (c *conn) move(n int) {
	if n > 0 && c.moved.Add(int64(n)) >= c.least {
		c.begin()
	}
}

// monitor gives the connection up if somebody waits and too little moves. Calls
// that begin when nobody waits, and calls that end, begin a new period.
func (c *conn) monitor(stall time.Duration) {
	ticker := time.NewTicker(stall/4 + 1)
	defer ticker.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-ticker.C:
			if c.pending.Load() > 0 && time.Since(time.Unix(0, c.period.Load())) > stall {
				c.stderr.Write([]byte(errStall.Error() + "\n"))
				c.close()
			}
		}
	}
}

// grace is how long a call may go on after its context is done, before the
// connection is given up to end it.
const grace = time.Second

// call makes a call of the protocol. The protocol cannot take calls back: to end
// one whose context is done the connection is closed, if it does not end soon.
func (c *conn) call(ctx context.Context, f func() error) error {
	if c.pending.Add(1) == 1 {
		c.begin()
	}
	defer func() {
		c.pending.Add(-1)
		c.begin()
	}()
	done := make(chan struct{})
	defer close(done)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-done:
		case <-time.After(grace):
			c.close()
		}
	})
	defer stop()
	return f()
}

// close ends the connection and what waits for it.
func (c *conn) close() {
	c.closing.Do(func() {
		close(c.ended)
		killGroup(c.cmd)
		c.cmd.Wait()
	})
}

// watched notes when bytes came.
type watched struct {
	io.Reader
	c *conn
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.c.move(n)
	if reason := w.c.names.came(p[:n]); reason != nil {
		w.c.broken.CompareAndSwap(nil, &reason)
		go w.c.close() // which waits for this reader
		return 0, reason
	}
	return n, err
}

// watchedWriter notes when bytes went.
type watchedWriter struct {
	io.WriteCloser
	c *conn
}

func (w watchedWriter) Write(p []byte) (int, error) {
	w.c.names.goes(p)
	n, err := w.WriteCloser.Write(p)
	w.c.move(n)
	return n, err
}

// lastWords keeps the end of what ssh says.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

func (l *lastWords) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if len(l.text) > 4096 {
		l.text = l.text[len(l.text)-2048:]
	}
	return len(p), nil
}

// String is what ssh said, in one line.
func (l *lastWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.FieldsFunc(string(l.text), func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines, "; ")
}
