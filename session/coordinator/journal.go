package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session/coordinator/durable"
	"github.com/sombra-backup/sombra/session/coordinator/hold"
	"github.com/sombra-backup/sombra/vss"
)

// journal is the directory of sets under STATE: one file a set, written before
// the set is made. A set whose file says it is to go when its session goes, and
// whose session is gone, is deleted at the next start.
type journal struct{ dir string }

// journalEntry is one set.
type journalEntry struct {
	SetID   vss.GUID            `json:"set_id"`
	Context vss.SnapshotContext `json:"context"`
	Created time.Time           `json:"created"`
	PID     int                 `json:"pid"`
	// Keep is set when a persistent set has been made whole.
	Keep bool `json:"keep,omitempty"`
	// Purpose is what its maker keeps it for.
	Purpose string        `json:"purpose,omitempty"`
	Copies  []journalCopy `json:"copies"`
	// Stopped describes processes stopped by means that outlive us.
	Stopped json.RawMessage `json:"stopped,omitempty"`
}

type journalCopy struct {
	Ref        provider.Ref    `json:"ref"`
	Provider   string          `json:"provider"`
	Scope      *provider.Scope `json:"scope,omitempty"`
	Atomic     bool            `json:"atomic,omitempty"`
	NeedsScope bool            `json:"needs_scope,omitempty"`
	Exposed    string          `json:"exposed,omitempty"`
}

// setEntry is the journal's entry of a set in the making. The keeper's connection
// changes it too, so that it has a lock of its own.
type setEntry struct {
	journal journal

	mu      sync.Mutex
	entry   journalEntry
	written bool
	gone    bool
}

// change changes the entry and makes that durable. If that fails nothing has
// changed. Once the entry was removed nothing brings it back.
func (s *setEntry) change(fn func(*journalEntry)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil
	}
	e := s.entry
	e.Copies = slices.Clone(e.Copies)
	fn(&e)
	s.written = true // or part of it is
	if err := s.journal.write(&e); err != nil {
		return err
	}
	s.entry = e
	return nil
}

func (s *setEntry) remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	if !s.written {
		return nil // even to look for it would wait where the file system is frozen
	}
	return s.journal.remove(s.entry.SetID)
}

// errLocked is the error of lockFile where another has the lock.
var errLocked = errors.New("another has the lock")

// maxJournalFile bounds a journal file read back.
const maxJournalFile = 64 << 20

func (j journal) path(set vss.GUID) string {
	return filepath.Join(j.dir, set.String()+".json")
}

// write makes the entry durable under its name.
func (j journal) write(e *journalEntry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("journal of set %s: %w", e.SetID, err)
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(j.path(e.SetID), data, 0o600)
}

func (j journal) remove(set vss.GUID) error {
	err := os.Remove(j.path(set))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (j journal) read(set vss.GUID) (*journalEntry, error) {
	return readJournal(j.path(set))
}

func readJournal(name string) (*journalEntry, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("journal %s: not a regular file; move it away", name)
	}
	if info.Size() > maxJournalFile {
		return nil, fmt.Errorf("journal %s: %d bytes, more than any journal has", name, info.Size())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	e := new(journalEntry)
	if err := json.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("journal %s: %w", name, err)
	}
	if want := e.SetID.String() + ".json"; filepath.Base(name) != want {
		return nil, fmt.Errorf("journal %s: it describes set %s, which would be in %s", name, e.SetID, want)
	}
	return e, nil
}

// entries reads all of the journal, oldest first. Files that cannot be read are
// in the error, and the list is good all the same.
func (j journal) entries() ([]*journalEntry, error) {
	names, err := filepath.Glob(filepath.Join(j.dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var list []*journalEntry
	var errs []error
	for _, name := range names {
		e, err := readJournal(name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // another process was quicker
		case err != nil:
			errs = append(errs, err)
		default:
			list = append(list, e)
		}
	}
	sort.Slice(list, func(a, b int) bool { return list[a].Created.Before(list[b].Created) })
	return list, errors.Join(errs...)
}

// recover deletes the sets that dead sessions left behind. The caller holds the
// lock, so no set in the journal belongs to a living session. Persistent sets
// that were finished stay.
func (j journal) recover(ctx context.Context, providers []provider.Provider, log *slog.Logger) error {
	list, err := j.entries()
	errs := []error{err, j.sweep()}
	for _, e := range list {
		if e.Keep {
			continue
		}
		if e.Stopped != nil {
			if err := hold.Recover(ctx, e.Stopped); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if err := j.deleteSet(ctx, e, providers); err != nil {
			errs = append(errs, err)
			continue
		}
		log.Info("removed what an interrupted run left behind", "set", e.SetID, "copies", len(e.Copies))
	}
	return errors.Join(errs...)
}

// sweep removes files that were being written when their writer died.
func (j journal) sweep() error {
	names, err := filepath.Glob(filepath.Join(j.dir, ".*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if !durable.IsUnfinished(filepath.Base(name)) {
			continue
		}
		// Only the holder of the lock makes new ones; a persistent set's is
		// made without it, and seldom.
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()).Abs() > time.Hour {
			errs = append(errs, os.Remove(name))
		}
	}
	return errors.Join(errs...)
}

// deleteSet deletes the copies of one set and then its entry.
func (j journal) deleteSet(ctx context.Context, e *journalEntry, providers []provider.Provider) error {
	var errs []error
	for _, c := range e.Copies {
		p := providerByID(providers, c.Ref.Provider)
		if p == nil {
			errs = append(errs, vss.Errorf(vss.ErrProviderNotRegistered, "delete", "shadow copy "+c.Ref.SnapshotID.String(),
				"its provider %s is not in this program", c.Provider))
			continue
		}
		if err := boundedErr(ctx, func(ctx context.Context) error { return p.Delete(ctx, c.Ref) }); err != nil {
			errs = append(errs, fmt.Errorf("delete shadow copy %s: %w", c.Ref.SnapshotID, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return j.remove(e.SetID)
}

func providerByID(list []provider.Provider, id vss.GUID) provider.Provider {
	for _, p := range list {
		if p.Info().ID == id {
			return p
		}
	}
	return nil
}
