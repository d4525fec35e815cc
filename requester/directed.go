package requester

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Bounds of what a writer may direct in one component set.
const (
	maxDirected       = 1 << 16 // targets
	maxDirectedRanges = 1 << 20 // ranges in all their lists
)

// directedFile is a file that directed targets write to.
type directedFile struct {
	path string // of the table
	// whole is the one file that all of this one comes from, unchanged; nil
	// where it is put together of ranges.
	whole *repository.Entry
	// pieces are sorted by their place in the file and do not overlap.
	pieces []directedPiece
	// like is whose attributes the file gets if it is not there.
	like *repository.Entry
	// there tells that it is there, and is then written in place.
	there bool
}

// directedPiece is a run of saved bytes and where it goes.
type directedPiece struct {
	source           *repository.Entry
	from, to, length int64
}

// size is how many bytes are written.
func (f *directedFile) size() (n int64) {
	for _, p := range f.pieces {
		n += p.length
	}
	return n
}

// directedSource is a file of the component set that ranges may come from.
type directedSource struct {
	entry *repository.Entry
	// held are the bytes of it that the record has, normal; nil means all.
	held vss.Ranges
}

// directing is what directed targets are checked against.
type directing struct {
	style vss.PathStyle
	// place gives the table path of a file by its directory and name.
	place func(dir, name string) (string, error)
	// source gives a saved file of the component set, nil if it has none of
	// that path; under tells whether the path is at or below the path of one of
	// its file sets.
	source func(table string) (*directedSource, error)
	under  func(table string) bool
	// there describes what is on the target; an error that wraps
	// fs.ErrNotExist if nothing is.
	there func(table string) (session.Entry, error)
	// other says whose file of this restore the path is, if it is another
	// component's or nobody's; empty if it is not.
	other func(table string) (string, error)
	shown func(table string) string
	// size is how much content a saved file has.
	size func(e *repository.Entry) int64
}

// planDirected checks all directed targets of a component set against each other,
// against what was saved and against what is there (R-RES-23, R-RES-25). Nothing
// is written before all of them are found to be sound; the error names the first
// that is not, and is the writer's.
func planDirected(list []metadata.DirectedTarget, d *directing) ([]*directedFile, error) {
	if len(list) > maxDirected {
		return nil, fmt.Errorf("%d directed targets, more than %d", len(list), maxDirected)
	}
	count := 0
	for _, t := range list {
		// Counted in the text, before anything is made of them.
		count += strings.Count(t.SourceRanges, ",") + strings.Count(t.DestinationRanges, ",") + 2
		if count > 2*maxDirectedRanges {
			return nil, fmt.Errorf("the directed targets have more than %d ranges", maxDirectedRanges)
		}
	}
	byPath := map[string]*directedFile{}
	var files []*directedFile
	for i, t := range list {
		table, pieces, src, err := d.one(t)
		if err != nil {
			return nil, fmt.Errorf("directed target %d (%s to %s): %w", i+1, clip(t.SourceName, 100), clip(t.DestinationName, 100), err)
		}
		key := table
		if d.style.Fold() {
			key = strings.ToLower(table)
		}
		f := byPath[key]
		if f == nil {
			f = &directedFile{path: table, like: src.entry}
			byPath[key] = f
			files = append(files, f)
		}
		f.pieces = append(f.pieces, pieces...)
	}
	for _, f := range files {
		if err := d.file(f); err != nil {
			return nil, fmt.Errorf("%s is directed to: %w", d.shown(f.path), err)
		}
	}
	return files, nil
}

// one checks a target by itself.
func (d *directing) one(t metadata.DirectedTarget) (dest string, pieces []directedPiece, src *directedSource, err error) {
	for _, name := range []string{t.SourceName, t.DestinationName} {
		if err := literalName(name, d.style); err != nil {
			return "", nil, nil, err
		}
	}
	from, err := d.place(t.SourcePath, t.SourceName)
	if err != nil {
		return "", nil, nil, err
	}
	if src, err = d.source(from); err != nil {
		return "", nil, nil, err
	}
	switch {
	case !d.under(from):
		return "", nil, nil, fmt.Errorf("the source %s lies under no file set of the component", d.shown(from)) // R-RES-23
	case src == nil:
		return "", nil, nil, fmt.Errorf("the source %s is no file of the component in this backup", d.shown(from))
	case src.entry.Type != repository.Regular || src.entry.Attrs[AttrOutcome] == "failed":
		return "", nil, nil, fmt.Errorf("the source %s was not saved as a file", d.shown(from))
	case d.size(src.entry) != src.entry.Size:
		return "", nil, nil, fmt.Errorf("the source %s has %d bytes in the backup and not the %d it should have", d.shown(from), d.size(src.entry), src.entry.Size)
	}
	if dest, err = d.place(t.DestinationPath, t.DestinationName); err != nil {
		return "", nil, nil, err
	}
	pairs, err := t.Pairs()
	if err != nil {
		return "", nil, nil, err
	}
	pieces = make([]directedPiece, 0, len(pairs))
	for i, p := range pairs {
		if err := checkPair(p, src); err != nil {
			return "", nil, nil, fmt.Errorf("range %d: %w", i+1, err)
		}
		// Empty ranges are kept: they tell that the file is meant.
		pieces = append(pieces, directedPiece{src.entry, int64(p.Source), int64(p.Destination), int64(p.Length)})
	}
	return dest, pieces, src, nil
}

