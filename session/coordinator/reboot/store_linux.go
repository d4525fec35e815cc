package reboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/durable"
	"github.com/sombra-backup/sombra/vss"
)

// Options say where the journal is and how it is worked off.
type Options struct {
	// StateDir is the state directory; the journal is the directory reboot in
	// it.
	StateDir string
	// Command is the command line that calls [Store.Apply], the program's
	// absolute path first; with none nothing can be staged.
	Command []string

	// UnitDir and RunDir are where the unit and the marks of this run of the
	// host are: /etc/systemd/system and /run/sombra/at-reboot if empty.
	UnitDir, RunDir string
}

// Store is the sets of one state directory. It may be used by several goroutines
// and processes.
type Store struct {
	opts Options
	dir  string

	booted func() bool                     // by systemd
	reload func(ctx context.Context) error // systemd's daemon-reload
	step   func(string)                    // for tests that end in the middle
}

// Open gives the sets of a state directory. Nothing is made yet.
func Open(o Options) *Store {
	if o.UnitDir == "" {
		o.UnitDir = "/etc/systemd/system"
	}
	if o.RunDir == "" {
		o.RunDir = "/run/sombra/at-reboot"
	}
	return &Store{opts: o, dir: filepath.Join(o.StateDir, "reboot"), booted: systemdRuns, reload: systemdReload, step: func(string) {}}
}

const (
	journalSuffix = ".json"
	stagingSuffix = ".staging"
)

func (s *Store) path(id vss.GUID) string { return filepath.Join(s.dir, id.String()+journalSuffix) }

// make makes the directory, and refuses one in which others could say what takes
// whose place.
func (s *Store) make() error {
	if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	} else if err == nil {
		if err := durable.SyncDir(s.opts.StateDir); err != nil {
			return err
		}
	}
	return s.checkDir()
}

func (s *Store) checkDir() error {
	var st unix.Stat_t
	if err := unix.Lstat(s.dir, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: s.dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s must be a directory of user %d in which nobody else may write: %w", s.dir, os.Geteuid(), fs.ErrPermission)
	}
	return nil
}

// lockLimit is how long another process that changes the sets is waited for. It
// may be comparing much.
const lockLimit = time.Minute

// lock lets one process at a time change the sets.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	name := filepath.Join(s.dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockLimit); ; {
		switch err := flock(f); {
		case err == nil:
			return func() { f.Close() }, nil
		case err != unix.EWOULDBLOCK:
			f.Close()
			return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
		case time.Now().After(deadline):
			f.Close()
			return nil, fmt.Errorf("another program changes what waits for the next start (it holds %s)", name)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// flock locks a file, if nobody else has it.
func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// write makes a set durable.
func (s *Store) write(t *set) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return durable.WriteFile(s.path(t.ID), append(data, '\n'), 0o600)
}

// remove takes a set out of the journal, and its mark.
func (s *Store) remove(id vss.GUID) error {
	if err := os.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	os.Remove(filepath.Join(s.opts.RunDir, id.String())) // without a set it means nothing
	return durable.SyncDir(s.dir)
}

// sets reads all of the journal, oldest first. Files that cannot be read are in
// the error, and the list is good all the same.
func (s *Store) sets() ([]*set, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = s.checkDir()
	}
	if err != nil {
		return nil, err
	}
	var list []*set
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), journalSuffix) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		t, err := readSet(filepath.Join(s.dir, e.Name()))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Join(s.dir, e.Name()), err))
			continue
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *set) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID.String(), b.ID.String())
	})
	return list, errors.Join(errs...)
}

func readSet(path string) (*set, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("it is not a file of user %d that nobody else may write to", os.Geteuid())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxJournal {
		return nil, fmt.Errorf("it is larger than %d bytes", maxJournal)
	}
	t, err := parseSet(data)
	if err == nil && filepath.Base(path) != t.ID.String()+journalSuffix {
		return nil, fmt.Errorf("it describes set %s, which would be in %s", t.ID, t.ID.String()+journalSuffix)
	}
	return t, err
}

// Pending lists the sets, as [session.Reboots] does.
func (s *Store) Pending(ctx context.Context) ([]session.PendingReboot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	list, err := s.sets()
	var out []session.PendingReboot
	for _, t := range list {
		if t.State != withdrawn {
			out = append(out, t.shown())
		}
	}
	return out, err
}

// Cancel withdraws a set, as [session.Reboots] does.
func (s *Store) Cancel(ctx context.Context, id string) error {
	const op = "withdraw"
	if _, err := os.Lstat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return vss.Errorf(vss.ErrObjectNotFound, op, clip(id), "no set waits for the next start")
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	t, err := s.find(op, id)
	if err != nil {
		return err
	}
	switch t.State {
	case swapping:
		return vss.Errorf(vss.ErrBadState, op, t.ID.String(),
			"some of its files have taken their places; the next start goes on with it. What they have replaced is kept beside them (restore --pending names it)")
	case swapped:
		return vss.Errorf(vss.ErrBadState, op, t.ID.String(), "all its files have taken their places")
	}
	if err := s.withdraw(t); err != nil {
		return err
	}
	return s.settleUnit(ctx)
}

// find finds a set by its id or the beginning of it.
func (s *Store) find(op, id string) (*set, error) {
	list, err := s.sets()
	var found []*set
	for _, t := range list {
		if id != "" && t.State != withdrawn && strings.HasPrefix(t.ID.String(), strings.ToLower(id)) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		err = errors.Join(errors.New("no such set waits for the next start"), err)
		return nil, vss.Errorf(vss.ErrObjectNotFound, op, clip(id), "%w", err)
	}
	return nil, vss.Errorf(vss.ErrInvalidArgument, op, clip(id), "%d sets begin so", len(found))
}

// withdraw removes the staged files of a set of which none was swapped.
func (s *Store) withdraw(t *set) error {
	t.State = withdrawn
	if err := s.write(t); err != nil {
		return err
	}
	var errs []error
	for i := range t.Files {
		errs = append(errs, removeStaged(string(t.Files[i].Directory), string(t.Files[i].Staged)))
	}
	if err := errors.Join(append(errs, syncAll(t.directories()))...); err != nil {
		return err
	}
	return s.remove(t.ID)
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}
