package mariadb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"golang.org/x/sys/unix"
)

// The files in what was moved aside.
const (
	stateName = "state.json"
	partName  = "state.part" // while it is written
)

// asideState is the content of state.json. It is the data owner's own: what is in
// it is started with no more rights than the owner has.
type asideState struct {
	// Ran is how the server was started that ran before the restore; empty if
	// none did.
	Ran []string `json:"ran,omitempty"`
	// Unit: the unit ran.
	Unit bool `json:"unit,omitempty"`
	// More: the last operation was restored whole, and others follow.
	More bool `json:"more,omitempty"`
	// Replaying: a server that replays logs was started on what was restored.
	// If it was killed its account is still there.
	Replaying bool `json:"replaying,omitempty"`
	// Writing: that server may be writing still.
	Writing bool `json:"writing,omitempty"`
	// Stopping is when a restore began to stop the server, and is zero when it
	// moves things aside: one that was killed in between leaves a server that ends.
	Stopping time.Time `json:"stopping,omitzero"`
	// PID is the process that was to be stopped then.
	PID int `json:"pid,omitempty"`
	// Left is what the last PostRestore has left of the files that each server
	// writes to; empty if that was not reached.
	Left map[string]fileState `json:"left,omitempty"`
	// Attempt is the directory that the last PreRestore used, and Attempts are
	// all that were, by whose files are in them: the data directory's, and others'.
	Attempt  int              `json:"attempt"`
	Attempts map[string][]int `json:"attempts,omitempty"`
	// Session is that of the last PreRestore that moved things aside: another
	// restore, which has moved nothing, puts nothing back.
	Session vss.GUID `json:"session,omitzero"`
	// Places are those outside the data directory of which files were moved, and
	// the databases' directories that have a mount of their own.
	Places []place `json:"places,omitempty"`
}

func (a *aside) path(elem ...string) string {
	return filepath.Join(append([]string{a.dir, asideName}, elem...)...)
}

// fileState tells whether a file was written to.
type fileState struct {
	Inode    uint64 `json:"inode"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // in nanoseconds since 1970
}

// written are the files of a data directory that each server writes to: Aria's
// control file when it ends in order, InnoDB's when anything is changed, and those
// that are there only while it runs, or after it was killed.
var written = []string{"aria_log_control", "ibdata1", "ib_logfile0", "ibtmp1", "ddl_recovery.log"}

// look gives the states of those that are there.
func (a *aside) look() (map[string]fileState, error) {
	files := make(map[string]fileState)
	for _, name := range written {
		var st unix.Stat_t
		err := unix.Lstat(filepath.Join(a.dir, name), &st)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "lstat", Path: filepath.Join(a.dir, name), Err: err}
		}
		files[name] = fileState{st.Ino, st.Size, st.Mtim.Nano()}
	}
	return files, nil
}

// leave notes what is there, at the end of an operation that leaves things aside.
// While a server of the writer's own may still write there is nothing to be noted.
func (a *aside) leave() (err error) {
	if a.state.Writing {
		return nil
	}
	if a.state.Left, err = a.look(); err != nil {
		return err
	}
	return a.save()
}

// used reports whether a server has run on what the last operation left, as far as
// that is noted.
func (a *aside) used() (bool, error) {
	if a.state.Left == nil {
		return false, nil
	}
	now, err := a.look()
	return !maps.Equal(now, a.state.Left), err
}

// stopLimit is how long a server may take to stop.
const stopLimit = time.Hour

// another reports whether the server, which does not run, was started again since a
// restore began to stop it, and stopped by somebody else: it has ended too late for
// that restore. Whoever did so wants it stopped.
func (a *aside) another() bool {
	info, err := os.Lstat(filepath.Join(a.dir, lockFiles[0])) // written to at each orderly end
	return err == nil && !a.state.Stopping.IsZero() && info.ModTime().Sub(a.state.Stopping) > stopLimit
}

// openAside reads what an earlier operation has left, if there is any.
func openAside(dir string) (a *aside, found bool, err error) {
	a = &aside{dir: dir}
	data, err := os.ReadFile(a.path(stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return a, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &a.state)
	}
	if err != nil {
		return nil, false, fmt.Errorf("what an earlier restore has left in %s: %w; what was there before it may be in that directory: move it to where it is safe, and restore again", a.path(), err)
	}
	return a, true, nil
}

// forget removes a note on a server that a restore began to stop if another one runs
// by now: somebody has started it.
func (a *aside) forget(pid int) error {
	list, err := a.attempts()
	if err != nil || len(list) > 0 || a.state.Stopping.IsZero() || pid == 0 || pid == a.state.PID {
		return err
	}
	return a.removeState()
}

// save writes the state, so that a power cut leaves either the old one or the new.
func (a *aside) save() error {
	switch err := os.Mkdir(a.path(), 0o700); {
	case err == nil:
		if err := syncDir(a.dir); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	data, err := json.Marshal(a.state)
	if err != nil {
		return err
	}
	part := a.path(partName)
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(part, a.path(stateName))
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return syncDir(a.path())
}

// syncDir makes durable which names a directory has.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
