package repository

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// A backup that goes on says so with intents: small objects that every machine
// can read. It puts the first before it looks at the index, another one every
// quarter of their validity, and the last two, which name the record, before it
// commits; it takes them away when it has ended. Prune deletes nothing that a
// backup may build on whose intents are fresh. All times are the store's. The
// whole argument is in docs/format.md, §10.

const (
	// maxIntentTTL bounds how long an intent may claim to be valid.
	maxIntentTTL = 30 * 24 * time.Hour
	// clockSlack is how far the clocks of a store's servers may be apart.
	clockSlack = time.Minute
	// intentTries is how much earlier an intent that could not be put is tried
	// again than the next is due.
	intentTries = 8
	// staleTries is how many first intents may be stale before they can be seen.
	staleTries = 3
)

// intentPurpose says what an intent was put for.
type intentPurpose uint

const (
	// purposeBackup holds prune back.
	purposeBackup intentPurpose = 0
	// purposeClock only makes the store tell its time.
	purposeClock intentPurpose = 1
)

// wireIntent is an intent as it is encoded.
type wireIntent struct {
	Repo []byte `cbor:"1,keyasint"`
	// Backup is the same in all intents of one backup, and random.
	Backup []byte `cbor:"2,keyasint"`
	// Number counts them, so that no two are alike.
	Number uint64 `cbor:"3,keyasint,omitempty"`
	// Valid is how many seconds the intent counts.
	Valid uint64 `cbor:"4,keyasint"`
	// Began is when the backup's first intent was put; absent in that one.
	Began *wireTime `cbor:"5,keyasint,omitempty"`
	// Unsure says that the store's clock went back since.
	Unsure bool `cbor:"6,keyasint,omitempty"`
	// Record is the record that is about to be put.
	Record  []byte        `cbor:"7,keyasint,omitempty"`
	Purpose intentPurpose `cbor:"8,keyasint,omitempty"`
	Host    string        `cbor:"9,keyasint,omitempty"`
}

// intent is an intent that was read.
type intent struct {
	name    string
	time    time.Time
	valid   time.Duration
	began   time.Time
	unsure  bool
	record  ID
	purpose intentPurpose
	host    string
	// err says why it could not be read: then it may be anything.
	err error
}

// fresh says whether the backup may be going on at that time.
func (i *intent) fresh(now time.Time) bool {
	return i.purpose == purposeBackup && now.Sub(i.time) < i.valid
}

// blocks says whether the backup, if it goes on, may not have seen something
// that every reader saw at that time.
func (i *intent) blocks(seen, now time.Time) bool {
	return i.fresh(now) && (i.unsure || i.time.After(now.Add(clockSlack)) || !i.began.After(seen.Add(clockSlack)))
}

// decodeIntent reads an intent's plaintext.
func decodeIntent(plain []byte, repo ID) (*intent, error) {
	var w wireIntent
	if err := format.unmarshal(plain, &w); err != nil {
		return nil, err
	}
	if string(w.Repo) != string(repo[:]) {
		return nil, damagef("it belongs to another repository")
	}
	if len(w.Backup) != IDSize || w.Valid == 0 || w.Valid > uint64(maxIntentTTL/time.Second) || w.Purpose > purposeClock || len(w.Host) > MaxName ||
		len(w.Record) != 0 && len(w.Record) != IDSize {
		return nil, damagef("an impossible intent")
	}
	began, err := w.Began.time()
	if err != nil {
		return nil, err
	}
	i := &intent{valid: time.Duration(w.Valid) * time.Second, began: began, unsure: w.Unsure, purpose: w.Purpose, host: w.Host}
	copy(i.record[:], w.Record)
	return i, nil
}

// intents lists and reads all intents. One that cannot be read counts for as
// long as one of this program's would, and holds everything back.
func (r *Repository) intents(ctx context.Context) ([]*intent, error) {
	var infos []store.Info
	err := r.store.List(ctx, prefixIntents, func(info store.Info) error {
		if _, ok := parseName(info.Name); ok {
			infos = append(infos, info)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list intents: %w", err)
	}
	var all []*intent
	for _, info := range infos {
		plain, err := r.readShared(ctx, info.Name, kindIntent, boxIntent, maxIntent)
		if errors.Is(err, store.ErrNotExist) {
			continue // its backup has ended since
		}
		var i *intent
		if err == nil {
			i, err = decodeIntent(plain, r.keys.repo)
		}
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				return nil, err
			}
			i = &intent{valid: r.options.IntentTTL, unsure: true, err: err}
		}
		i.name, i.time = info.Name, info.ModTime
		if i.began.IsZero() {
			i.began = i.time
		}
		all = append(all, i)
	}
	return all, nil
}

// sharedTries is how often a mark or an intent is read whose bytes are not what
// they should be.
const sharedTries = 3

// readShared reads an object that sharedObject made, whose name is its hash. Who
// does not know a mark that others can read builds on what they delete, and who
// does not know which record an intent names cannot declare it void: so a read
// that went wrong once does not count.
func (r *Repository) readShared(ctx context.Context, name string, kind objectKind, box boxKind, limit int64) (plain []byte, err error) {
	for range sharedTries {
		plain, err = r.readSharedOnce(ctx, name, kind, box, limit)
		if err == nil || !errors.Is(err, ErrDamaged) || errors.Is(err, store.ErrNotExist) {
			break
		}
	}
	return plain, err
}