// literalName refuses what is no plain name of a file.
func literalName(name string, style vss.PathStyle) error {
	if name == "" || vss.HasWildcard(name) || len(style.Names(name)) != 1 || validName(name, style == vss.Windows) != nil {
		return fmt.Errorf("%q is no literal name of a file", clip(name, 100))
	}
	return nil
}

// checkPair checks one range against the file it is of. Its numbers are any.
func checkPair(p metadata.RangePair, src *directedSource) error {
	source := vss.Range{Offset: p.Source, Length: p.Length}
	size := uint64(src.entry.Size)
	switch {
	case p.Length > size || p.Source > size-p.Length:
		return fmt.Errorf("%d bytes at %d of a file of %d bytes", p.Length, p.Source, size)
	case p.Length > math.MaxInt64 || p.Destination > math.MaxInt64-p.Length:
		return fmt.Errorf("%d bytes at %d are past the end of any file", p.Length, p.Destination)
	case src.held != nil && !src.held.Contains(source):
		return fmt.Errorf("%d bytes at %d are not among the ranges that were saved of it", p.Length, p.Source) // R-RES-25
	}
	return nil
}

// file checks all that is directed to one file.
func (d *directing) file(f *directedFile) error {
	slices.SortStableFunc(f.pieces, func(a, b directedPiece) int { return cmp.Compare(a.to, b.to) })
	end := int64(-1)
	for _, p := range f.pieces {
		if p.length == 0 {
			continue
		}
		if p.to < end {
			return fmt.Errorf("two ranges overlap at %d", p.to)
		}
		end = p.to + p.length
	}
	if whose, err := d.other(f.path); err != nil {
		return err
	} else if whose != "" {
		return fmt.Errorf("it is restored as a file of %s, too", whose)
	}
	there, err := d.there(f.path)
	switch {
	case err == nil && !there.Mode.IsRegular():
		return errors.New("what is there is not a file")
	case err != nil && !isMissing(err):
		return err
	}
	if f.whole = wholeOf(f.pieces); f.whole != nil {
		return nil
	}
	f.there = err == nil
	covered := int64(0)
	if f.there {
		if err := mayChange(there, f.like); err != nil {
			return err
		}
		covered = there.Size
	}
	for _, p := range f.pieces {
		if p.length > 0 && p.to > covered {
			return fmt.Errorf("nothing would be between its end at %d and the range at %d", covered, p.to)
		}
		covered = max(covered, p.to+p.length)
	}
	return nil
}

// wholeOf gives the file that sorted pieces copy as it is, from its first byte to
// its last (R-RES-24), or nil.
func wholeOf(pieces []directedPiece) *repository.Entry {
	end := int64(0)
	for _, p := range pieces {
		if p.source != pieces[0].source || p.from != p.to || p.to != end && p.length > 0 {
			return nil
		}
		end += p.length
	}
	if len(pieces) == 0 || end != pieces[0].source.Size {
		return nil
	}
	return pieces[0].source
}

// mayChange says whether a file that is there may be written in place as e was.
// Whoever can write to its directory can have put another name of a file of the
// system there: it must be the owner's, and have no names that the backup does
// not know.
func mayChange(there session.Entry, e *repository.Entry) error {
	switch {
	case there.UID != e.UID:
		return fmt.Errorf("the file that is there is of user %d, the saved one of user %d; it is not written to in place", there.UID, e.UID)
	case there.Links > max(1, uint64(e.Nlink)):
		return fmt.Errorf("the file that is there has %d names; it is not written to in place", there.Links)
	}
	return nil
}
