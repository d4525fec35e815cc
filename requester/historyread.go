package requester

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// Bounds on what a record tells of explicit components: one has a line, and a
// line some notes and a stamp.
const (
	maxHistoryLines    = 1 << 16
	maxHistoryDocument = 16 << 20
)

// ParseHistory reads a record's document [DocHistory]. It comes from the medium:
// a line that names no component, a type that is none, a base that is no id and
// a component that has two lines are errors.
func ParseHistory(data []byte) ([]HistoryLine, error) {
	lines, err := readList[HistoryLine](data, maxHistoryLines)
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", DocHistory, err)
	}
	if err := checkLines(lines); err != nil {
		return nil, fmt.Errorf("document %s: %w", DocHistory, err)
	}
	return lines, nil
}

// readList reads a JSON list, element by element so that no more memory is used
// than for the most there may be.
func readList[T any](data []byte, most int) (list []T, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	first, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if first == nil {
		return nil, nil
	}
	if first != json.Delim('[') {
		return nil, errors.New("it is no list")
	}
	for dec.More() {
		if len(list) == most {
			return nil, fmt.Errorf("more than %d lines", most)
		}
		var one T
		if err := dec.Decode(&one); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(list)+1, err)
		}
		list = append(list, one)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the list")
	}
	return list, nil
}

func checkLines(lines []HistoryLine) error {
	seen := make(map[HistoryKey]bool, len(lines))
	for i := range lines {
		l := &lines[i]
		if err := l.check(); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		if seen[l.HistoryKey] {
			return fmt.Errorf("line %d: component %q has a line already", i+1, clip(l.FullPath(), 200))
		}
		seen[l.HistoryKey] = true
	}
	return nil
}

func (l *HistoryLine) check() error {
	if l.Name == "" || l.Class.IsZero() {
		return errors.New("it names no component of a writer")
	}
	for _, word := range []string{l.Asked, l.Type} {
		t, err := vss.ParseBackupType(word)
		if err != nil || t == vss.BackupTypeUndefined || t == vss.BackupTypeOther || t.Word() != word {
			return fmt.Errorf("%q is no type of backup", clip(word, 100))
		}
	}
	switch l.Counts {
	case "", vss.BackupTypeFull.Word(), vss.BackupTypeIncremental.Word(), vss.BackupTypeLog.Word():
	default:
		return fmt.Errorf("%q is nothing to build upon", clip(l.Counts, 100))
	}
	if l.Base != "" {
		if _, err := repository.ParseID(l.Base); err != nil {
			return fmt.Errorf("base: %q is no id of a record", clip(l.Base, 100))
		}
	}
	return nil
}

// FullPath is the logical path and the name joined.
func (k HistoryKey) FullPath() string { return vss.FullPath(k.LogicalPath, k.Name) }

// ReadHistory reads the lines of a record. One made without writers has none.
// The error says that the medium gives no document that can be used.
func ReadHistory(ctx context.Context, rec *repository.Record) ([]HistoryLine, error) {
	data, err := rec.Document(ctx, DocHistory, maxHistoryDocument)
	if errors.Is(err, repository.ErrNotFound) {
		if _, there := rec.Documents[DocHistory]; !there {
			return nil, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", DocHistory, err)
	}
	return ParseHistory(data)
}

// PastRecord is a record as histories have it.
type PastRecord struct {
	ID repository.ID
	// Origin names the record that a copied one is a copy of, as
	// [repository.AttrOrigin] has it: the bases in its lines are ids of records
	// where it was made. Empty if it was made here.
	Origin string
	Host   string // the host's id
	Time   time.Time
	// Parents are the records that it was made against, and so came before it,
	// whatever the host's clock said.
	Parents []repository.ID
	Type    string // the record's own
	// Record is the record itself; nil in tables that tests make.
	Record *repository.Record

	lines map[HistoryKey]*HistoryLine
	err   error
	// spoiled says, for components, why they cannot be restored from it.
	spoiled map[HistoryKey]string
	load    func() ([]HistoryLine, error) // nil once it was called
}

// NewPastRecord gives a record with its lines.
func NewPastRecord(r PastRecord, lines []HistoryLine) *PastRecord {
	r.load = func() ([]HistoryLine, error) { return lines, nil }
	return &r
}

// Line is what the record says of a component, nil if it says nothing; the error
// says that what it says cannot be read.
func (r *PastRecord) Line(key HistoryKey) (*HistoryLine, error) {
	if r.load != nil {
		lines, err := r.load()
		r.load, r.err = nil, err
		r.lines = make(map[HistoryKey]*HistoryLine, len(lines))
		for i := range lines {
			r.lines[lines[i].HistoryKey] = &lines[i]
		}
	}
	return r.lines[key], r.err
}

// spoil enters that a component cannot be restored from the record.
func (r *PastRecord) spoil(key HistoryKey, why string) {
	if r.spoiled == nil {
		r.spoiled = map[HistoryKey]string{}
	}
	r.spoiled[key] = why
}

// PastRecords are the records of a repository, to look for bases in. It is used
// by one goroutine.
type PastRecords struct {
	// Oldest first.
	list     []*PastRecord
	byID     map[repository.ID]*PastRecord
	byOrigin map[string]*PastRecord
}

// NewPastRecords puts records together, in any order.
func NewPastRecords(list []*PastRecord) *PastRecords {
	p := &PastRecords{list: inOrder(list), byID: map[repository.ID]*PastRecord{}, byOrigin: map[string]*PastRecord{}}
	for _, r := range p.list {
		p.byID[r.ID] = r
		if r.Origin != "" {
			p.byOrigin[r.Origin] = r
		}
	}
	return p
}

// inOrder puts records in the order they were made in: by time, but none before
// its parents. Where a host's clock was set back, what was made after that would
// else pass for older than what it was made upon, and a writer that goes by its
// own memory would be built upon the wrong base.
func inOrder(list []*PastRecord) []*PastRecord {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *PastRecord) int {
		return cmp.Or(a.Time.Compare(b.Time), slices.Compare(a.ID[:], b.ID[:]))
	})
	byID := make(map[repository.ID]*PastRecord, len(list))
	for _, r := range list {
		byID[r.ID] = r
	}
	moments := make(map[*PastRecord]*moment, len(list))
	for _, r := range list {
		momentOf(r, byID, moments)
	}
	slices.SortStableFunc(list, func(a, b *PastRecord) int { return moments[a].compare(moments[b]) })
	return list
}

