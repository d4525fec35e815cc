package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/repository/store"
)

// Record is one backup. It is not changed after it was read.
type Record struct {
	// ID is the record's name: the hash of its object.
	ID ID
	RecordInfo
	Totals Totals

	repo  *Repository
	table *Table
	// plain is the record as it is encoded, if it was just made with a key that
	// cannot read it again.
	plain []byte
	// indexes are the index objects that its backup wrote.
	indexes []ID
}

// Table is the record's file table.
func (rec *Record) Table() *Table { return rec.table }

// Document reads one of the record's documents. ErrNotFound if it has none of
// that name, ErrInvalid if it is longer than limit bytes.
func (rec *Record) Document(ctx context.Context, name string, limit int64) ([]byte, error) {
	c, ok := rec.Documents[name]
	if !ok {
		return nil, wrapf(ErrNotFound, "document %q in record %s", name, rec.ID.Short())
	}
	if c.size > limit {
		return nil, invalidf("document %q of record %s has %d bytes, more than %d", name, rec.ID.Short(), c.size, limit)
	}
	f, err := rec.repo.OpenContent(ctx, c)
	if err != nil {
		return nil, err
	}
	data := make([]byte, 0, min(c.size, 1<<20))
	err = f.Each(ctx, func(at int64, piece []byte) error {
		// Documents have no holes when this program wrote them.
		data = append(data, make([]byte, at-int64(len(data)))...)
		data = append(data, piece...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("document %q of record %s: %w", name, rec.ID.Short(), err)
	}
	return append(data, make([]byte, c.size-int64(len(data)))...), nil
}

// wireRecord is a record as it is encoded.
type wireRecord struct {
	Repo      []byte                  `cbor:"1,keyasint"`
	Time      *wireTime               `cbor:"2,keyasint,omitempty"`
	Started   *wireTime               `cbor:"3,keyasint,omitempty"`
	Host      wireHost                `cbor:"4,keyasint"`
	User      string                  `cbor:"5,keyasint,omitempty"`
	Program   string                  `cbor:"6,keyasint,omitempty"`
	Type      string                  `cbor:"7,keyasint,omitempty"`
	Tags      []string                `cbor:"8,keyasint,omitempty"`
	Roots     []wireRoot              `cbor:"9,keyasint,omitempty"`
	Parents   [][]byte                `cbor:"10,keyasint,omitempty"`
	State     uint8                   `cbor:"11,keyasint"`
	Documents map[string]*wireContent `cbor:"12,keyasint,omitempty"`
	Summary   []byte                  `cbor:"13,keyasint,omitempty"`
	Attrs     map[string][]byte       `cbor:"14,keyasint,omitempty"`
	Table     tableRoot               `cbor:"15,keyasint"`
	Totals    wireTotals              `cbor:"16,keyasint"`
	Indexes   [][]byte                `cbor:"17,keyasint,omitempty"`
}

type wireHost struct {
	_         struct{} `cbor:",toarray"`
	ID        string
	Name      string
	OS        string
	PathStyle string
}

type wireRoot struct {
	ID         []byte            `cbor:"1,keyasint"`
	Path       []byte            `cbor:"2,keyasint,omitempty"`
	Volume     string            `cbor:"3,keyasint,omitempty"`
	FileSystem string            `cbor:"4,keyasint,omitempty"`
	Attrs      map[string][]byte `cbor:"5,keyasint,omitempty"`
}

type wireTotals struct {
	_                                    struct{} `cbor:",toarray"`
	Entries, Files, Bytes                uint64
	BytesRead                            uint64
	ChunksAdded, BytesAdded, BytesStored uint64
}

// check says whether the requester's part of a record keeps the rules; reader
// and writer both ask.
func (info *RecordInfo) check() error {
	short := slices.Concat([]string{info.Host.ID, info.Host.Name, info.Host.OS, info.Host.PathStyle, info.User, info.Program, info.Type}, info.Tags)
	for name := range info.Documents {
		if name == "" {
			return invalidf("a document without a name")
		}
		short = append(short, name)
	}
	for _, s := range short {
		if len(s) > MaxName || !utf8.ValidString(s) {
			return invalidf("the text %.40q… is longer than %d bytes or no UTF-8", s, MaxName)
		}
	}
	switch {
	case info.State != Complete && info.State != Incomplete:
		return invalidf("the state is %d", info.State)
	case len(info.Roots) > MaxRoots || len(info.Documents) > MaxDocuments || len(info.Tags) > MaxAttrs || len(info.Parents) > MaxDocuments:
		return invalidf("%d roots, %d documents, %d tags, %d parents", len(info.Roots), len(info.Documents), len(info.Tags), len(info.Parents))
	case len(info.Summary) > MaxSummary:
		return invalidf("a summary of %d bytes", len(info.Summary))
	case len(info.Attrs) > MaxAttrs:
		return invalidf("%d attributes", len(info.Attrs))
	}
	seen := map[string]bool{}
	for _, r := range info.Roots {
		if err := checkRoot(r.ID); err != nil || seen[r.ID] {
			return invalidf("the root %.255q is there twice, or its id is impossible", r.ID)
		}
		seen[r.ID] = true
		if len(r.Path) > MaxPath || len(r.Attrs) > MaxAttrs {
			return invalidf("the root %q has a path of %d bytes and %d attributes", r.ID, len(r.Path), len(r.Attrs))
		}
	}
	return nil
}

// encodeRecord gives the record's plaintext.
func encodeRecord(repo ID, info *RecordInfo, table tableRoot, t Totals, indexes []ID) ([]byte, error) {
	w := wireRecord{
		Repo: repo[:], Time: encodeTime(info.Time), Started: encodeTime(info.Started),
		Host: wireHost{ID: info.Host.ID, Name: info.Host.Name, OS: info.Host.OS, PathStyle: info.Host.PathStyle},
		User: info.User, Program: info.Program, Type: info.Type, Tags: info.Tags,
		State: uint8(info.State), Summary: info.Summary, Attrs: encodeAttrs(info.Attrs), Table: table,
		Totals: wireTotals{
			Entries: uint64(t.Entries), Files: uint64(t.Files), Bytes: uint64(t.Bytes), BytesRead: uint64(t.BytesRead),
			ChunksAdded: uint64(t.ChunksAdded), BytesAdded: uint64(t.BytesAdded), BytesStored: uint64(t.BytesStored),
		},
		Parents: idBytes(info.Parents), Indexes: idBytes(indexes),
	}
	for _, r := range info.Roots {
		w.Roots = append(w.Roots, wireRoot{ID: []byte(r.ID), Path: []byte(r.Path), Volume: r.Volume, FileSystem: r.FileSystem, Attrs: encodeAttrs(r.Attrs)})
	}
	if len(info.Documents) > 0 {
		w.Documents = make(map[string]*wireContent, len(info.Documents))
		for name, c := range info.Documents {
			w.Documents[name] = c.wire()
		}
	}
	plain, err := format.enc.Marshal(w)
	if err != nil {
		return nil, wrapf(ErrInvalid, "%v", err)
	}
	if len(plain) > MaxRecord-headerSize-boxOverhead {
		return nil, invalidf("the record takes %d bytes", len(plain))
	}
	// What a reader would refuse must not be written: texts that are no
	// UTF-8, for instance, are found here.
	if _, err := decodeRecord(plain, repo); err != nil {
		return nil, wrapf(ErrInvalid, "%v", err)
	}
	return plain, nil
}

func idBytes(ids []ID) [][]byte {
	var b [][]byte
	for _, id := range ids {
		b = append(b, slices.Clone(id[:]))
	}
	return b
}

func parseIDs(b [][]byte) ([]ID, error) {
	var ids []ID
	for _, p := range b {
		if len(p) != IDSize {
			return nil, damagef("an id of %d bytes", len(p))
		}
		ids = append(ids, ID(p))
	}
	return ids, nil
}

// decodeRecord reads a record's plaintext.
func decodeRecord(plain []byte, repo ID) (*Record, error) {
	var w wireRecord
	if err := format.unmarshal(plain, &w); err != nil {
		return nil, err
	}
	if string(w.Repo) != string(repo[:]) {
		return nil, damagef("it belongs to another repository")
	}
	rec := &Record{RecordInfo: RecordInfo{
		Host: Host{ID: w.Host.ID, Name: w.Host.Name, OS: w.Host.OS, PathStyle: w.Host.PathStyle},
		User: w.User, Program: w.Program, Type: w.Type, Tags: w.Tags,
		State: State(w.State), Summary: w.Summary, Attrs: decodeAttrs(w.Attrs),
	}}
	for _, r := range w.Roots {
		rec.Roots = append(rec.Roots, Root{ID: string(r.ID), Path: string(r.Path), Volume: r.Volume, FileSystem: r.FileSystem, Attrs: decodeAttrs(r.Attrs)})
	}
	var errs [4]error
	rec.Time, errs[0] = w.Time.time()
	rec.Started, errs[1] = w.Started.time()
	rec.Parents, errs[2] = parseIDs(w.Parents)
	rec.indexes, errs[3] = parseIDs(w.Indexes)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if len(w.Documents) > 0 {
		rec.Documents = make(map[string]Content, len(w.Documents))
	}
	for name, wc := range w.Documents {
		c, err := wc.content()
		if err != nil {
			return nil, fmt.Errorf("document %q: %w", name, err)
		}
		rec.Documents[name] = c
	}
	if err := rec.check(); err != nil {
		return nil, damagef("%v", err)
	}
	if err := w.Table.check(); err != nil {
		return nil, err
	}
	var err error
	if rec.Totals, err = w.Totals.totals(); err != nil {
		return nil, err
	}
	rec.table = newTable(rec, w.Table)
	return rec, nil
}

// totals checks the counts.
func (w *wireTotals) totals() (Totals, error) {
	if max(w.Entries, w.Files, w.Bytes, w.BytesRead, w.ChunksAdded, w.BytesAdded, w.BytesStored) > math.MaxInt64 {
		return Totals{}, damagef("its totals are impossible")
	}
	return Totals{
		Entries: int64(w.Entries), Files: int64(w.Files), Bytes: int64(w.Bytes), BytesRead: int64(w.BytesRead),
		ChunksAdded: int64(w.ChunksAdded), BytesAdded: int64(w.BytesAdded), BytesStored: int64(w.BytesStored),
	}, nil
}

// sealRecord makes a record's object, and the record as it will read.
func (r *Repository) sealRecord(info RecordInfo, table tableRoot, t Totals, indexes []ID) (*Record, []byte, error) {
	plain, err := encodeRecord(r.keys.repo, &info, table, t, indexes)
	if err != nil {
		return nil, nil, err
	}
	object, c, err := r.keys.sealObject(kindRecord)
	if err != nil {
		return nil, nil, err
	}
	object = appendBox(object, c, boxRecord, plain)
	rec, err := decodeRecord(plain, r.keys.repo)
	if err != nil {
		return nil, nil, err
	}
	rec.ID, rec.repo = hashObject(object), r
	if r.WriteOnly() {
		rec.plain = plain
	}
	return rec, object, nil
}

// errVoid says that a void stands where the record should be.
var errVoid = wrapf(ErrNotFound, "the record was declared void before it was put")

// putRecord makes a record visible. Everything it needs is durable. errVoid if
// a prune has taken its name.
func (r *Repository) putRecord(ctx context.Context, rec *Record, object []byte) error {
	name := recordName(rec.ID)
	err := r.store.Put(ctx, name, object)
	if errors.Is(err, store.ErrExist) {
		// An earlier try of this very Put, or a void.
		var there []byte
		if there, err = readObject(ctx, r.store, name, MaxRecord); err == nil && string(there) == voidRecord {
			return errVoid
		}
		if err == nil && hashObject(there) != rec.ID {
			err = damagef("its bytes do not match its name")
		}
	}
	if err != nil {
		return &ObjectError{"put", name, err}
	}
	return nil
}

// voidRecord is what prune puts under the name of a record whose backup it
// takes for dead, so that the record cannot appear any more. It is no record.
const voidRecord = "SOMBRA" + string(kindVoid) + "\x01"

// isVoid says whether the object of that size, in the place of a record, is a
// void.
func (r *Repository) isVoid(ctx context.Context, name string, size int64) (bool, error) {
	if size != int64(len(voidRecord)) {
		return false, nil
	}
	object, err := readObject(ctx, r.store, name, MaxRecord)
	if errors.Is(err, ErrDamaged) {
		return false, nil // whoever reads it as a record says so
	}
	return string(object) == voidRecord, err
}

// stands says whether there is a record of that id, and not a void in its place.
func (r *Repository) stands(ctx context.Context, id ID) (bool, error) {
	name := recordName(id)
	info, err := r.store.Stat(ctx, name)
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, &ObjectError{"read", name, err}
	}
	void, err := r.isVoid(ctx, name, info.Size)
	return !void, err
}

// readRecord reads the record with that id.
func (r *Repository) readRecord(ctx context.Context, id ID) (*Record, error) {
	name := recordName(id)
	plain, err := r.openSingle(ctx, name, id, kindRecord, boxRecord, MaxRecord)
	if errors.Is(err, ErrDamaged) && !errors.Is(err, store.ErrNotExist) {
		// Perhaps it was forgotten, and declared void, since it was listed.
		if void, verr := r.isVoid(ctx, name, int64(len(voidRecord))); void && verr == nil {
			err = &ObjectError{"read", name, missing(store.ErrNotExist)}
		}
	}
	if err != nil {
		return nil, err
	}
	rec, err := decodeRecord(plain, r.keys.repo)
	if err != nil {
		return nil, &ObjectError{"decode", name, err}
	}
	rec.ID, rec.repo = id, r
	return rec, nil
}

// openSingle reads an object that is one box after a header.
func (r *Repository) openSingle(ctx context.Context, name string, id ID, kind objectKind, box boxKind, limit int64) ([]byte, error) {
	object, err := readObject(ctx, r.store, name, limit)
	if err != nil {
		return nil, err
	}
	if hashObject(object) != id {
		return nil, &ObjectError{"verify", name, damagef("its bytes do not match its name")}
	}
	c, err := r.keys.openObject(kind, object)
	if err != nil {
		return nil, &ObjectError{"decode", name, err}
	}
	plain, err := openBox(c, box, headerSize, object[headerSize:])
	if err != nil {
		return nil, &ObjectError{"decode", name, err}
	}
	return plain, nil
}

// recordIDs lists the records whose id begins with the hexadecimal digits.
func (r *Repository) recordIDs(ctx context.Context, prefix string) ([]ID, error) {
	var ids []ID
	err := r.store.List(ctx, prefixRecords+prefix, func(info store.Info) error {
		o, ok := parseName(info.Name)
		if !ok {
			return nil
		}
		void, err := r.isVoid(ctx, info.Name, info.Size)
		if err != nil {
			return err
		}
		if !void {
			ids = append(ids, o.id)
		}
		if len(ids) > maxRecords {
			return damagef("there are more than %d records", maxRecords)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	return ids, nil
}

// RecordIDs lists the ids of all records, in no order. No record is read.
func (r *Repository) RecordIDs(ctx context.Context) ([]ID, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	return r.recordIDs(ctx, "")
}

// recordRead is what reading a record gave: neither of both if it was forgotten
// since it was listed.
type recordRead struct {
	record *Record
	// err says that it is damaged.
	err error
}

// readRecords reads records, several at once, and gives them in that order.
func (r *Repository) readRecords(ctx context.Context, ids []ID) ([]recordRead, error) {
	read := make([]recordRead, len(ids))
	err := eachAtOnce(ctx, r.store, len(ids), func(ctx context.Context, _, i int) error {
		rec, err := r.readRecord(ctx, ids[i])
		switch {
		case errors.Is(err, store.ErrNotExist):
		case errors.Is(err, ErrDamaged):
			read[i].err = err
		case err != nil:
			return err
		default:
			read[i].record = rec
		}
		return nil
	})
	return read, err
}

// Records gives all records, oldest first. If some cannot be read the others
// are returned all the same, with an error that wraps ErrDamaged and names
// each of the damaged.
func (r *Repository) Records(ctx context.Context) ([]*Record, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	ids, err := r.recordIDs(ctx, "")
	if err != nil {
		return nil, err
	}
	if err := r.index.refresh(ctx); err != nil {
		return nil, err
	}
	read, err := r.readRecords(ctx, ids)
	if err != nil {
		return nil, err
	}
	var records []*Record
	var damaged []error
	for _, rec := range read {
		switch {
		case rec.err != nil:
			damaged = append(damaged, rec.err)
		case rec.record != nil:
			records = append(records, rec.record)
		}
	}
	slices.SortFunc(records, func(a, b *Record) int {
		return cmp.Or(a.Time.Compare(b.Time), slices.Compare(a.ID[:], b.ID[:]))
	})
	return records, errors.Join(damaged...)
}

// minPrefix is the least number of digits that name a record.
const minPrefix = 4

// Record gives the record whose id begins with the given hexadecimal digits,
// four or more, or the newest for "latest". ErrNotFound, ErrAmbiguous.
//
// If a record cannot be read nobody knows whether it is the newest: then
// "latest" gives the error that names it, and the other records are to be
// asked for by their ids.
func (r *Repository) Record(ctx context.Context, name string) (*Record, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	if name == "latest" {
		records, err := r.Records(ctx)
		if err != nil {
			return nil, fmt.Errorf("find the latest record: %w", err)
		}
		if len(records) == 0 {
			return nil, wrapf(ErrNotFound, "there are no records yet")
		}
		return records[len(records)-1], nil
	}
	if len(name) < minPrefix || len(name) > 2*IDSize || strings.Trim(name, "0123456789abcdef") != "" {
		return nil, invalidf("%.80q is neither \"latest\" nor %d or more hexadecimal digits of a record's id", name, minPrefix)
	}
	ids, err := r.recordIDs(ctx, name)
	if err != nil {
		return nil, err
	}
	switch len(ids) {
	case 0:
		return nil, wrapf(ErrNotFound, "record %s", name)
	case 1:
	default:
		return nil, wrapf(ErrAmbiguous, "%d records begin with %s", len(ids), name)
	}
	if err := r.index.refresh(ctx); err != nil {
		return nil, err
	}
	return r.readRecord(ctx, ids[0])
}
