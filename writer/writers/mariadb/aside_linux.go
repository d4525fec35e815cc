package mariadb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer/kept"
)

// asideName is the directory, in the data directory, to which a restore moves what
// was there, and in which it keeps what it has to know from one operation to the
// next.
const asideName = kept.Mark

// aside is what a restore has moved aside. The directory has a file, state.json,
// and for each attempt a directory with a number for a name; the lowest is what was
// there before any of them.
type aside struct {
	dir   string // the data directory
	state asideState
}

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
	// Attempt is the directory that the last PreRestore used.
	Attempt int `json:"attempt"`
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

// openAside reads what an earlier operation has left, if there is any.
func openAside(dir string) (a *aside, found bool, err error) {
	a = &aside{dir: dir}
	data, err := os.ReadFile(a.path("state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return a, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &a.state)
	}
	if err != nil {
		return nil, false, fmt.Errorf("what an earlier restore has left in %s: %w", a.path(), err)
	}
	return a, true, nil
}

// save writes the state.
func (a *aside) save() error {
	if err := os.Mkdir(a.path(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	data, err := json.Marshal(a.state)
	if err != nil {
		return err
	}
	part := a.path("state.part")
	if err := os.WriteFile(part, data, 0o600); err != nil {
		return err
	}
	return os.Rename(part, a.path("state.json"))
}

// move moves all files of the data directory and of its databases' directories
// aside, and those of the places elsewhere. The directories stay: they are somebody's
// mount points, and have owners and modes.
func (a *aside) move(session vss.GUID, places []place) error {
	for a.state.Attempt++; ; a.state.Attempt++ {
		if _, err := os.Lstat(a.attempt()); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	a.state.More, a.state.Session, a.state.Places = false, session, join(a.state.Places, places)
	if err := a.save(); err != nil {
		return err
	}
	if err := os.Mkdir(a.attempt(), 0o700); err != nil {
		return err
	}
	subs, err := subdirectories(a.dir)
	if err != nil {
		return err
	}
	for _, sub := range append([]string{""}, subs...) {
		from := filepath.Join(a.dir, sub)
		if slices.Contains(places, whole(from)) {
			continue // it is moved within itself
		}
		if err := moveFiles(from, filepath.Join(a.attempt(), "data", sub), everyName); err != nil {
			return err
		}
	}
	return a.movePlaces(places)
}

// movePlaces moves files aside that lie elsewhere.
func (a *aside) movePlaces(places []place) error {
	for _, p := range places {
		if err := moveFiles(p.Dir, a.attemptAt(p.Dir), p.has); err != nil {
			return err
		}
	}
	return nil
}

// moveNew moves aside what lies in places that the operations before this one did
// not have.
func (a *aside) moveNew(fresh []place) error {
	if len(fresh) == 0 {
		return nil
	}
	a.state.Places = join(a.state.Places, fresh)
	if err := a.save(); err != nil {
		return err
	}
	return a.movePlaces(fresh)
}

func (a *aside) attempt() string { return a.path(strconv.Itoa(a.state.Attempt)) }

// attemptAt is where the last move has put files of a directory elsewhere.
func (a *aside) attemptAt(dir string) string {
	return filepath.Join(asideAt(a.dir, dir), strconv.Itoa(a.state.Attempt))
}

func everyName(string) bool { return true }

// moveFiles moves all but directories.
func moveFiles(from, to string, which func(string) bool) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	made := false
	for _, e := range entries {
		if e.IsDir() || !which(e.Name()) {
			continue
		}
		if !made {
			if err := os.MkdirAll(to, 0o700); err != nil {
				return err
			}
			made = true
		}
		if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// putBack takes back what the last move did. Directories that have come since are
// removed if nothing is in them.
func (a *aside) putBack() error {
	kept := filepath.Join(a.attempt(), "data")
	subs, err := subdirectories(kept)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, sub := range append([]string{""}, subs...) {
		if err := moveFiles(filepath.Join(kept, sub), filepath.Join(a.dir, sub), everyName); err != nil {
			return err
		}
	}
	for _, dir := range directories(a.state.Places) {
		if err := moveFiles(a.attemptAt(dir), dir, everyName); err != nil {
			return err
		}
		if err := os.RemoveAll(a.attemptAt(dir)); err != nil {
			return err
		}
		removeIfEmpty(a.dir, dir) // stays if another attempt's are in it
	}
	if err := os.RemoveAll(a.attempt()); err != nil {
		return err
	}
	left, err := a.attempts()
	if err != nil || len(left) > 0 {
		return err
	}
	return os.RemoveAll(a.path())
}

// attempts lists what was moved aside and not put back, the oldest first.
func (a *aside) attempts() ([]string, error) {
	entries, err := os.ReadDir(a.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	var names []string
	for _, n := range list {
		names = append(names, a.path(strconv.Itoa(n)))
	}
	return names, err
}

// removeIfEmpty removes what a restore of the data directory has made in a directory
// elsewhere, unless anything is in it.
func removeIfEmpty(data, dir string) {
	os.Remove(asideAt(data, dir))
	os.Remove(filepath.Join(dir, asideName))
}

// kept lists the directories in which there is anything that was moved aside.
func (a *aside) kept() []string {
	list, _ := a.attempts() // it only adds to messages
	if len(list) > 0 {
		list = append(list, a.far()...)
	}
	return list
}

// far lists the directories with files that were moved aside within their own place.
func (a *aside) far() []string {
	var list []string
	for _, dir := range directories(a.state.Places) {
		if at := asideAt(a.dir, dir); isDirectory(at) {
			list = append(list, at)
		}
	}
	return list
}

func isDirectory(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// drop removes all that was moved aside, and the directories of databases that the
// restored server does not have.
func (a *aside) drop() error {
	subs, err := subdirectories(a.dir)
	if err != nil {
		return err
	}
	for _, sub := range subs {
		os.Remove(filepath.Join(a.dir, sub)) // stays if there is anything in it
	}
	var errs []error
	for _, dir := range directories(a.state.Places) {
		errs = append(errs, os.RemoveAll(asideAt(a.dir, dir)))
		removeIfEmpty(a.dir, dir)
	}
	return errors.Join(append(errs, os.RemoveAll(a.path()))...)
}
