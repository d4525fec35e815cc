package repository

import (
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sombra-backup/sombra/repository/store"
)

// Options says how a repository is made and used. The zero value is right for
// everyone but tests.
type Options struct {
	// KDF is the cost of trying a password of the key slots that Create, AddKey
	// and ChangePassword make; zero means t=3, m=64 MiB, p=4. Less makes
	// passwords easier to guess.
	KDF KDF
	// Chunking is used by Create and kept in the repository; zero means
	// 256 KiB, 1 MiB, 4 MiB.
	Chunking Chunking
	// PackSize is the size in bytes at which a pack is closed; zero means
	// 16 MiB, the most is 128 MiB. A backup holds up to five packs in memory, seven
	// for a store that gains by more Puts at once.
	PackSize int
	// Workers is how many goroutines of a backup compress; zero means
	// GOMAXPROCS.
	Workers int
	// CacheBytes bounds the memory kept for decoded data and for pages of the
	// index, half each; zero means 64 MiB.
	CacheBytes int64
	// StateDir is this host's directory of state, to which nobody else may
	// write. In it, "blocks" has prints of the blocks of large files, by which the
	// next backup finds what changed in them (see PutAgain), two thousandths of
	// these files' size; and a repository that was opened with a write-only key
	// keeps there, sealed, what its next backup needs (see LocalRecord). If the
	// store is far away "index" has copies of the repository's index objects, 53
	// bytes a chunk. Losing
	// it costs speed. Empty means nowhere: then every backup reads everything.
	StateDir string
	// IntentTTL is how long prune believes that a backup of this program goes on
	// when nothing is heard of it; a quarter of it is how often a backup gives a
	// sign of life. Zero means 24 hours, the most is 30 days.
	IntentTTL time.Duration
	// TempDir is where a file table too large for memory is sorted; empty
	// means os.TempDir.
	TempDir string
	// LargeFile is the size in bytes from which a file is a large one; zero
	// means the constant LargeFile.
	LargeFile int64
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() Options {
	if o.KDF == (KDF{}) {
		o.KDF = defaultKDF()
	}
	if o.Chunking == (Chunking{}) {
		o.Chunking = defaultChunking()
	}
	if o.PackSize == 0 {
		o.PackSize = 16 << 20
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.LargeFile <= 0 {
		o.LargeFile = LargeFile
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
	}
	if o.IntentTTL == 0 {
		o.IntentTTL = 24 * time.Hour
	}
	return o
}

// check refuses options that make no sense.
func (o Options) check() error {
	switch {
	case !o.KDF.valid():
		return invalidf("argon2id with t=%d, m=%d KiB, p=%d", o.KDF.Time, o.KDF.Memory, o.KDF.Threads)
	case !o.Chunking.valid():
		return invalidf("chunks of %d, %d, %d bytes", o.Chunking.Min, o.Chunking.Average, o.Chunking.Max)
	case o.IntentTTL < time.Second || o.IntentTTL > maxIntentTTL:
		return invalidf("intents that last %v", o.IntentTTL)
	case o.PackSize < 1 || o.PackSize > maxPack/2:
		return invalidf("packs of %d bytes", o.PackSize)
	}
	return nil
}

// Repository is an open repository. Its methods may be called from several
// goroutines.
type Repository struct {
	store   store.Store
	options Options
	keys    *keyring
	// slot is the object name of the key slot that was opened; keyMu is held
	// by what changes slots.
	slot     string
	keyMu    sync.Mutex
	chunking Chunking
	index    *chunkIndex
	decoder  *zstd.Decoder
	ciphers  *lru[ID, cipher.AEAD]
	frames   *lru[frameKey, *openFrame]
	closed   atomic.Bool
	// local is what a write-only key reads instead of the repository.
	local atomic.Pointer[localFile]
	// sleep waits; tests have time of their own.
	sleep func(context.Context, time.Duration) error
	// usageLimit is that of usage; tests have less.
	usageLimit int
}

// Create makes a repository in the store and opens it. Only a config object
// makes a repository, and it is put last and never replaced: of several
// creations at once one wins, the others get ErrExist. An empty password is
// ErrInvalid. The password is not kept and not changed.
func Create(ctx context.Context, st store.Store, password []byte, o Options) (*Repository, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	if len(password) == 0 {
		return nil, fmt.Errorf("create repository: %w", invalidf("the password is empty"))
	}
	switch _, err := st.Stat(ctx, configName); {
	case err == nil:
		return nil, ErrExist
	case !errors.Is(err, store.ErrNotExist):
		return nil, fmt.Errorf("create repository: %w", err)
	}
	k, err := newKeyring()
	if err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	now := time.Now()
	slot, err := encodeSlot(k, password, o.KDF, false, "", now)
	if err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	name := slotName(hashObject(slot))
	if err := st.Put(ctx, name, slot); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	config := encodeConfig(k, o.Chunking, now)
	if err := st.Put(ctx, configName, config); errors.Is(err, store.ErrExist) {
		// A store that repeats calls may say so of our own config.
		there, err := readObject(ctx, st, configName, maxConfig)
		if err != nil {
			return nil, fmt.Errorf("create repository: %w", err)
		}
		if !bytes.Equal(there, config) {
			// Another creation won; what is left of this one is its slot.
			return nil, errors.Join(ErrExist, st.Delete(ctx, name))
		}
	} else if err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	return newRepository(st, o, k, o.Chunking, name), nil
}

// Open opens the repository in the store. It gives ErrNoRepository if there is
// none, ErrWrongPassword if no key slot opens, ErrUnsupported if a newer
// program made it, and an error wrapping ErrDamaged if config or key slots
// were altered. Of the options, Chunking is not used.
func Open(ctx context.Context, st store.Store, password []byte, o Options) (*Repository, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	c, err := readConfig(ctx, st)
	if errors.Is(err, ErrNoRepository) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	k, name, err := unlock(ctx, st, c.Repo, password)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	if err := c.authenticate(k); err != nil {
		return nil, fmt.Errorf("open repository: %w", &ObjectError{"verify", configName, err})
	}
	return newRepository(st, o, k, c.chunking(), name), nil
}

// newRepository puts an open repository together.
func newRepository(st store.Store, o Options, k *keyring, ch Chunking, slot string) *Repository {
	index := newChunkIndex(st, k, o.CacheBytes/2)
	index.near = newIndexCache(st, o.StateDir, k.repo)
	return &Repository{
		store: st, options: o, keys: k, slot: slot, chunking: ch,
		index:   index,
		decoder: newDecoder(),
		ciphers: newLRU[ID, cipher.AEAD](4096),
		frames:  newLRU[frameKey, *openFrame](o.CacheBytes / 2),
		sleep:   sleep, usageLimit: usageLimit,
	}
}

// ID is the repository's identifier, which never changes.
func (r *Repository) ID() ID { return r.keys.repo }

// Damage says which index objects could not be read when Begin, Record or
// Records last read the index: nil, or an error that wraps ErrDamaged and names
// each. Nothing is lost by it: restoring finds the chunks through the packs'
// own directories, and a backup stores again what it cannot find.
func (r *Repository) Damage() error { return r.index.damage() }

// Close forgets the keys. No other method, and no Backup, Record or File of
// the repository, may be in use or used afterwards.
func (r *Repository) Close() error {
	if r.closed.Swap(true) {
		return ErrClosed
	}
	r.keys.wipe()
	if l := r.local.Swap(nil); l != nil {
		l.file.Close()
	}
	r.decoder.Close()
	r.frames.clear()
	r.ciphers.clear()
	return nil
}

// ready is called by every operation that begins something.
func (r *Repository) ready(ctx context.Context) error {
	if r.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}