// moment is when a record was made.
type moment struct {
	least time.Time // by the latest clock of itself and all before it
	back  int       // how often the clock was set back since that was the time
	time  time.Time // by its own clock
	after int       // at one time, how many came before, each made upon the other
	known bool
}

func (m *moment) compare(o *moment) int {
	return cmp.Or(m.least.Compare(o.least), cmp.Compare(m.back, o.back), m.time.Compare(o.time), cmp.Compare(m.after, o.after))
}

// follow puts it after a parent.
func (m *moment) follow(parent *moment) {
	next := moment{least: parent.least, back: parent.back, time: m.time}
	switch {
	case m.time.After(parent.least):
		next.least, next.back = m.time, 0
	case m.time.Before(parent.time):
		next.back++
	case m.time.Equal(parent.time):
		next.after = parent.after + 1
	}
	if next.compare(m) > 0 {
		m.least, m.back, m.after = next.least, next.back, next.after
	}
}

// momentOf finds the moment of a record, those of its parents first. What the
// medium says of parents may go round in a circle, which is cut somewhere.
func momentOf(r *PastRecord, byID map[repository.ID]*PastRecord, moments map[*PastRecord]*moment) {
	for stack := []*PastRecord{r}; len(stack) > 0; {
		top := stack[len(stack)-1]
		m := moments[top]
		if m == nil {
			moments[top] = &moment{least: top.Time, time: top.Time}
			for _, id := range top.Parents {
				if parent := byID[id]; parent != nil && moments[parent] == nil {
					stack = append(stack, parent)
				}
			}
			continue
		}
		stack = stack[:len(stack)-1]
		if m.known {
			continue
		}
		m.known = true
		for _, id := range top.Parents {
			if parent := moments[byID[id]]; parent != nil && parent != m {
				m.follow(parent)
			}
		}
	}
}

// ReadPastRecords reads which records a repository has. Their lines are read
// when they are asked for, within ctx. Records that cannot be read are not among
// them.
func ReadPastRecords(ctx context.Context, repo *repository.Repository) (*PastRecords, error) {
	records, err := repo.Records(ctx)
	if err != nil && !errors.Is(err, repository.ErrDamaged) {
		return nil, err
	}
	list := make([]*PastRecord, 0, len(records))
	for _, rec := range records {
		list = append(list, newPast(ctx, rec))
	}
	return NewPastRecords(list), nil
}

// newPast is a record whose lines are read within ctx.
func newPast(ctx context.Context, rec *repository.Record) *PastRecord {
	return &PastRecord{ID: rec.ID, Origin: rec.Attrs[repository.AttrOrigin], Host: rec.Host.ID, Time: rec.Time,
		Type: rec.Type, Parents: rec.Parents, Record: rec,
		load: func() ([]HistoryLine, error) { return ReadHistory(ctx, rec) }}
}

// Find gives the record of an id, nil if there is none.
func (p *PastRecords) Find(id repository.ID) *PastRecord { return p.byID[id] }

// Base finds the record that a line of a record names as its base, nil if it is
// not there. Where the record is a copy, so is its base: under another id.
func (p *PastRecords) Base(r *PastRecord, l *HistoryLine) *PastRecord {
	id, err := repository.ParseID(l.Base)
	if err != nil {
		return nil
	}
	if b := p.byID[id]; b != nil {
		return b
	}
	if made, _, ok := cutLast(r.Origin, '/'); ok {
		return p.byOrigin[made+"/"+l.Base]
	}
	return nil
}

// cutLast cuts a text at the last separator.
func cutLast(s string, sep byte) (before, after string, ok bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == sep {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