// readSharedOnce is readShared, without another try.
func (r *Repository) readSharedOnce(ctx context.Context, name string, kind objectKind, box boxKind, limit int64) ([]byte, error) {
	object, err := readObject(ctx, r.store, name, limit)
	if err != nil {
		return nil, err
	}
	if o, ok := parseName(name); !ok || hashObject(object) != o.id {
		return nil, &ObjectError{"verify", name, damagef("its bytes do not match its name")}
	}
	plain, err := r.keys.openShared(kind, box, object)
	if err != nil {
		return nil, &ObjectError{"decode", name, err}
	}
	return plain, nil
}

// putTimed puts an object and gives the time at which the store says that it
// was: no later than when it became visible.
func (r *Repository) putTimed(ctx context.Context, name string, object []byte) (time.Time, error) {
	if err := r.put(ctx, name, object); err != nil {
		return time.Time{}, err
	}
	info, err := r.store.Stat(ctx, name)
	if err != nil {
		return time.Time{}, &ObjectError{"read", name, err}
	}
	return info.ModTime, nil
}

// keeper puts the intents of one backup. Its methods may be called from several
// goroutines.
type keeper struct {
	r       *Repository
	purpose intentPurpose
	id      ID
	host    string

	mu     sync.Mutex
	number uint64
	names  []string
	// times are those of the intents since restart, began is the first.
	times  []time.Time
	unsure bool
	// silent says that for some time no fresh intent was visible, or may have
	// been.
	silent bool

	stop context.CancelFunc
	done chan struct{}
}

// keep puts the first intent and sees to the others until halt.
func (r *Repository) keep(ctx context.Context, host string) (*keeper, error) {
	k := &keeper{r: r, host: host, done: make(chan struct{})}
	rand.Read(k.id[:])
	if err := k.put(ctx, ID{}); err != nil {
		return nil, errors.Join(err, k.remove(ctx))
	}
	ctx, k.stop = context.WithCancel(ctx)
	go k.run(ctx)
	return k, nil
}

// run renews the intent. That it failed shows in the times of the next.
func (k *keeper) run(ctx context.Context) {
	defer close(k.done)
	every := k.r.options.IntentTTL / 4
	for wait := every; k.r.sleep(ctx, wait) == nil; {
		limited, cancel := context.WithTimeout(ctx, every)
		err := k.put(limited, ID{})
		cancel()
		if wait = every; err != nil {
			wait = every / intentTries
		}
	}
}

// sleep waits that long, or until the context is done.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// halt ends the renewing.
func (k *keeper) halt() {
	k.stop()
	<-k.done
}

// put puts another intent. That it is gone before its time could be asked for says
// that its Put took so long that a prune found it stale: the backup was silent
// then, and if it was the first one, another is the first.
func (k *keeper) put(ctx context.Context, record ID) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for try := 1; ; try++ {
		t, err := k.putOne(ctx, record)
		switch {
		case err == nil:
			k.times = append(k.times, t)
			k.judge()
			return nil
		case !errors.Is(err, store.ErrNotExist) || len(k.times) == 0 && try == staleTries:
			return err
		case len(k.times) > 0:
			k.silent = true
			return nil
		}
	}
}

// putOne puts an intent and gives its time.
func (k *keeper) putOne(ctx context.Context, record ID) (time.Time, error) {
	w := wireIntent{Repo: k.r.keys.repo[:], Backup: k.id[:], Number: k.number, Valid: uint64(max(k.r.options.IntentTTL/time.Second, 1)),
		Unsure: k.unsure, Purpose: k.purpose, Host: k.host}
	k.number++
	if len(k.times) > 0 {
		w.Began = encodeTime(k.times[0])
	}
	if !record.IsZero() {
		w.Record = record[:]
	}
	object := k.r.keys.sharedObject(kindIntent, boxIntent, format.marshal(w))
	name := intentName(hashObject(object))
	k.names = append(k.names, name)
	return k.r.putTimed(ctx, name, object)
}

// judge looks at the newest time. When an intent was put it became visible at
// an unknown time between its own and that of the next one, which was begun
// after it. So there was always a fresh one to be seen if none came later than
// its validity allows after the one two before it; a quarter of it is left for
// clocks that are apart.
func (k *keeper) judge() {
	n := len(k.times)
	if n < 2 {
		return
	}
	if k.times[n-1].Before(k.times[n-2].Add(-clockSlack)) {
		k.unsure = true
	}
	if k.times[n-1].Sub(k.times[max(n-3, 0)]) >= k.r.options.IntentTTL*3/4 {
		k.silent = true
	}
}

// wasSilent says whether a prune may have taken the backup for dead.
func (k *keeper) wasSilent() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.silent
}

// restart begins anew, as a backup that begins now would.
func (k *keeper) restart(ctx context.Context) error {
	k.mu.Lock()
	k.times, k.unsure, k.silent = nil, false, false
	k.mu.Unlock()
	return k.put(ctx, ID{})
}

// remove takes the intents away; what cannot be removed goes stale, and the
// next prune removes it.
func (k *keeper) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range k.names {
		if err := k.r.store.Delete(ctx, name); err != nil && ctx.Err() != nil {
			break
		}
	}
	k.names = nil
	return nil
}

// clock asks the store for its time. It is no later than now.
func (r *Repository) clock(ctx context.Context) (time.Time, error) {
	k := &keeper{r: r, purpose: purposeClock}
	rand.Read(k.id[:])
	err := k.put(ctx, ID{})
	k.remove(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the store for its time: %w", err)
	}
	return k.times[0], nil
}
