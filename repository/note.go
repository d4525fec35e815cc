package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/repository/store"
)

// wireNote is a note as it is encoded.
type wireNote struct {
	Record []byte    `cbor:"1,keyasint"`
	Time   *wireTime `cbor:"2,keyasint,omitempty"`
	Kind   string    `cbor:"3,keyasint,omitempty"`
	Body   []byte    `cbor:"4,keyasint,omitempty"`
}

// maxNoteObject bounds a note object.
const maxNoteObject = MaxNote + 64<<10

// AddNote says something of a record after the fact, in an object of its own:
// the record stays as it is. It is durable when AddNote returns. Of n, Time,
// Kind (at most MaxName bytes of UTF-8, not "forgotten", which is the
// repository's own) and Body are used. ErrNotFound if there is no such record.
func (r *Repository) AddNote(ctx context.Context, record ID, n Note) (Note, error) {
	if err := r.ready(ctx); err != nil {
		return Note{}, err
	}
	if len(n.Body) > MaxNote || len(n.Kind) > MaxName || !utf8.ValidString(n.Kind) || n.Kind == noteForgotten {
		return Note{}, invalidf("a note of kind %.255q with %d bytes", n.Kind, len(n.Body))
	}
	if stands, err := r.stands(ctx, record); err != nil {
		return Note{}, err
	} else if !stands {
		return Note{}, wrapf(ErrNotFound, "record %s", record)
	}
	id, err := r.putNote(ctx, record, n)
	if err != nil {
		return Note{}, fmt.Errorf("add note: %w", err)
	}
	n.ID, n.Record = id, record
	return n, nil
}

// putNote puts a note and gives its id.
func (r *Repository) putNote(ctx context.Context, record ID, n Note) (ID, error) {
	plain := format.marshal(wireNote{Record: record[:], Time: encodeTime(n.Time), Kind: n.Kind, Body: n.Body})
	if _, err := decodeNote(plain, record); err != nil {
		return ID{}, invalidf("%v", err)
	}
	object, c, err := r.keys.sealObject(kindNote)
	if err != nil {
		return ID{}, err
	}
	object = appendBox(object, c, boxNote, plain)
	id := hashObject(object)
	return id, r.put(ctx, noteName(record, id), object)
}

// Notes gives the record's notes, oldest first. If some cannot be read the
// others are returned all the same, with an error that wraps ErrDamaged and
// names each of the damaged.
func (r *Repository) Notes(ctx context.Context, record ID) ([]Note, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	var ids []ID
	err := r.store.List(ctx, prefixNotes+record.String()+"/", func(info store.Info) error {
		if o, ok := parseName(info.Name); ok {
			ids = append(ids, o.id)
		}
		if len(ids) > maxRecords {
			return damagef("record %s has more than %d notes", record.Short(), maxRecords)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list notes: %w", err)
	}
	var notes []Note
	var damaged []error
	for _, id := range ids {
		n, err := r.readNote(ctx, record, id)
		switch {
		case errors.Is(err, ErrDamaged):
			damaged = append(damaged, err)
		case err != nil:
			return nil, err
		case n.Kind != noteForgotten:
			notes = append(notes, n)
		}
	}
	slices.SortFunc(notes, func(a, b Note) int { return cmp.Or(a.Time.Compare(b.Time), slices.Compare(a.ID[:], b.ID[:])) })
	return notes, errors.Join(damaged...)
}

// readNote reads one note.
func (r *Repository) readNote(ctx context.Context, record, id ID) (Note, error) {
	name := noteName(record, id)
	plain, err := r.openSingle(ctx, name, id, kindNote, boxNote, maxNoteObject)
	if err != nil {
		return Note{}, err
	}
	n, err := decodeNote(plain, record)
	if err != nil {
		return Note{}, &ObjectError{"decode", name, err}
	}
	n.ID = id
	return n, nil
}

// decodeNote reads a note's plaintext.
func decodeNote(plain []byte, record ID) (Note, error) {
	var w wireNote
	if err := format.unmarshal(plain, &w); err != nil {
		return Note{}, err
	}
	if string(w.Record) != string(record[:]) {
		return Note{}, damagef("it is about another record")
	}
	if len(w.Body) > MaxNote || len(w.Kind) > MaxName {
		return Note{}, damagef("a note of %d bytes", len(w.Body))
	}
	t, err := w.Time.time()
	return Note{Record: record, Time: t, Kind: w.Kind, Body: w.Body}, err
}
