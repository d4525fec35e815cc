package repository

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/repository/store"
)

// Key is a key slot: a password's way into the repository. All but ID and
// Current is what the slot says of itself: of slots other than the one in use
// nothing vouches for it.
type Key struct {
	// ID names the slot: the hash of its object.
	ID ID
	// WriteOnly says that it adds backups but does not read them.
	WriteOnly bool
	// Label is what its maker called it; anyone can read it.
	Label string
	// Created is when it was made, zero if the slot does not say.
	Created time.Time
	// KDF is what trying a password costs.
	KDF KDF
	// Current says that it is the one this repository was opened with.
	Current bool
}

// KeyOptions says what a new key is to be.
type KeyOptions struct {
	// WriteOnly makes a key that adds backups but does not read them.
	WriteOnly bool
	// Label is at most MaxName bytes of UTF-8, which anyone can read.
	Label string
}

// The errors of keys, found with errors.Is.
var (
	// ErrLastKey says that no other full key would be left to read with.
	ErrLastKey = errors.New("repository: it is the last key that can read")
	// ErrKeyInUse says that the repository was opened with that key.
	ErrKeyInUse = errors.New("repository: it is the key in use")
	// ErrPasswordTaken says that another key has the password: one password
	// must mean one key, or it would be chance which of them opens.
	ErrPasswordTaken = errors.New("repository: another key has this password")
)

// Keys gives the key slots of the repository, the oldest first. Slots that
// cannot be read are left out and named in an error that wraps ErrDamaged.
func (r *Repository) Keys(ctx context.Context) ([]Key, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	r.keyMu.Lock()
	defer r.keyMu.Unlock()
	slots, err := r.slots(ctx)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	var keys []Key
	for name, s := range slots {
		keys = append(keys, r.describe(name, s))
	}
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Or(a.Created.Compare(b.Created), slices.Compare(a.ID[:], b.ID[:])) })
	return keys, err
}

// slots reads the slots of this repository by name. Damaged ones are in the
// error only.
func (r *Repository) slots(ctx context.Context) (map[string]*slot, error) {
	names, err := slotNames(ctx, r.store)
	if err != nil {
		return nil, err
	}
	var damaged []error
	if len(names) > maxSlots {
		damaged = append(damaged, &ObjectError{"open", prefixKeys, damagef("there are more than %d key slots, and only as many were looked at", maxSlots)})
		names = names[:maxSlots]
	}
	slots := map[string]*slot{}
	for _, name := range names {
		s, err := readSlot(ctx, r.store, name)
		switch {
		case errors.Is(err, store.ErrNotExist): // removed since the listing
		case errors.Is(err, ErrDamaged):
			damaged = append(damaged, err)
		case err != nil:
			return nil, err
		case bytes.Equal(s.Repo, r.keys.repo[:]):
			slots[name] = s
		}
	}
	return slots, errors.Join(damaged...)
}

func (r *Repository) describe(name string, s *slot) Key {
	o, _ := parseName(name)
	k := Key{ID: o.id, WriteOnly: s.Kind == slotWriteOnly, Label: s.Label, KDF: s.kdf(), Current: name == r.slot}
	if s.Created != 0 {
		k.Created = time.Unix(s.Created, 0).UTC()
	}
	return k
}

// WriteOnly says that the key in use adds backups but does not read them.
func (r *Repository) WriteOnly() bool { return r.keys.private == nil }

// AddKey adds a key with a password of its own. It is durable when AddKey
// returns. The cost of trying the password is Options.KDF. A write-only key
// can make only such keys: ErrWriteOnly. ErrPasswordTaken if another key has
// the password; slots that cost much more to try than ours do are not asked.
func (r *Repository) AddKey(ctx context.Context, password []byte, o KeyOptions) (Key, error) {
	if err := r.ready(ctx); err != nil {
		return Key{}, err
	}
	r.keyMu.Lock()
	defer r.keyMu.Unlock()
	return r.addKey(ctx, password, o)
}

// addKey is AddKey with the lock held.
func (r *Repository) addKey(ctx context.Context, password []byte, o KeyOptions) (Key, error) {
	if len(password) == 0 {
		return Key{}, fmt.Errorf("add key: %w", invalidf("the password is empty"))
	}
	if len(o.Label) > MaxName || !utf8.ValidString(o.Label) {
		return Key{}, fmt.Errorf("add key: %w", invalidf("the label is longer than %d bytes or no UTF-8", MaxName))
	}
	if r.WriteOnly() && !o.WriteOnly {
		return Key{}, fmt.Errorf("add a key that can read: %w", ErrWriteOnly)
	}
	slots, err := r.slots(ctx)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return Key{}, fmt.Errorf("add key: %w", err)
	}
	if err := passwordFree(ctx, slots, password, r.options.KDF); err != nil {
		return Key{}, fmt.Errorf("add key: %w", err)
	}
	object, err := encodeSlot(r.keys, password, r.options.KDF, o.WriteOnly, o.Label, time.Now())
	if err != nil {
		return Key{}, fmt.Errorf("add key: %w", err)
	}
	name := slotName(hashObject(object))
	if err := r.put(ctx, name, object); err != nil {
		return Key{}, fmt.Errorf("add key: %w", err)
	}
	// Nobody should find out next year that a key does not open.
	s, err := readSlot(ctx, r.store, name)
	if err != nil {
		return Key{}, fmt.Errorf("add key: read it back: %w", err)
	}
	k, err := s.open(password)
	if err != nil {
		return Key{}, fmt.Errorf("add key: open it again: %w", err)
	}
	k.wipe()
	return r.describe(name, s), nil
}

