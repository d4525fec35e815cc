package requester

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// isPartial reports whether the record holds nothing but ranges of a file
// (R-RES-27).
func isPartial(e *repository.Entry) bool {
	return e.Type == repository.Regular && e.Attrs[AttrPartial] == "only" && e.Attrs[AttrOutcome] != "failed"
}

// held gives the ranges of a file that the record holds, normal. They are in the
// entry, or in the document it names.
func held(ctx context.Context, rec *repository.Record, e *repository.Entry) (vss.Ranges, error) {
	text := e.Attrs[AttrRanges]
	var ranges vss.Ranges
	var err error
	if strings.HasPrefix(text, DocRanges) {
		ranges, err = rangesDocument(ctx, rec, text)
	} else {
		ranges, err = vss.ParseRanges(text)
	}
	if err != nil {
		return nil, fmt.Errorf("the ranges that were saved of it: %w", err)
	}
	if e.Size < 0 || e.Content.Size() != e.Size {
		return nil, fmt.Errorf("%w: its size is %d and its content has %d bytes", repository.ErrDamaged, e.Size, e.Content.Size())
	}
	return ranges.Clip(uint64(e.Size)), nil
}

// rangesDocument reads a list of ranges that is a document of the record.
func rangesDocument(ctx context.Context, rec *repository.Record, name string) (vss.Ranges, error) {
	data, err := rec.Document(ctx, name, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", clip(name, 100), err)
	}
	ranges, err := vss.ReadRangesFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", clip(name, 100), err)
	}
	return ranges, nil
}

// partialFile is a file of which only ranges are held, and how it is restored.
type partialFile struct {
	held vss.Ranges
	// alone: the backup was not made upon another, and what it holds is all
	// there is to hold of the file.
	alone bool
}

// canPartial says why a partial file cannot be restored to where it goes; nil if
// it can. size is that of the file that is there, negative if there is none.
func canPartial(e *repository.Entry, p partialFile, size int64) error {
	lacks := vss.Ranges{{Offset: 0, Length: uint64(e.Size)}}.Subtract(p.held)
	if size > 0 {
		lacks = lacks.Subtract(vss.Ranges{{Offset: 0, Length: uint64(size)}})
	}
	switch {
	case len(lacks) == 0 || p.alone:
		return nil
	case size < 0:
		return fmt.Errorf("the backup holds only %d bytes of its %d, to be written into the file, and there is none; "+
			"restore the backup it was made upon before", p.held.Total(), e.Size)
	}
	return fmt.Errorf("the backup holds only %d bytes of its %d, and the file that is there has %d: what was at %d is in neither; "+
		"restore the backup it was made upon before", p.held.Total(), e.Size, size, lacks[0].Offset)
}

// partial restores a file of which only ranges are held: into the file that is
// there, in place, or else as a new one.
func (f *filler) partial(ctx context.Context, e *repository.Entry, set *setRun) error {
	p, err := f.partialOf(ctx, e)
	if err != nil {
		return err
	}
	there, err := f.lstat(ctx, e.Path)
	switch {
	case err == nil && (!f.replace(there, e) || f.otherBase(e)):
		return errKept
	case err == nil && there.Mode.IsDir():
		return errors.New("a directory is in its place")
	case err == nil && !there.Mode.IsRegular():
		return errors.New("what is there is not a file, and only ranges of one are held")
	case err == nil:
		if err := canPartial(e, p, there.Size); err != nil {
			return err
		}
		pieces := make([]directedPiece, 0, len(p.held))
		for _, r := range p.held {
			pieces = append(pieces, directedPiece{e, int64(r.Offset), int64(r.Offset), int64(r.Length)})
		}
		return f.changeFile(ctx, &change{name: e.Path, pieces: pieces, size: e.Size, like: e, dress: true}, set)
	case !isMissing(err):
		return err
	}
	if err := canPartial(e, p, -1); err != nil {
		return err
	}
	if p.held.Total() < uint64(e.Size) {
		f.warn("%s: %d of its %d bytes were saved, as its writer wanted; the rest is zeros", f.shown(e.Path), p.held.Total(), e.Size)
	}
	if err := f.parents(ctx, e.Path); err != nil {
		return err
	}
	return f.alone(ctx, e, set, false)
}

// otherBase reports whether what is there is not what the operations before have
// restored, as it was to be kept: the ranges of this one are not those by which it
// differs, and a file of both would be neither.
func (f *filler) otherBase(e *repository.Entry) bool {
	return f.mine != nil && f.overwrite != OverwriteAlways && !f.mine(e)
}

// checkPartials says why a set cannot be restored because of a partial file in it,
// before anything of the set is written; empty if nothing is in the way.
func (r *restore) checkPartials(ctx context.Context, f *filler, entries []*repository.Entry) (string, error) {
	for _, e := range entries {
		if !isPartial(e) {
			continue
		}
		p, err := f.partialOf(ctx, e)
		if err == nil {
			size := int64(-1)
			there, lerr := f.target.Lstat(ctx, e.Path)
			switch {
			case lerr == nil && there.Mode.IsRegular():
				size = there.Size
				if err = mayChange(there, e); err == nil {
					err = canPartial(e, p, size)
				}
			case lerr == nil:
				err = errors.New("what is there is not a file, and only ranges of one are held")
			case isMissing(lerr):
				err = canPartial(e, p, size)
			default:
				err = lerr
			}
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err != nil {
			return fmt.Sprintf("%s: %v", r.shown(e.Path), err), nil
		}
	}
	return "", nil
}

// partialOf reads how a partial file of the record is restored. A component that
// got a full or a copy backup has no other to be laid upon.
func (r *restore) partialOf(ctx context.Context, e *repository.Entry) (p partialFile, err error) {
	if p.held, err = held(ctx, r.rec, e); err != nil {
		return p, err
	}
	lines, err := r.lines(ctx)
	if err != nil {
		return p, err
	}
	key, _ := entryKey(e)
	p.alone = savedAs(lines, r.rec.Type, key)
	return p, nil
}

// lines are the record's history, read once.
func (r *restore) lines(ctx context.Context) ([]HistoryLine, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.history != nil {
		return r.history, nil
	}
	lines, err := ReadHistory(ctx, r.rec)
	if err != nil {
		return nil, err
	}
	r.history = append([]HistoryLine{}, lines...)
	return r.history, nil
}

// savedAs reports whether the component set's files were saved as those of a full
// or a copy backup.
func savedAs(lines []HistoryLine, recType string, key setKey) bool {
	kind := recType
	for _, l := range lines {
		if l.Class == key.class && vss.FullPath(l.LogicalPath, l.Name) == key.path {
			kind = l.Type
		}
	}
	return kind == vss.BackupTypeFull.Word() || kind == vss.BackupTypeCopy.Word()
}
