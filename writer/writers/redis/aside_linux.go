package redis

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/kept"
)

// What was there before a restore is moved into a directory in that of the data, by
// renames: one with a number for each restore that has not succeeded yet, the lowest
// being what was there before any of them. The mark says which is the last.

// asideParts are the directories there: of the RDB file, and of the append-only file.
const (
	asideRDB = "rdb"
	asideAOF = "aof"
)

func (w *redisWriter) asideDir(n int) string {
	return filepath.Join(w.conf.Directory, kept.Directory, strconv.Itoa(n))
}

// moving is a file that is put aside.
type moving struct{ from, part string }

// inTheWay lists the files that the restored ones take the place of: those of the
// append-only file if the backup is of one or the server keeps one, and the RDB file
// if the backup is of that.
func (w *redisWriter) inTheWay(aof bool) (list []moving, err error) {
	n, dir := w.facts.names, w.conf.Directory
	if err := n.check(); err != nil {
		return nil, err
	}
	if !w.facts.aof {
		if _, err := os.Lstat(n.rdbPath(dir)); err == nil {
			list = append(list, moving{n.rdbPath(dir), asideRDB})
		}
		if !aof {
			return list, nil
		}
	}
	entries, err := os.ReadDir(n.aofPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	for _, e := range entries {
		if !e.IsDir() && strings.HasPrefix(e.Name(), n.aofBase+".") {
			list = append(list, moving{filepath.Join(n.aofPath(dir), e.Name()), asideAOF})
		}
	}
	return list, err
}

// putAside moves what is there aside, unless it is what an operation before this one
// of the same restore has restored. The mark is written first: what ends in between is
// found by it.
func (w *redisWriter) putAside(m *mark, session vss.GUID) error {
	if m.More {
		return nil
	}
	files, err := w.inTheWay(m.AOF)
	if err != nil {
		return err
	}
	m.Session, m.Whole = session, false
	if len(files) == 0 && m.Aside != 0 {
		return m.write(w.conf.Directory) // what was put aside last is what is put back
	}
	if len(files) == 0 && !m.Ran {
		return nil
	}
	for m.Aside++; ; m.Aside++ {
		if _, err := os.Lstat(w.asideDir(m.Aside)); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	m.Own = append(m.Own, m.Aside)
	if err := m.write(w.conf.Directory); err != nil {
		return err
	}
	for _, f := range files {
		to := filepath.Join(w.asideDir(m.Aside), f.part)
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		if err := os.Rename(f.from, filepath.Join(to, filepath.Base(f.from))); err != nil {
			return err
		}
	}
	return nil
}

// putBack takes back what the last putAside did, if nothing was restored since.
func (w *redisWriter) putBack(m *mark) error {
	if m == nil || m.Aside == 0 || m.More {
		return nil
	}
	from := w.asideDir(m.Aside)
	for part, to := range map[string]string{asideRDB: w.conf.Directory, asideAOF: w.facts.names.aofPath(w.conf.Directory)} {
		entries, err := os.ReadDir(filepath.Join(from, part))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if err := os.Rename(filepath.Join(from, part, e.Name()), filepath.Join(to, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(from); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(from)) // what an earlier restore has put there stays
	m.Own = slices.DeleteFunc(m.Own, func(n int) bool { return n == m.Aside })
	m.Aside = 0
	return m.write(w.conf.Directory)
}

// keptAt adds to an error where that is which was there before.
func (w *redisWriter) keptAt(err error) error {
	at := filepath.Join(w.conf.Directory, kept.Directory)
	if _, serr := os.Lstat(at); err == nil || serr != nil {
		return err
	}
	return fmt.Errorf("%w; what was there before is kept in %s", err, at)
}

// clearAway removes what is needed no more when all has succeeded, the mark last:
// what this restore has put aside, and those before it that did not end and after which
// no server ran. What a server ran after stays, and is told of.
func (w *redisWriter) clearAway(e *writer.Event, m *mark) error {
	dir := w.conf.Directory
	var err error
	if w.moved != "" {
		err = os.RemoveAll(w.moved)
	}
	if m != nil {
		for _, n := range m.Own {
			err = errors.Join(err, os.RemoveAll(w.asideDir(n)))
		}
	}
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, markName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return w.noteLeft(e)
}

// noteLeft tells of what earlier restores that did not end have put aside.
func (w *redisWriter) noteLeft(e *writer.Event) error {
	dir := w.conf.Directory
	var left []string
	if err := os.Remove(filepath.Join(dir, kept.Directory)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		left = append(left, filepath.Join(dir, kept.Directory))
	}
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), w.facts.names.aofDir+asideEnding) {
			left = append(left, filepath.Join(dir, entry.Name()))
		}
	}
	if len(left) == 0 || err != nil {
		return err
	}
	text := strings.Join(left, ", ") + ": what was there before an earlier restore that did not end; it stays, and may be removed when it is needed no more"
	if e.Failure != nil { // another note
		text = e.Failure.Message + "; " + text
	}
	e.SetWriterFailure(vss.OK, 0, text)
	return nil
}
