package mariadb

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

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

// move moves all files of the data directory and of its databases' directories
// aside, and those of the places elsewhere. The directories stay: they are somebody's
// mount points, and have owners and modes.
func (a *aside) move(session vss.GUID, places []place) error {
	a.state.Places = join(a.state.Places, places)
	if err := a.number(places); err != nil {
		return err
	}
	a.state.More, a.state.Session, a.state.Stopping, a.state.Left = false, session, time.Time{}, nil
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
	if err := a.number(fresh); err != nil {
		return err
	}
	if err := a.save(); err != nil {
		return err
	}
	return a.movePlaces(fresh)
}

// number takes the next number that nothing is kept under for what lies in the data
// directory and in places: one may have what is left of a restore that is not noted
// here.
func (a *aside) number(places []place) error {
	dirs := append([]string{a.dir}, directories(places)...)
	if a.state.Attempts == nil {
		noted := make(map[string][]int)
		for _, dir := range append([]string{a.dir}, directories(a.state.Places)...) {
			noted[dir] = a.numbers(dir)
		}
		a.state.Attempts = noted
	}
	for {
		a.state.Attempt++
		free, err := true, error(nil)
		for _, dir := range dirs {
			if free, err = absent(a.attemptAt(dir)); err != nil {
				return err
			}
			if !free {
				break
			}
		}
		if free {
			for _, dir := range dirs {
				a.state.Attempts[dir] = append(a.state.Attempts[dir], a.state.Attempt)
			}
			return nil
		}
	}
}

// numbers lists those that were taken for what lies in a directory. Earlier writers
// noted only the last of all.
func (a *aside) numbers(dir string) []int {
	if len(a.state.Attempts) > 0 {
		return a.state.Attempts[dir]
	}
	var list []int
	for n := 1; n <= a.state.Attempt; n++ {
		list = append(list, n)
	}
	return list
}

func absent(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

func (a *aside) attempt() string { return a.path(strconv.Itoa(a.state.Attempt)) }

// attemptAt is where the last move has put files of a directory.
func (a *aside) attemptAt(dir string) string { return a.keptAt(dir, a.state.Attempt) }

// keptAt is where files of a directory are kept under a number.
func (a *aside) keptAt(dir string, n int) string {
	if dir == a.dir {
		return a.path(strconv.Itoa(n))
	}
	return filepath.Join(asideAt(a.dir, dir), strconv.Itoa(n))
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

// drop removes all that was moved aside, its state last, and the directories of
// databases that the restored server does not have. What is not noted in the state
// stays: nobody has said that it is replaced.
func (a *aside) drop() error {
	subs, err := subdirectories(a.dir)
	if err != nil {
		return err
	}
	for _, sub := range subs {
		os.Remove(filepath.Join(a.dir, sub)) // stays if there is anything in it
	}
	var errs []error
	for _, dir := range append([]string{a.dir}, directories(a.state.Places)...) {
		for _, n := range a.numbers(dir) {
			errs = append(errs, os.RemoveAll(a.keptAt(dir, n)))
		}
		if dir != a.dir {
			removeIfEmpty(a.dir, dir)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err // what is left is noted still
	}
	return a.removeState()
}

// removeState removes the state, and the directory if nothing else is in it.
func (a *aside) removeState() error {
	for _, name := range []string{partName, stateName, ""} {
		if err := os.Remove(a.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) && !(name == "" && errors.Is(err, fs.ErrExist)) {
			return err
		}
	}
	return nil
}
