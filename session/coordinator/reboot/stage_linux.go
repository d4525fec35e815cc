package reboot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/durable"
	"github.com/sombra-backup/sombra/vss"
)

// Beside gives, for a name of a target and an element, the name of that element in
// the directory of the first, and the path on the host of that directory, free of
// links, with the name's own last element.
type Beside func(name, elem string) (staged, dir, last string, err error)

// staging is a set that is not committed yet.
type staging struct {
	store  *Store
	beside Beside

	mu   sync.Mutex
	set  *set
	at   map[string]string // by the path on the host: the staged name
	log  *os.File          // ID.staging, locked
	done bool
}

var _ session.RebootSet = (*staging)(nil)

const stageOp = "restore at the next start"

// Begin begins a set, as [session.Reboots].AtReboot does.
func (s *Store) Begin(ctx context.Context, what string, beside Beside) (session.RebootSet, error) {
	if err := s.possible(what); err != nil {
		return nil, err
	}
	if err := s.make(); err != nil {
		return nil, vss.Errorf(vss.ErrUnexpected, stageOp, clip(what), "%w", err)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, vss.Errorf(vss.ErrUnexpected, stageOp, clip(what), "%w", err)
	}
	defer unlock()
	s.tidy() // what cannot be removed is tried again the next time
	t := &staging{store: s, beside: beside, at: map[string]string{},
		set: &set{Format: format, ID: vss.NewGUID(), Created: time.Now().UTC(), What: clipWhat(what), State: pending}}
	t.log, err = os.OpenFile(s.stagingPath(t.set.ID.String()), os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		err = flock(t.log)
	}
	if err != nil {
		return nil, vss.Errorf(vss.ErrUnexpected, stageOp, clip(what), "%w", err)
	}
	return t, nil
}

// clipWhat bounds what is told of a set.
func clipWhat(what string) string { return strings.ToValidUTF8(what[:min(len(what), 1000)], "\uFFFD") }

func (s *Store) stagingPath(id string) string { return filepath.Join(s.dir, id+stagingSuffix) }

// stagedLine is a line of ID.staging.
type stagedLine struct {
	Directory name `json:"directory"`
	Staged    name `json:"staged"`
}

// Stage implements [session.RebootSet]. A name staged before gives the same again.
func (t *staging) Stage(ctx context.Context, target string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return "", vss.Errorf(vss.ErrBadState, stageOp, target, "the set is closed")
	}
	if len(t.set.Files) == maxFiles {
		return "", vss.Errorf(vss.ErrUnexpected, stageOp, target, "a set of more than %d files is not swapped in at a start", maxFiles)
	}
	elem := session.NewStagedName()
	staged, dir, last, err := t.beside(target, elem)
	if err != nil {
		return "", err
	}
	at := path.Join(dir, last)
	if old, ok := t.at[at]; ok {
		return old, nil
	}
	f := file{Directory: name(dir), Name: name(last), Staged: name(elem)}
	if !isElement(last) || !path.IsAbs(dir) || path.Clean(dir) != dir {
		return "", vss.Errorf(vss.ErrInvalidArgument, stageOp, target, "this is not the path of a file")
	}
	line, err := json.Marshal(stagedLine{f.Directory, f.Staged})
	if err == nil {
		_, err = t.log.Write(append(line, '\n'))
	}
	if err != nil {
		return "", vss.Errorf(vss.ErrUnexpected, stageOp, target, "%w", err)
	}
	t.set.Files = append(t.set.Files, f)
	t.at[at] = staged
	return staged, nil
}

