package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// aside is the old cluster's directories, moved out of the way of a restore in the
// directories they lie in, so that each move is one rename.
type aside struct {
	data string
	// State is what PostRestore, in another process and perhaps after more
	// restores, must know.
	State asideState
}

type asideState struct {
	// Running: the server ran; Args and Bin start it again.
	Running bool     `json:"running"`
	Bin     string   `json:"bin,omitempty"`
	Args    []string `json:"args,omitempty"`
	// Moving: not everything was moved yet. What is still in its place is the old
	// cluster's, too.
	Moving bool `json:"moving,omitempty"`
	// WAL and Spaces, the tablespaces, are directories in which there are things
	// put aside, too.
	WAL    string   `json:"wal,omitempty"`
	Spaces []string `json:"spaces,omitempty"`
}

const stateName = "state.json"

// ours are the names at the top of a data directory that belong to the cluster
// and are put aside; what else is there, configuration above all, stays.
func ours(name string) bool {
	switch name {
	case "PG_VERSION", "pg_tblspc", "backup_label", "backup_label.old", "tablespace_map", "tablespace_map.old", "backup_manifest",
		"postmaster.pid", "postmaster.opts", "standby.signal", "recovery.signal", "current_logfiles":
		return true
	}
	return slices.Contains(always, name) || slices.Contains(emptied, name)
}

func everything(string) bool { return true }

// openAside finds what an earlier restore, or an earlier operation of this one, put
// aside; nil if there is nothing.
func openAside(data string) (*aside, error) {
	b, err := readSmall(filepath.Join(data, asideName, stateName), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a := &aside{data: data}
	if err := json.Unmarshal(b, &a.State); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(data, asideName, stateName), err)
	}
	return a, nil
}

// putAside moves a cluster's directories aside. Its state is written first: what
// ends in between is found by it, and goes on where it ended, again.
func putAside(data string, state asideState, again bool) error {
	state.Moving = true
	if err := writeState(data, state); err != nil {
		return err
	}
	if again {
		if err := removeMade(append([]string{data, state.WAL}, state.Spaces...)); err != nil {
			return err
		}
	}
	errs := []error{moveInto(data, ours)}
	for _, place := range append([]string{state.WAL}, state.Spaces...) {
		if place == "" {
			continue
		}
		which := func(name string) bool { return name == tablespaceVersion }
		if place == state.WAL {
			which = everything
		}
		errs = append(errs, moveInto(place, which))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	state.Moving = false
	return writeState(data, state)
}

// removeMade removes empty directories that somebody has made where those of the same
// names were moved from, as the restore of other data does that a directory lies in.
// Anything else there is somebody's data, beside which the other must not be forgotten.
func removeMade(dirs []string) error {
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		moved, err := os.ReadDir(filepath.Join(dir, asideName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range moved {
			path := filepath.Join(dir, e.Name())
			info, err := os.Lstat(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil && info.IsDir() {
				err = os.Remove(path)
			}
			if err != nil || !info.IsDir() {
				return fmt.Errorf("%s is there, and so is what a restore that did not end has moved from there, %s, perhaps the only copy of it: move one of them to where it is safe, and restore again (%w)",
					path, filepath.Join(dir, asideName, e.Name()), errors.Join(err, fs.ErrExist))
			}
		}
	}
	return nil
}

// writeState keeps the state, durably.
func writeState(data string, state asideState) error {
	dir := filepath.Join(data, asideName)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	b, err := json.Marshal(state)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, stateName)
	if err := writeSynced(name+".new", b); err != nil {
		return err
	}
	return errors.Join(os.Rename(name+".new", name), syncDir(dir))
}

// moveInto moves entries of a directory into the one for things put aside in it. A
// mount point cannot be moved; what it holds is.
func moveInto(dir string, which func(string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	to := filepath.Join(dir, asideName)
	made := false
	for _, e := range entries {
		if e.Name() == asideName || !which(e.Name()) {
			continue
		}
		if !made {
			if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			made = true
		}
		err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(to, e.Name()))
		if errors.Is(err, unix.EBUSY) {
			err = moveInto(filepath.Join(dir, e.Name()), everything)
		}
		if err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// places are the directories that things were put aside in.
func (a *aside) places() []string {
	list := []string{a.data}
	if a.State.WAL != "" {
		list = append(list, a.State.WAL)
	}
	list = append(list, a.State.Spaces...)
	for _, name := range append(slices.Clone(always), "pg_wal", "pg_tblspc") {
		sub := filepath.Join(a.data, name)
		if info, err := os.Lstat(filepath.Join(sub, asideName)); err == nil && info.IsDir() && !slices.Contains(list, sub) {
			if parent, err := os.Lstat(sub); err == nil && parent.IsDir() {
				list = append(list, sub) // a mount point
			}
		}
	}
	return list
}

// putBack puts everything back where it was, in place of what is there now.
func (a *aside) putBack() error {
	for _, dir := range slices.Backward(a.places()) {
		from := filepath.Join(dir, asideName)
		entries, err := os.ReadDir(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() == stateName {
				continue
			}
			to := filepath.Join(dir, e.Name())
			if err := os.RemoveAll(to); err != nil {
				return err
			}
			if err := os.Rename(filepath.Join(from, e.Name()), to); err != nil {
				return err
			}
		}
	}
	return a.remove()
}

// clear removes what lies where things were put aside from: a restore that did not
// end left it.
func (a *aside) clear() error {
	for _, dir := range a.places() {
		from := filepath.Join(dir, asideName)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() == asideName || dir == a.data && !ours(e.Name()) || slices.Contains(a.State.Spaces, dir) && e.Name() != tablespaceVersion {
				continue
			}
			if _, err := os.Lstat(filepath.Join(from, asideName)); err == nil {
				continue
			}
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, unix.EBUSY) {
				return err
			}
		}
	}
	return nil
}

// remove removes what was put aside, its state last.
func (a *aside) remove() error {
	for _, dir := range slices.Backward(a.places()) {
		if err := os.RemoveAll(filepath.Join(dir, asideName)); err != nil {
			return err
		}
	}
	return nil
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
