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

	"golang.org/x/sys/unix"
)

// aside is what was there before a restore, moved into a directory beside it, so
// that each move is one rename; a directory with a number for each restore that has
// not succeeded yet. A file there keeps what PostRestore, in another process and
// perhaps after more restores, must know.
type aside struct {
	places []string // the directories in which things were put aside
	state  asideState
}

type asideState struct {
	// Running: a server ran, and Command is how it was started.
	Running bool    `json:"running"`
	Command command `json:"command,omitzero"`
	// Number is that of the last restore.
	Number int `json:"number"`
	// More: a restore has ended after which another follows.
	More bool `json:"more,omitempty"`
}

const stateName = "state.json"

// maxState bounds the state's file: a command line and an environment.
const maxState = 4 << 20

func (a *aside) file() string { return filepath.Join(a.places[0], asideName, stateName) }

// openAside finds what an earlier restore, or an earlier event of this one, put
// aside; nil if there is nothing.
func openAside(places []string) (*aside, error) {
	a := &aside{places: places}
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
func (a *aside) dir(place string) string {
	return filepath.Join(place, asideName, strconv.Itoa(a.state.Number))
}

// put moves what is there aside, beside what earlier restores that failed have put
// there. The state is written first: what ends in between is found by it.
func (a *aside) put() error {
	a.state.Number++
	for i, place := range a.places {
		if _, err := os.Lstat(place); i > 0 && errors.Is(err, fs.ErrNotExist) {
			continue // there is nothing in it
		}
		if err := os.MkdirAll(a.dir(place), 0o700); err != nil {
			return err
		}
	}
	if err := a.write(); err != nil {
		return err
	}
	return a.move(func(place string) (from, to string) { return place, a.dir(place) })
}

// putBack is the reverse, for a restore that restored nothing: what it has made, such
// as directories, goes.
func (a *aside) putBack() error {
	for i, place := range a.places {
		if err := a.clear(i, place); err != nil {
			return err
		}
	}
	err := a.move(func(place string) (from, to string) { return a.dir(place), place })
	if err != nil {
		return err
	}
	for _, place := range a.places {
		if err := os.Remove(a.dir(place)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if a.state.Number--; a.state.Number > 0 {
		return a.write() // what an earlier one has put there stays
	}
	return a.remove()
}

// clear removes from a place what move would put there.
func (a *aside) clear(i int, place string) error {
	entries, err := os.ReadDir(a.dir(place))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if i == 0 && e.Name() != "member" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(place, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// move renames what is the server's: member in the directory of the data, and all
// in that of the log.
func (a *aside) move(way func(place string) (from, to string)) error {
	for i, place := range a.places {
		from, to := way(place)
		entries, err := os.ReadDir(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() == asideName || i == 0 && e.Name() != "member" {
				continue
			}
			// A directory in its place gives way if it is empty.
			if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
				return err
			}
		}
		if err := errors.Join(syncDir(from), syncDir(to)); err != nil {
			return err
		}
	}
	return nil
}

// remove removes all that was put aside. The state goes last.
func (a *aside) remove() error {
	for i := len(a.places) - 1; i >= 0; i-- {
		dir := filepath.Join(a.places[i], asideName)
		for n := range a.state.Number + 1 {
			if err := os.RemoveAll(filepath.Join(dir, strconv.Itoa(n))); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(dir); err != nil {
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
