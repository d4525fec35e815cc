package repository

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stateKeyName is the file that names the state that counts.
const stateKeyName = "key"

// localDepth is how far below the state directory the local states lie, that
// without a name in the directory itself, and others in one below it.
const localDepth = 2

// MaxLocalStates is how many named local states of a repository are kept: those
// made last.
const MaxLocalStates = 8

// validStateOf tells whether a local state can have the name.
func validStateOf(name string) bool {
	return len(name) <= 64 && strings.Trim(name, "0123456789abcdef") == ""
}

func hexName(b []byte) string { return hex.EncodeToString(b) }

// localDir is where the local state of this repository is kept, empty if it is
// not.
func (r *Repository) localDir() string {
	if !r.WriteOnly() || r.options.StateDir == "" {
		return ""
	}
	return filepath.Join(r.options.StateDir, "repositories", r.keys.repo.String())
}

// LocalRecord gives a record that this machine made with a write-only key, from
// the state of that name that its backup kept below Options.StateDir (see
// [BeginOptions]); if there is none of that name, from the newest. Of the record,
// file table and documents can be read and it can be the base of a backup; the
// files' data cannot. Records that an earlier call gave can no longer be read.
//
// The state is only speed. ErrNotFound says that there is none (or that the key
// is a full one, or that the record is no longer in the repository); ErrDamaged
// that it was altered, or is an older one; other errors that it cannot be read,
// or is not this user's own.
func (r *Repository) LocalRecord(ctx context.Context, name string) (*Record, error) {
	return r.localRecord(ctx, name, false)
}

// LocalRecordOf is LocalRecord of that state alone: ErrNotFound also if there is
// another one.
func (r *Repository) LocalRecordOf(ctx context.Context, name string) (*Record, error) {
	return r.localRecord(ctx, name, true)
}

func (r *Repository) localRecord(ctx context.Context, name string, alone bool) (*Record, error) {
	if !validStateOf(name) {
		return nil, invalidf("%.100q names no local state", name)
	}
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	dir := r.localDir()
	if dir == "" {
		return nil, wrapf(ErrNotFound, "no local state is kept")
	}
	rec, err := r.openLocal(ctx, dir, name)
	if errors.Is(err, ErrNotFound) && !alone {
		for _, other := range localStates(dir) {
			if rec, err := r.openLocal(ctx, dir, other); err == nil {
				return rec, nil
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("local state in %s: %w", filepath.Join(dir, name), err)
	}
	return rec, nil
}

// LocalStates names the local states that this machine keeps of the repository,
// those made last first: none with a key that can read it.
func (r *Repository) LocalStates(ctx context.Context) ([]string, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	if dir := r.localDir(); dir != "" {
		return localStates(dir), nil
	}
	return nil, nil
}

// depthOf is how far below the state directory a local state lies.
func depthOf(name string) int {
	if name == "" {
		return localDepth
	}
	return localDepth + 1
}

// localStates are the names of the states in a repository's directory, those
// made last first.
func localStates(dir string) []string {
	type state struct {
		name string
		made time.Time
	}
	var list []state
	look := func(name string) {
		info, err := os.Lstat(filepath.Join(dir, name, stateKeyName))
		if err == nil && info.Mode().IsRegular() {
			list = append(list, state{name, info.ModTime()})
		}
	}
	entries, _ := os.ReadDir(dir) // those that can be listed
	for _, e := range entries {
		if e.IsDir() && validStateOf(e.Name()) {
			look(e.Name())
		}
	}
	look("")
	slices.SortStableFunc(list, func(a, b state) int { return b.made.Compare(a.made) })
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.name
	}
	return names
}

// openLocal opens the state of that name.
func (r *Repository) openLocal(ctx context.Context, dir, name string) (*Record, error) {
	dir = filepath.Join(dir, name)
	if _, err := os.Lstat(filepath.Join(dir, stateKeyName)); errors.Is(err, fs.ErrNotExist) {
		return nil, wrapf(ErrNotFound, "there is none")
	}
	if err := checkPrivateDir(dir, depthOf(name)); err != nil {
		return nil, err
	}
	local, err := readStateKey(filepath.Join(dir, stateKeyName))
	if err != nil {
		return nil, err
	}
	f, err := openPrivate(filepath.Join(dir, stateName(local)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damagef("what its key belongs to is not there")
	}
	if err != nil {
		return nil, err
	}
	rec, err := r.openLocalFile(ctx, f, local)
	if err != nil {
		f.Close()
	}
	return rec, err
}

func (r *Repository) openLocalFile(ctx context.Context, f *os.File, local secret) (*Record, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s, err := openStateFile(f, info.Size(), r.keys.stateCipher(local))
	if err != nil {
		return nil, err
	}
	rec, err := decodeRecord(s.plain, r.keys.repo)
	if err != nil {
		return nil, err
	}
	// Only a record that was committed is a base.
	stands, err := r.stands(ctx, s.record)
	if err != nil {
		return nil, err
	}
	if !stands {
		return nil, wrapf(ErrNotFound, "it is of backup %s, which is not in the repository", s.record.Short())
	}
	rec.ID, rec.repo = s.record, r
	if old := r.local.Swap(&localFile{s, f}); old != nil {
		old.file.Close()
	}
	return rec, nil
}

// localFile is the state file that blocks are read from.
type localFile struct {
	*stateFile
	file *os.File
}

// readStateKey reads the local key.
func readStateKey(name string) (local secret, err error) {
	f, err := openPrivate(name)
	if err != nil {
		return local, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return local, err
	}
	p := make([]byte, magicSize+len(local))
	if info.Size() != int64(len(p)) {
		return local, damagef("its key file has %d bytes", info.Size())
	}
	if err := readState(f, p, 0); err != nil {
		return local, err
	}
	if string(p[:magicSize]) != magic(kindStateKey) {
		return local, damagef("its key file is none of this version")
	}
	copy(local[:], p[magicSize:])
	return local, nil
}

// localChunk gives a block of a file table, an extent list or a document from
// the local state: a write-only key has nothing else to read.
func (r *Repository) localChunk(id ID, length uint32) ([]byte, error) {
	l := r.local.Load()
	if l == nil {
		return nil, wrapf(ErrWriteOnly, "chunk %s", id.Short())
	}
	block, err := l.block(r.decoder, id, length)
	if err != nil {
		return nil, fmt.Errorf("local state: %w", err)
	}
	if block == nil {
		return nil, fmt.Errorf("%w: chunk %s is not in the local state: %w", ErrDamaged, id.Short(), ErrWriteOnly)
	}
	if r.keys.chunkID(kindMetaPack, block) != id {
		return nil, damagef("local state: what is kept as block %s is another", id.Short())
	}
	return block, nil
}
