package sftp

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// Options says how a server is reached. The zero value is right for most.
type Options struct {
	// Command is the program that makes connections and the first of its
	// arguments; empty means ssh.
	Command []string
	// Reader and Writer wrap what comes and goes, to limit it; nil means not.
	Reader func(io.Reader) io.Reader
	Writer func(io.WriteCloser) io.WriteCloser
	// Stall is how long a connection may stand still while somebody waits for
	// it; zero means two minutes.
	Stall time.Duration
	// Least is how many bytes must move in that time, or a call be done, lest
	// the connection counts as standing still: a server could keep a call for
	// ever by a byte now and then. Zero means 16 KiB.
	Least int64
}

// Location is a URL taken apart.
type Location struct {
	// Host is a name that ssh knows, User and Port are empty unless given.
	Host, User, Port string
	// Dir is the folder: absolute, or as seen from where a login begins.
	Dir string
	// NoSync says that the server is known not to make data durable on demand.
	NoSync bool
}

// Parse reads a URL of the form sftp://user@host:port/path. A path that begins
// with /~/ is seen from where a login begins. The parameter fsync can be no.
func Parse(u *url.URL) (Location, error) {
	l := Location{Host: u.Hostname(), Port: u.Port()}
	fail := func(text string) (Location, error) { return Location{}, store.Permanent(errors.New(text)) }
	if u.User != nil {
		if _, has := u.User.Password(); has {
			return fail("a location holds no password: log in with a key, of an agent or a file, as ssh is configured to")
		}
		l.User = u.User.Username()
	}
	if l.Host == "" || u.Fragment != "" || u.Opaque != "" || len(strings.Trim(u.Path, "/")) == 0 {
		return fail("it is not of the form sftp://user@host/path")
	}
	for _, s := range []string{l.Host, l.User} {
		// Nothing that ssh, or a shell in its configuration, could take for
		// something else than a name.
		if strings.HasPrefix(s, "-") || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("'\"`$\\;&<>|(){}", r) }) {
			return fail("the host or the user is not a name")
		}
	}
	if n, err := strconv.ParseUint(l.Port, 10, 16); l.Port != "" && (err != nil || n == 0) {
		return fail("the port is not a number up to 65535")
	}
	if strings.ContainsRune(u.Path, 0) || len(u.Path) > 2048 {
		return fail("the path is longer than 2048 bytes, or has a zero in it")
	}
	l.Dir = path.Clean(u.Path)
	if rest, ok := strings.CutPrefix(l.Dir, "/~"); ok && (rest == "" || rest[0] == '/') {
		l.Dir = path.Clean("." + rest)
		if strings.HasPrefix(l.Dir, "..") {
			return fail("the path leads out of where a login begins")
		}
	}
	v, err := store.Parameters(u, "fsync")
	if err != nil {
		return Location{}, err
	}
	if v["fsync"] != "" && v["fsync"] != "no" {
		return fail("fsync can only be no")
	}
	l.NoSync = v["fsync"] == "no"
	return l, nil
}

// Open gives the store in a folder of a server. The connection is made when it
// is first needed, and made anew when it was lost. Close ends it.
func Open(l Location, o Options) *Store {
	if len(o.Command) == 0 {
		o.Command = []string{"ssh"}
	}
	if o.Reader == nil {
		o.Reader = func(r io.Reader) io.Reader { return r }
	}
	if o.Writer == nil {
		o.Writer = func(w io.WriteCloser) io.WriteCloser { return w }
	}
	if o.Stall <= 0 {
		o.Stall = 2 * time.Minute
	}
	if o.Least <= 0 {
		o.Least = 16 << 10
	}
	return &Store{l: l, o: o, dialing: make(chan struct{}, 1), made: map[string]bool{}}
}

// OpenURL is Parse and Open for a store.Registry.
func OpenURL(u *url.URL, o Options) (store.Store, error) {
	l, err := Parse(u)
	if err != nil {
		return nil, err
	}
	return Open(l, o), nil
}

// Store keeps objects in a folder of a server. Use Open.
type Store struct {
	l Location
	o Options

	// replaces says that the server cannot be trusted not to replace.
	replaces atomic.Bool

	// dialing is held while a connection is made.
	dialing chan struct{}
	current atomic.Pointer[conn]

	// made holds the folders known to exist and to be durable.
	mu   sync.Mutex
	made map[string]bool
}

// Close ends the connection. A later call makes another one.
func (s *Store) Close() error {
	if c := s.current.Load(); c != nil {
		c.close()
	}
	return nil
}

// MayReplace implements store.Replacing: without hard links the server's rename
// must refuse a name that is taken, and many do not. It is known when there is a
// connection or, where the server has hard links and its file system has none,
// when something was put.
func (s *Store) MayReplace() bool { return s.replaces.Load() }

// Concurrency implements store.Concurrent.
func (s *Store) Concurrency() int { return 4 }

func (s *Store) path(name string) string { return path.Join(s.l.Dir, name) }

// String names the place.
func (s *Store) String() string { return fmt.Sprintf("%s on %s", s.l.Dir, s.l.Host) }
