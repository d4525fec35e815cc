package mariadb

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// spoolName is the directory in which a log backup finds the logs it has to save,
// and a restore puts them.
const spoolName = ".sombra-log"

// spoolBelow is where logs are linked that are in the data directory itself: in a
// directory that each has, since the server takes one in the data directory for a
// database.
func spoolBelow(dir string) string { return filepath.Join(dir, "mysql", spoolName) }

// spoolAt is where logs are linked that lie elsewhere. Servers may share such a
// directory, so the name is the server's own.
func spoolAt(data, dir string) string { return filepath.Join(dir, spoolName+"-"+markOf(data)) }

// sharedSpool is where earlier writers linked those, of all servers that have their
// logs in a directory: backups restore to it, and killed writers have left links.
func sharedSpool(dir string) string { return filepath.Join(dir, spoolName) }

// spool is a directory with logs to be saved or replayed.
type spool struct {
	dir  string // empty: there is none
	base string // which logs are the server's, by their name; empty: all
}

// logs lists the logs, in order.
func (s spool) logs() ([]string, error) {
	if s.dir == "" {
		return nil, nil
	}
	names, err := spooled(s.dir)
	return slices.DeleteFunc(names, func(name string) bool {
		base, _, _ := cutNumber(name)
		return s.base != "" && s.base != base
	}), err
}

// remove removes the logs, and the directory unless other servers have theirs in it.
func (s spool) remove() error {
	if s.dir == "" {
		return nil
	}
	if err := noLink(s.dir); err != nil {
		return err
	}
	names, err := s.logs()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err = os.Remove(s.dir)
	if errors.Is(err, fs.ErrNotExist) || s.base != "" && errors.Is(err, fs.ErrExist) {
		return nil // ErrExist is what a directory with something in it gives
	}
	if err != nil {
		return fmt.Errorf("%w; nothing but this writer should use that directory: move away what is in it", err)
	}
	return nil
}

// spooled lists the logs in a directory, in order.
func spooled(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if isLogName(e.Name()) && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, compareLogs)
	return names, nil
}

// compareLogs orders logs by their numbers, which have six digits or more.
func compareLogs(a, b string) int {
	_, x, _ := cutNumber(a)
	_, y, _ := cutNumber(b)
	x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
	if len(x) != len(y) {
		return len(x) - len(y)
	}
	return strings.Compare(x, y)
}

// noLink makes sure that a spool directory, of whose files some are removed, is not a
// link to somebody else's.
func noLink(dir string) error {
	if info, err := os.Lstat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("%s is no directory; nothing but this writer should use that name: remove it", dir)
	}
	return nil
}

// spooled finds the logs that were restored to be replayed, and where each is. A
// chain may have some of an earlier writer's.
func (p restoredFiles) spooled() (names []string, at map[string]string, err error) {
	at = make(map[string]string)
	for _, s := range []spool{p.shared, {dir: p.spool}} { // the server's own goes before
		if err := noLink(s.dir); err != nil {
			return nil, nil, err
		}
		logs, err := s.logs()
		if err != nil {
			return nil, nil, err
		}
		for _, name := range logs {
			at[name] = filepath.Join(s.dir, name)
		}
	}
	return slices.SortedFunc(maps.Keys(at), compareLogs), at, nil
}

// unspool removes the links of a log backup, also those that a process before this
// one left.
func (w *dbWriter) unspool() error {
	if w.spool == "" {
		w.spool = w.findSpool()
	}
	w.spooled = false
	return errors.Join(spool{dir: w.spool}.remove(), w.shared.remove())
}

// findSpool looks where a writer before this one may have linked logs, without
// asking the server, which may be busy or held.
func (w *dbWriter) findSpool() string {
	dir := spoolBelow(w.dir)
	if _, err := os.Lstat(dir); err != nil {
		return ""
	}
	return dir
}

// dropSpools removes logs that a restore before this one has left to be replayed.
func (w *dbWriter) dropSpools(places []place) error {
	errs := []error{spool{dir: spoolBelow(w.dir)}.remove()}
	for _, p := range places {
		if base, ok := strings.CutSuffix(p.Pattern, ".*"); p.Log && ok {
			errs = append(errs, spool{dir: spoolAt(w.dir, p.Dir)}.remove(), spool{sharedSpool(p.Dir), base}.remove())
		}
	}
	return errors.Join(errs...)
}
