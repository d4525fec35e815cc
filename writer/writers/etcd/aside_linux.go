package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer/kept"
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
	// Number is that of the last restore, Before of the one before it that did not
	// end either, 0 if there is none.
	Number int `json:"number"`
	Before int `json:"before,omitempty"`
	// Own are the numbers of the last restore and of those before it that have not
	// ended, since a server ran here last: what they have put aside is removed when one
	// succeeds. Others stay.
	Own []int `json:"own,omitempty"`
	// Whole: all was restored, and the server is being started. One that runs then is
	// no reason to keep what was put aside.
	Whole bool `json:"whole,omitempty"`
	// Session is that of the last restore: another one, which has put nothing
	// aside, puts nothing back.
	Session vss.GUID `json:"session,omitzero"`
	// Live: a server ran on what the last restore put aside.
	Live bool `json:"live,omitempty"`
	// More: a restore has ended after which another follows.
	More bool `json:"more,omitempty"`
	// Seal is how the files looked when More was noted: a server that was started and
	// stopped again since leaves others.
	Seal string `json:"seal,omitempty"`
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
	return filepath.Join(numbered(p, a.state.Number), p.name)
}

// put moves what is there aside, beside what earlier restores that failed have put
// there, and makes the directories that are missing. The state is written first:
// what ends in between is found by it.
func (a *aside) put() error {
	a.state.Before = a.state.Number
	for a.state.Number++; a.taken(); a.state.Number++ {
	}
	a.state.Own, a.state.Whole = append(a.state.Own, a.state.Number), false
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
	}
	if a.state.Before == 0 {
		_, err := a.remove()
		a.state.Number = 0
		return err
	}
	if err := a.removeNumber(a.state.Number); err != nil {
		return err
	}
	a.state.Own = slices.DeleteFunc(a.state.Own, func(n int) bool { return n == a.state.Number })
	a.state.Number, a.state.Before = a.state.Before, 0
	return a.write() // what an earlier one has put there stays
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

// taken tells whether a restore before this one has put something aside under the
// number.
func (a *aside) taken() bool {
	for _, p := range a.places {
		if st, err := os.Lstat(numbered(p, a.state.Number)); err == nil && st.IsDir() {
			return true
		}
	}
	return false
}

// numbered is the directory of one restore beside a place.
func numbered(p place, n int) string { return filepath.Join(p.in, asideName, strconv.Itoa(n)) }

func (a *aside) removeNumber(n int) error {
	for _, p := range a.places {
		if err := os.RemoveAll(numbered(p, n)); err != nil {
			return err
		}
	}
	return nil
}

// remove removes what this restore has put aside, and those before it that did not end
// and after which no server ran, the state last, and tells where there is something left
// of others.
func (a *aside) remove() (left []string, err error) {
	for _, n := range a.state.Own {
		if err := a.removeNumber(n); err != nil {
			return nil, err
		}
	}
	for _, file := range []string{a.file() + ".new", a.file()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, p := range a.places {
		at := filepath.Join(p.in, asideName)
		err := os.Remove(at)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !slices.Contains(left, at) {
			left = append(left, at)
		}
	}
	return left, nil
}

// fingerprint tells how what a server would load looks.
func (a *aside) fingerprint() (string, error) {
	var dirs []string
	for _, p := range a.places {
		dirs = append(dirs, p.dir)
	}
	return kept.Fingerprint(dirs, func(string) bool { return true })
}

// unused makes sure that no server has written since the last operation of a chain.
func (a *aside) unused() error {
	if a.state.Seal == "" {
		return nil
	}
	now, err := a.fingerprint()
	if err == nil && now != a.state.Seal {
		err = fmt.Errorf("the files of %s are not as the chain's last restore left them: a server was started on them and stopped again, or a restore was broken off; they are left as they are; restore the chain again from its full backup, which puts them aside", a.home)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
