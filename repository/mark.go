package repository

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// A mark says that packs will be deleted. From when it can be seen nobody may
// build on them any more: a backup takes what is in them for absent. It is
// never taken back; what is needed of a marked pack is copied to another.
//
// When a mark was put is not when it could be seen: the store's time of it may
// be earlier. So whoever puts one puts a second one that confirms it, and the
// time of that one, which was begun afterwards, is no earlier.

// wireMark is a mark as it is encoded.
type wireMark struct {
	Repo []byte `cbor:"1,keyasint"`
	// Data and Meta are ids of packs, one after the other.
	Data []byte `cbor:"2,keyasint,omitempty"`
	Meta []byte `cbor:"3,keyasint,omitempty"`
	// Confirms are names of marks that could be seen when this one was made.
	Confirms []byte `cbor:"4,keyasint,omitempty"`
}

// mark is a mark that was read.
type mark struct {
	id   ID
	time time.Time
	// packs are what it marks.
	packs    []ID
	confirms []ID
	// seen is a time by which everyone could see it, zero if none is known.
	seen time.Time
}

// splitIDs takes ids apart that stand one after the other.
func splitIDs(b []byte) ([]ID, error) {
	if len(b)%IDSize != 0 {
		return nil, damagef("a list of ids has %d bytes", len(b))
	}
	ids := make([]ID, 0, len(b)/IDSize)
	for ; len(b) > 0; b = b[IDSize:] {
		ids = append(ids, ID(b[:IDSize]))
	}
	return ids, nil
}

// decodeMark reads a mark's plaintext.
func decodeMark(plain []byte, repo ID) (*mark, error) {
	var w wireMark
	if err := format.unmarshal(plain, &w); err != nil {
		return nil, err
	}
	if string(w.Repo) != string(repo[:]) {
		return nil, damagef("it belongs to another repository")
	}
	data, err1 := splitIDs(w.Data)
	meta, err2 := splitIDs(w.Meta)
	confirms, err3 := splitIDs(w.Confirms)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return &mark{packs: append(data, meta...), confirms: confirms}, nil
}

// marks lists and reads all marks, and says by when each could be seen. Those
// that cannot be read are in the error, which wraps ErrDamaged; all others are
// given all the same.
func (r *Repository) marks(ctx context.Context) ([]*mark, error) {
	var infos []store.Info
	err := r.store.List(ctx, prefixMarks, func(info store.Info) error {
		if _, ok := parseName(info.Name); ok {
			infos = append(infos, info)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list marks: %w", err)
	}
	var all []*mark
	var damaged []error
	seen := map[ID]time.Time{}
	for _, info := range infos {
		plain, err := r.readShared(ctx, info.Name, kindMark, boxMark, maxMark)
		if errors.Is(err, store.ErrNotExist) {
			continue // all its packs are long gone
		}
		var m *mark
		if err == nil {
			if m, err = decodeMark(plain, r.keys.repo); err != nil {
				err = &ObjectError{"decode", info.Name, err}
			}
		}
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				return nil, err
			}
			damaged = append(damaged, err)
			continue
		}
		o, _ := parseName(info.Name)
		m.id, m.time = o.id, info.ModTime
		for _, id := range m.confirms {
			if t, ok := seen[id]; !ok || m.time.Before(t) {
				seen[id] = m.time
			}
		}
		all = append(all, m)
	}
	for _, m := range all {
		m.seen = seen[m.id]
	}
	return all, errors.Join(damaged...)
}

// putMark marks packs, and confirms marks. It gives the mark's name.
func (r *Repository) putMark(ctx context.Context, packs []knownPack, confirms []ID) (ID, error) {
	w := wireMark{Repo: r.keys.repo[:]}
	for _, p := range packs {
		if p.kind == kindMetaPack {
			w.Meta = append(w.Meta, p.id[:]...)
		} else {
			w.Data = append(w.Data, p.id[:]...)
		}
	}
	for _, id := range confirms {
		w.Confirms = append(w.Confirms, id[:]...)
	}
	object := r.keys.sharedObject(kindMark, boxMark, format.marshal(w))
	id := hashObject(object)
	return id, r.put(ctx, markName(id), object)
}

// mark reads the marks and has the index know them. A mark that cannot be read
// is left to check and prune to name: nobody else can read it either, so that
// nothing is deleted because of it.
func (r *Repository) mark(ctx context.Context) error {
	marks, err := r.marks(ctx)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	r.index.mark(marks)
	return nil
}

// mark takes in marks. They are never forgotten.
func (x *chunkIndex) mark(marks []*mark) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, m := range marks {
		for _, id := range m.packs {
			x.marked[id] = true
		}
	}
	for no := range uint32(x.packs.len()) {
		pack := x.packs.item(no)
		pack.marked = x.marked[pack.id]
	}
}

// anyMarked says whether some pack that the index names is there and marked.
func (x *chunkIndex) anyMarked() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, p := range x.packs.all() {
		if p.marked && !p.absent {
			return true
		}
	}
	return false
}