// Commit implements [session.RebootSet].
func (t *staging) Commit(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, id := t.store, t.set.ID.String()
	fail := func(err error) (string, error) {
		return "", vss.Errorf(vss.ErrUnexpected, stageOp, t.set.What, "%w", err)
	}
	switch {
	case t.done:
		return "", vss.Errorf(vss.ErrBadState, stageOp, t.set.What, "the set is closed")
	case len(t.set.Files) == 0:
		return "", vss.Errorf(vss.ErrBadState, stageOp, t.set.What, "nothing was staged")
	}
	mounts, err := t.note(ctx)
	if errors.Is(err, vss.ErrNotSupported) {
		return "", err
	}
	if err != nil {
		return fail(err)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	// The unit first: with nothing to do it goes away by itself.
	if err := s.install(ctx, mounts); errors.Is(err, unix.EROFS) {
		return "", vss.Errorf(vss.ErrNotSupported, stageOp, t.set.What, "%w; units cannot be added to this system while it runs", err)
	} else if err != nil {
		return fail(err)
	}
	if err := s.mark(id); err != nil {
		return fail(err)
	}
	if err := s.write(t.set); err != nil {
		os.Remove(s.path(t.set.ID)) // it may be there, and not durable
		return fail(err)
	}
	t.done = true
	t.log.Close()
	os.Remove(s.stagingPath(id)) // left there it is removed by the next one
	return id, nil
}

// note makes what is staged durable and notes what it is. It gives the mounts that
// the files are on.
func (t *staging) note(ctx context.Context) (mounts []string, err error) {
	var at string
	dir := -1
	defer func() {
		if dir >= 0 {
			unix.Close(dir)
		}
	}()
	synced := map[uint64]bool{}
	seen := map[string]bool{}
	for i := range t.set.Files {
		f := &t.set.Files[i]
		if string(f.Directory) != at || dir < 0 {
			if dir >= 0 {
				unix.Close(dir)
			}
			if dir, err = openDir(string(f.Directory)); err != nil {
				return nil, err
			}
			at = string(f.Directory)
			m, err := mountOf(dir, at)
			if err != nil {
				return nil, err
			}
			if !seen[m.point] {
				seen[m.point] = true
				mounts = append(mounts, m.point)
				if err := m.early(ctx); err != nil {
					return nil, err
				}
			}
			if !synced[m.device] {
				if err := syncFS(dir); err != nil {
					return nil, &fs.PathError{Op: "sync", Path: at, Err: err}
				}
				synced[m.device] = true
			}
		}
		if err := f.describe(ctx, dir); err != nil {
			return nil, fmt.Errorf("%s, staged for %s: %w", path.Join(at, string(f.Staged)), f.path(), err)
		}
		if o, err := lookAt(dir, string(f.Name)); err == nil && o.dir {
			return nil, fmt.Errorf("%s: a directory is in its place", f.path())
		}
	}
	return mounts, nil
}

// mark notes that a set was staged in this run of the host.
func (s *Store) mark(id string) error {
	above := filepath.Dir(s.opts.RunDir)
	if err := os.Mkdir(above, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Mkdir(s.opts.RunDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.WriteFile(filepath.Join(s.opts.RunDir, id), nil, 0o600)
}

// marked reports whether a set was staged in this run of the host.
func (s *Store) marked(id vss.GUID) bool {
	_, err := os.Lstat(filepath.Join(s.opts.RunDir, id.String()))
	return err == nil
}

// Close implements [session.RebootSet].
func (t *staging) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return nil
	}
	t.done = true
	var errs []error
	for i := range t.set.Files {
		errs = append(errs, removeStaged(string(t.set.Files[i].Directory), string(t.set.Files[i].Staged)))
	}
	err := errors.Join(append(errs, syncAll(t.set.directories()))...)
	if err == nil {
		err = os.Remove(t.store.stagingPath(t.set.ID.String()))
	}
	t.log.Close()
	// A Commit that failed may have installed the unit.
	if unlock, lerr := t.store.lock(context.Background()); lerr == nil {
		err = errors.Join(err, t.store.settleUnit(context.Background()))
		unlock()
	}
	return err
}

// tidy removes what was staged for sets that nobody will commit any more. The lock
// must be held.
func (s *Store) tidy() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), stagingSuffix); ok {
			errs = append(errs, s.tidyOne(id))
		} else if durable.IsUnfinished(e.Name()) {
			errs = append(errs, os.Remove(filepath.Join(s.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) tidyOne(id string) error {
	f, err := os.OpenFile(s.stagingPath(id), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if flock(f) != nil {
		return nil // somebody is staging
	}
	if _, err := os.Lstat(filepath.Join(s.dir, id+journalSuffix)); err == nil {
		return os.Remove(f.Name()) // it was committed
	}
	lines := bufio.NewReader(io.LimitReader(f, maxJournal))
	var errs []error
	var dirs []string
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // a last line without an end was not acted upon
		}
		var l stagedLine
		if json.Unmarshal(bytes.TrimSpace(line), &l) != nil {
			continue
		}
		dir, elem := string(l.Directory), string(l.Staged)
		if path.IsAbs(dir) && path.Clean(dir) == dir && isElement(elem) && session.IsStagedName(elem) {
			errs = append(errs, removeStaged(dir, elem))
			dirs = append(dirs, dir)
		}
	}
	if err := errors.Join(append(errs, syncAll(slices.Values(dirs)))...); err != nil {
		return err
	}
	return os.Remove(f.Name())
}
