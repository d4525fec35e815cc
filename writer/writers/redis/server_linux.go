package redis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sombra-backup/sombra/writer/writers/redis/resp"
	"golang.org/x/sys/unix"
)

// server is a live connection to a server. Its methods may be called by several
// goroutines.
type server struct {
	mu   sync.Mutex
	conn *resp.Conn
}

// answerLimit is how long a server may take to let a client in, and to tell of
// itself while nobody is held: longer than any command should take.
const answerLimit = 10 * time.Second

// connect connects to the server of a configuration and makes sure that it is the
// one of the directory.
func connect(ctx context.Context, c config) (*server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, fmt.Errorf("the server does not answer within %v", answerLimit))
	defer cancel()
	var errs []error
	for _, at := range c.endpoints() {
		s, err := connectTo(ctx, c, at)
		if err == nil {
			return s, nil
		}
		errs = append(errs, fmt.Errorf("connect to %v: %w", at, err))
	}
	if len(errs) == 0 {
		return nil, errNoServer
	}
	return nil, errors.Join(errs...)
}

// endpoints are where the server may be reached: where it was configured to be, or
// else where its process listens.
func (c *config) endpoints() []endpoint {
	switch {
	case c.Socket != "":
		return []endpoint{{"unix", c.Socket}}
	case c.Address != "":
		return []endpoint{{"tcp", c.Address}}
	case c.Found != nil:
		return c.Found.Listens
	}
	return nil
}

func connectTo(ctx context.Context, c config, at endpoint) (*server, error) {
	conn, err := resp.Dial(ctx, at.Network, at.Address)
	if err != nil {
		return nil, err
	}
	s := &server{conn: conn}
	if err := s.logIn(ctx, c); err != nil {
		return nil, errors.Join(err, s.close())
	}
	dir, err := s.setting(ctx, "dir")
	if err == nil {
		err = sameAs(dir, c.Directory)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// sameAs makes sure that a directory the server names is the one looked after.
func sameAs(dir, want string) error {
	var a, b unix.Stat_t
	if err := unix.Stat(dir, &a); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if err := unix.Stat(want, &b); err != nil {
		return &fs.PathError{Op: "stat", Path: want, Err: err}
	}
	if a.Dev != b.Dev || a.Ino != b.Ino {
		return fmt.Errorf("the data of the server that answers is in %s, not in %s", dir, want)
	}
	return nil
}

// logIn authenticates where the server asks for it: with the password file if
// there is one, else with the password in the server's own configuration file.
func (s *server) logIn(ctx context.Context, c config) error {
	if c.PasswordFile != "" {
		p, err := readSecret(c.PasswordFile)
		if err != nil {
			return err
		}
		return s.auth(ctx, c.Username, p)
	}
	_, err := s.do(ctx, "PING")
	var refused resp.Error
	if !errors.As(err, &refused) || !strings.HasPrefix(string(refused), "NOAUTH") {
		return err
	}
	var args []string
	if c.Found != nil {
		args = c.Found.Args
	}
	files, ferr := settingsFiles(c.Directory, args)
	for _, f := range files {
		if p, ok := password(f.all); ok {
			err := s.auth(ctx, c.Username, p)
			if err == nil {
				return nil
			}
			ferr = errors.Join(ferr, fmt.Errorf("with the password in %s: %w", f.path, err))
		}
	}
	return errors.Join(errors.New("it asks for a password, and none was found in its configuration file; name a password_file in the configuration of the writer"), ferr)
}

func (s *server) auth(ctx context.Context, user, password string) error {
	args := []string{password}
	if user != "" {
		args = []string{user, password}
	}
	_, err := s.do(ctx, "AUTH", args...)
	return err
}

func (s *server) do(ctx context.Context, command string, args ...string) (resp.Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.Do(ctx, command, args...)
}

// doAll sends commands together and gives the replies of all. Its error is the
// first of a command.
func (s *server) doAll(ctx context.Context, commands ...[]string) ([]resp.Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range commands {
		if err := s.conn.Send(ctx, c[0], c[1:]...); err != nil {
			return nil, err
		}
	}
	var first error
	replies := make([]resp.Reply, len(commands))
	for i, c := range commands {
		r, err := s.conn.Receive(ctx, c[0])
		if err != nil && first == nil {
			first = fmt.Errorf("%s: %w", c[0], err)
		}
		replies[i] = r
	}
	return replies, first
}

func (s *server) close() error { return s.conn.Close() }

// setting asks for one setting.
func (s *server) setting(ctx context.Context, name string) (string, error) {
	r, err := s.do(ctx, "CONFIG", "GET", name)
	if err != nil {
		return "", fmt.Errorf("CONFIG GET %s: %w", name, err)
	}
	if len(r.List) != 2 || r.List[0].Text != name {
		return "", fmt.Errorf("CONFIG GET %s: the server has no such setting", name)
	}
	return r.List[1].Text, nil
}

// info is what the server says of itself.
type info map[string]string

func (s *server) info(ctx context.Context, sections ...string) (info, error) {
	r, err := s.do(ctx, "INFO", sections...)
	if err != nil {
		return nil, fmt.Errorf("INFO: %w", err)
	}
	return parseInfo(r.Text), nil
}

func parseInfo(text string) info {
	all := make(info)
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok && key[0:min(1, len(key))] != "#" {
			all[key] = value
		}
	}
	return all
}

// number gives a number that the server must tell.
func (i info) number(name string) (int64, error) {
	n, err := strconv.ParseInt(i[name], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("INFO: %s is %.40q, which is no number", name, i[name])
	}
	return n, nil
}

// numbers gives several.
func (i info) numbers(names ...string) ([]int64, error) {
	all := make([]int64, len(names))
	for k, name := range names {
		n, err := i.number(name)
		if err != nil {
			return nil, err
		}
		all[k] = n
	}
	return all, nil
}

// calls tells how often a command was called since the server started, or since
// the statistics were reset.
func (i info) calls(command string) int64 {
	for field := range strings.SplitSeq(i["cmdstat_"+command], ",") {
		if n, ok := strings.CutPrefix(field, "calls="); ok {
			calls, _ := strconv.ParseInt(n, 10, 64) // 0 is none
			return calls
		}
	}
	return 0
}

// keys counts the keys of all databases, and those of them that never expire.
func (i info) keys() (all, lasting int64) {
	for name, value := range i {
		if !strings.HasPrefix(name, "db") {
			continue
		}
		var keys, expires int64
		if _, err := fmt.Sscanf(value, "keys=%d,expires=%d", &keys, &expires); err == nil {
			all += keys
			lasting += keys - expires
		}
	}
	return all, lasting
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool {
	err := unix.Kill(pid, 0)
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return false
	}
	b, err := readProc(pid, "stat")
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}
