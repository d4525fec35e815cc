package requester

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
)

// markAttribute is the extended attribute that a file has while it is written in
// place: as long as it is there, the file is neither what it was nor what it is to
// be. A file that is restored whole is another one, and never has it.
const markAttribute = "user.sombra.half-restored"

// change is what is written into a file that is there.
type change struct {
	name   string // on the target
	pieces []directedPiece
	size   int64             // that the file ends with; negative: what comes of it
	like   *repository.Entry // whose file it must be
	// dress gives the file the attributes of like in the end; else it keeps its
	// own, but for the times.
	dress bool
}

// changeFile writes pieces of saved files into a file that is there. All of them
// are read from the repository, and verify, before the first byte of the file is
// changed; blocks that are as they should be are left. The file is marked while it
// is half written, so that whoever runs the restore again after a crash is told.
// errIdentical says that there was nothing to change.
func (f *filler) changeFile(ctx context.Context, c *change, set *setRun) (err error) {
	file, err := f.target.OpenFile(ctx, c.name)
	if err != nil {
		return err
	}
	defer file.Close()
	there, err := file.Stat(ctx)
	if err != nil {
		return err
	}
	if err := mayChange(there, c.like); err != nil {
		return err
	}
	if by, marked := there.XAttrs[markAttribute]; marked {
		f.warn("%s was half written by a restore of backup %s that was stopped; it is written again", f.shown(c.name), clip(string(by), 40))
	}
	differs, err := f.differs(ctx, c, file)
	if err != nil {
		return err
	}
	_, marked := there.XAttrs[markAttribute]
	if !differs && !marked && (c.size < 0 || c.size == there.Size) {
		return f.dressed(ctx, c, file, there, false)
	}
	if err := f.mark(ctx, c.name, file, there); err != nil {
		return err
	}
	if set != nil {
		f.mu.Lock()
		set.written = true
		f.mu.Unlock()
	}
	if err := f.writePieces(ctx, c, file); err != nil {
		return fmt.Errorf("it is half written, and of no use until the restore is run again: %w", err)
	}
	return f.dressed(ctx, c, file, there, true)
}

// mark marks the file and sees to it that the mark is on the disk before
// anything else is.
func (f *filler) mark(ctx context.Context, name string, file session.ChangeFile, there session.Entry) error {
	marked := there
	marked.XAttrs = maps.Clone(there.XAttrs)
	if marked.XAttrs == nil {
		marked.XAttrs = map[string][]byte{}
	}
	marked.XAttrs[markAttribute] = []byte(f.record)
	err := file.SetAttributes(ctx, marked)
	var lacks *session.AttributeError
	if errors.As(err, &lacks) {
		f.warn("%s cannot be marked (%v): if this restore is killed now, nothing will tell that the file is half written", f.shown(name), lacks)
		err = nil
	}
	if err != nil {
		return err
	}
	return file.Sync()
}

// writePieces writes what differs, and makes it durable.
func (f *filler) writePieces(ctx context.Context, c *change, file session.ChangeFile) error {
	there := make([]byte, pieceWindow)
	err := f.eachPiece(ctx, c.pieces, func(to int64, data []byte) error {
		if n, _ := file.ReadAt(there[:len(data)], to); n == len(data) && bytes.Equal(there[:n], data) {
			return nil
		}
		_, err := file.WriteAt(data, to)
		return err
	})
	if err == nil && c.size >= 0 {
		err = file.Truncate(c.size)
	}
	if serr := file.Sync(); err == nil {
		err = serr
	}
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("there is no room: %w", err)
	}
	return err
}

// differs reads all that is to be written, so that it is known to verify, and
// compares it with what is there.
func (f *filler) differs(ctx context.Context, c *change, file session.ChangeFile) (differs bool, err error) {
	there := make([]byte, pieceWindow)
	err = f.eachPiece(ctx, c.pieces, func(to int64, data []byte) error {
		if !differs {
			n, _ := file.ReadAt(there[:len(data)], to)
			differs = n != len(data) || !bytes.Equal(there[:n], data)
		}
		return nil
	})
	return differs, err
}

// dressed gives the file its attributes, and takes the mark away: nothing else of
// it was half done. errIdentical says that the file had them all
// and was not written.
func (f *filler) dressed(ctx context.Context, c *change, file session.ChangeFile, there session.Entry, written bool) error {
	want := there
	if c.dress {
		want = sessionEntry(c.like)
	} else {
		now, err := file.Stat(ctx)
		if err != nil {
			return err
		}
		want.Modified = now.Modified
	}
	want.XAttrs = maps.Clone(want.XAttrs)
	delete(want.XAttrs, markAttribute)
	if !written && there.Perm == want.Perm && there.UID == want.UID && there.GID == want.GID &&
		there.Modified.Equal(want.Modified) && maps.EqualFunc(there.XAttrs, want.XAttrs, slices.Equal) {
		return errIdentical
	}
	if err := file.SetAttributes(ctx, want); err != nil {
		return err
	}
	return file.Sync()
}

// pieceWindow is how much of a saved file is read at once: small ranges beside
// each other share a chunk, which is then read once.
const pieceWindow = 1 << 20

// eachPiece calls fn with the bytes of the pieces and where they go, in runs of at
// most pieceWindow, in the order in which the saved files have them.
func (f *filler) eachPiece(ctx context.Context, pieces []directedPiece, fn func(to int64, data []byte) error) error {
	sorted := slices.Clone(pieces)
	slices.SortStableFunc(sorted, func(a, b directedPiece) int {
		return cmp.Or(strings.Compare(a.source.Path, b.source.Path), cmp.Compare(a.from, b.from))
	})
	var (
		source *repository.Entry
		file   *repository.File
		window []byte
		start  int64
	)
	for _, p := range sorted {
		if p.length == 0 {
			continue
		}
		if p.source != source {
			var err error
			if file, err = f.repo.OpenContent(ctx, p.source.Content); err != nil {
				return err
			}
			source, window, start = p.source, make([]byte, min(pieceWindow, file.Size())), -1
		}
		for done := int64(0); done < p.length; {
			if err := ctx.Err(); err != nil {
				return err
			}
			at := p.from + done
			if begin := at - at%pieceWindow; begin != start {
				if _, err := file.ReadAt(window[:min(int64(len(window)), file.Size()-begin)], begin); err != nil {
					return err
				}
				start = begin
			}
			n := min(p.length-done, start+int64(len(window))-at)
			if err := fn(p.to+done, window[at-start:at-start+n]); err != nil {
				return err
			}
			done += n
		}
	}
	return nil
}
