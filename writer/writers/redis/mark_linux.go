package redis

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/kept"
	"golang.org/x/sys/unix"
)

// mark is what PreRestore leaves in the data's directory for PostRestore, which may
// come in another process and after further restores: whether the server ran, how
// it is started, and what was put aside.
type mark struct {
	// Ran: the server ran before the restore.
	Ran     bool     `json:"ran,omitempty"`
	Unit    bool     `json:"unit,omitempty"`
	Program string   `json:"program,omitempty"`
	Args    []string `json:"args,omitempty"`
	// AOF: the server keeps an append-only file.
	AOF bool `json:"aof,omitempty"`
	// Mixed: a restore has ended with some files restored and others not.
	Mixed bool `json:"mixed,omitempty"`
	// More: an operation has ended whole after which another follows.
	More bool `json:"more,omitempty"`
	// Aside is the number under which the last operation has put aside what was
	// there; 0 if there is nothing.
	Aside int `json:"aside,omitempty"`
	// Own are the numbers under which what was there was put aside by this restore and
	// by those before it that have not ended, since a server ran here last: they are
	// removed when one succeeds. Others stay.
	Own []int `json:"own,omitempty"`
	// Whole: all was restored, and the server is being started. One that runs then is
	// no reason to keep what was put aside.
	Whole bool `json:"whole,omitempty"`
	// Seal is how the files looked when More was noted: a server that was started and
	// stopped again since leaves others.
	Seal string `json:"seal,omitempty"`
	// RDB, AOFDir and AOFBase are the names that the server used.
	RDB     string `json:"rdb,omitempty"`
	AOFDir  string `json:"aof_dir,omitempty"`
	AOFBase string `json:"aof_base,omitempty"`
	// Session is that of the last operation that stopped the server or answers for
	// what is aside: another one, which has done neither, puts nothing back.
	Session vss.GUID `json:"session,omitzero"`
}

const (
	// markName is the mark's file.
	markName = kept.Mark
	maxMark  = 64 << 10
	// asideEnding is added to the name of the append-only file's directory when
	// an RDB file takes its place.
	asideEnding = ".before-restore"
)

// write makes the mark, in place of one of a restore that has not ended, which stays
// if there is no room, or this is killed.
func (m mark) write(dir string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, markName)
	part := path + ".new"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readMark gives the mark, nil if there is none.
func readMark(dir string) (*mark, error) {
	path := filepath.Join(dir, markName)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 || st.Size > maxMark || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s is none that a restore left; remove it", path)
	}
	b := make([]byte, st.Size)
	n, err := f.ReadAt(b, 0)
	if err != nil {
		return nil, err
	}
	var m mark
	if err := json.Unmarshal(b[:n], &m); err != nil {
		return nil, fmt.Errorf("%s, which tells of a restore that has not ended, is not whole (%w); move it away, and what is in %s beside it, and restore again", path, err, kept.Directory)
	}
	return &m, nil
}

// tidy makes what was restored what the server will load.
func (w *redisWriter) tidy(e *writer.Event, m *mark) error {
	dir := w.conf.Directory
	if w.facts.aof {
		return w.removeForeign()
	}
	aof, err := w.keepsAOF(e, m)
	if err != nil || !aof {
		return err
	}
	return w.asAOF(dir)
}

// keepsAOF tells whether the server keeps an append-only file: as PreRestore found
// it, or by its configuration file.
func (w *redisWriter) keepsAOF(e *writer.Event, m *mark) (bool, error) {
	if m != nil && m.Ran {
		return m.AOF, nil
	}
	files, err := settingsFiles(w.conf.Directory, nil)
	if len(files) == 0 {
		e.SetWriterFailure(vss.OK, 0, fmt.Sprintf("the server of %s did not run, and its configuration file was not found: if it keeps an append-only file (appendonly yes), set that to no before it is started, else it begins without the restored RDB file", w.conf.Directory))
		return false, nil
	}
	if err != nil {
		return false, err
	}
	last, ok := last(files[0].all, "appendonly")
	n := namesIn(files[0].all)
	w.facts.names.aofDir, w.facts.names.aofBase = n.aofDir, n.aofBase
	return ok && slices.Equal(last, []string{"yes"}), nil
}

// removeForeign removes parts of the append-only file that was there before.
func (w *redisWriter) removeForeign() error {
	n, dir := w.facts.names, w.conf.Directory
	m, err := readManifest(n.manifest(dir))
	if err != nil {
		return fmt.Errorf("the restored append-only file: %w", err)
	}
	if err := m.check(n.aofPath(dir)); err != nil {
		return fmt.Errorf("restored: %w", err)
	}
	for _, pattern := range []string{".*.base.*", ".*.incr.aof"} {
		found, err := filepath.Glob(filepath.Join(n.aofPath(dir), n.aofBase+pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			if m.has(filepath.Base(path)) {
				continue
			}
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// asAOF makes an append-only file of the restored RDB file: a server that keeps one
// loads nothing else, and would begin empty. It begins with the RDB file under
// another name, which the server never changes in place. The append-only file
// that was there is moved aside.
func (w *redisWriter) asAOF(dir string) error {
	n := w.facts.names
	if err := n.check(); err != nil {
		return err
	}
	at := n.aofPath(dir)
	to := at + asideEnding
	for n := 2; ; n++ { // one of an earlier restore that did not end stays
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = fmt.Sprintf("%s%s.%d", at, asideEnding, n)
	}
	switch err := os.Rename(at, to); {
	case err == nil:
		w.moved = to
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.Mkdir(at, 0o750); err != nil {
		return err
	}
	base := n.aofBase + ".1.base.rdb"
	if err := os.Link(n.rdbPath(dir), filepath.Join(at, base)); err != nil {
		return err
	}
	f, err := os.OpenFile(n.manifest(dir), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "file %s seq 1 type b\n", base)
	return errors.Join(err, f.Sync(), f.Close())
}