// passwordFree makes sure that no slot opens with the password. Slots made to
// hold up whoever tries them are passed over.
func passwordFree(ctx context.Context, slots map[string]*slot, password []byte, usual KDF) error {
	most := 4 * max(usual.cost(), defaultKDF().cost())
	for _, s := range slots {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.kdf().cost() > most {
			continue
		}
		if k, err := s.open(password); err == nil {
			k.wipe()
			return ErrPasswordTaken
		}
	}
	return nil
}

// ChangePassword gives the key in use a new password: a new slot of the same
// kind and label is added and durable before the old one is removed, so that at
// every instant one of the two passwords opens. If the old slot cannot be
// removed the error says so, both passwords open, and the Key is the new one.
// Nothing is encrypted anew; see RemoveKey.
func (r *Repository) ChangePassword(ctx context.Context, password []byte) (Key, error) {
	if err := r.ready(ctx); err != nil {
		return Key{}, err
	}
	r.keyMu.Lock()
	defer r.keyMu.Unlock()
	old, err := readSlot(ctx, r.store, r.slot)
	if err != nil {
		return Key{}, fmt.Errorf("change password: %w", err)
	}
	key, err := r.addKey(ctx, password, KeyOptions{WriteOnly: r.WriteOnly(), Label: old.Label})
	if err != nil {
		return Key{}, fmt.Errorf("change password: %w", err)
	}
	was := r.slot
	r.slot, key.Current = slotName(key.ID), true
	if err := r.store.Delete(ctx, was); err != nil && !errors.Is(err, store.ErrNotExist) {
		return key, fmt.Errorf("the new password opens, but the old key %s is still there: %w", was, err)
	}
	return key, nil
}

// RemoveKey removes a key: its password opens no more. ErrLastKey if no other
// key would be left that can read, ErrKeyInUse for the key the repository was
// opened with unless own is set, ErrNotFound if there is no such key,
// ErrWriteOnly if the key in use cannot read: it cannot know that others can.
//
// Nothing is encrypted anew: the keys of the repository stay what they are, and
// whoever has a copy of the slot and knows its password, or kept what it opened,
// still has them.
func (r *Repository) RemoveKey(ctx context.Context, id ID, own bool) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	r.keyMu.Lock()
	defer r.keyMu.Unlock()
	if r.WriteOnly() {
		return fmt.Errorf("remove key %s: %w", id.Short(), ErrWriteOnly)
	}
	name := slotName(id)
	slots, err := r.slots(ctx)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("remove key %s: %w", id.Short(), err)
	}
	if slots[name] == nil {
		return wrapf(ErrNotFound, "key %s", id.Short())
	}
	if name == r.slot {
		others := 0
		for n, s := range slots {
			if n != name && s.Kind == slotFull {
				others++
			}
		}
		switch {
		case others == 0:
			return fmt.Errorf("remove key %s: %w", id.Short(), ErrLastKey)
		case !own:
			return fmt.Errorf("remove key %s: %w", id.Short(), ErrKeyInUse)
		}
	}
	return r.removeSlot(ctx, name)
}

// removeSlot deletes a slot. Two that remove each other's key at once would
// leave none; so whoever then finds his own gone puts it back. (The later of
// the two deletions is followed by a look that sees both.)
func (r *Repository) removeSlot(ctx context.Context, name string) error {
	own, err := readObject(ctx, r.store, r.slot, maxSlot)
	if err != nil {
		return fmt.Errorf("remove key: %w", err)
	}
	if err := r.store.Delete(ctx, name); err != nil && !errors.Is(err, store.ErrNotExist) {
		return fmt.Errorf("remove key: %w", &ObjectError{"delete", name, err})
	}
	if name == r.slot {
		return nil
	}
	switch _, err := r.store.Stat(ctx, r.slot); {
	case errors.Is(err, store.ErrNotExist):
		if err := r.put(ctx, r.slot, own); err != nil {
			return fmt.Errorf("remove key: the key in use was removed meanwhile, and cannot be put back: %w", err)
		}
	case err != nil:
		return fmt.Errorf("remove key: %w", err)
	}
	return nil
}
