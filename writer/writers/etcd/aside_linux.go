package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sombra-backup/sombra/vss"
	"golang.org/x/sys/unix"
)

// aside is what was there before a restore: the files of the database and the log,
// moved into a directory beside theirs, so that each move is one rename; one with a
// number for each restore that has not succeeded yet. Their own directories stay,
// with the owner and mode that they have. A file there keeps what PostRestore, in
// another process and perhaps after more restores, must know.
type aside struct {
	home   string  // the directory of the data
	places []place // the directories whose files are put aside
	state  asideState
}

// place is a directory with files of the server, and where they are put aside.
type place struct {
	dir  string
	in   string // the directory in which the one for things put aside is
	name string // of the directory there
}

func (c config) asidePlaces() []place {
	log := place{c.walDir(), c.Directory, "wal"}
	if c.WAL != "" {
		log.in = c.WAL
	}
	return []place{{filepath.Join(c.Directory, "member", "snap"), c.Directory, "snap"}, log}
}

type asideState struct {
	// Running: a server ran, and Command is how it was started.
	Running bool    `json:"running"`
	Command command `json:"command,omitzero"`
	// Number is that of the last restore.
	Number int `json:"number"`
	// Session is that of the last restore: another one, which has put nothing
	// aside, puts nothing back.
	Session vss.GUID `json:"session,omitzero"`
	// Live: a server ran on what the last restore put aside.
	Live bool `json:"live,omitempty"`
	// More: a restore has ended after which another follows.
	More bool `json:"more,omitempty"`
}

const stateName = "state.json"

// maxState bounds the state's file: a command line and an environment.
const maxState = 4 << 20

func (a *aside) file() string { return filepath.Join(a.home, asideName, stateName) }

func newAside(c config) *aside { return &aside{home: c.Directory, places: c.asidePlaces()} }

// openAside finds what an earlier restore, or an earlier event of this one, put
// aside; nil if there is nothing.
func openAside(c config) (*aside, error) {
	a := newAside(c)
	fd, err := unix.Open(a.file(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: a.file(), Err: err}
	}
	f := os.NewFile(uintptr(fd), a.file())
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err == nil {
		err = json.Unmarshal(b, &a.state)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.file(), err)
	}
	return a, nil
}

// write keeps the state, durably.
func (a *aside) write() error {
	b, err := json.Marshal(a.state)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(a.file()+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(a.file()+".new", a.file())
	}
	return errors.Join(err, syncDir(filepath.Dir(a.file())))
}

// dir is where the last restore keeps what was in a place.
func (a *aside) dir(p place) string {
	return filepath.Join(p.in, asideName, strconv.Itoa(a.state.Number), p.name)
}

// put moves what is there aside, beside what earlier restores that failed have put
// there, and makes the directories that are missing. The state is written first:
// what ends in between is found by it.
func (a *aside) put() error {
	a.state.Number++
	for _, p := range a.places {
		for _, dir := range []string{p.dir, a.dir(p)} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
	}
	if err := a.write(); err != nil {
		return err
	}
	for _, p := range a.places {
		if err := move(p.dir, a.dir(p)); err != nil {
			return err
		}
	}
	return nil
}

// putBack is the reverse, for a restore that restored nothing.
func (a *aside) putBack() error {
	for _, p := range a.places {
		if err := move(a.dir(p), p.dir); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(p.in, asideName, strconv.Itoa(a.state.Number))); err != nil {
			return err
		}
	}
	if a.state.Number--; a.state.Number > 0 {
		return a.write() // what an earlier one has put there stays
	}
	return a.remove()
}

// move renames all that is in a directory into another.
func move(from, to string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == asideName {
			continue
		}
		if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(from), syncDir(to))
}

// remove removes all that was put aside. The state goes last.
func (a *aside) remove() error {
	for i := len(a.places) - 1; i >= 0; i-- {
		dir := filepath.Join(a.places[i].in, asideName)
		for n := range a.state.Number + 1 {
			if err := os.RemoveAll(filepath.Join(dir, strconv.Itoa(n))); err != nil {
				return err
			}
		}
	}
	for i := len(a.places) - 1; i >= 0; i-- {
		if err := os.RemoveAll(filepath.Join(a.places[i].in, asideName)); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
