package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"
)

// PutAgain stores a file of which base may be an earlier version: PutFile that
// stores less where little changed. Of a large file (Options.LargeFile) that
// this machine stored before (Options.StateDir), every block is read and
// compared with what is known of the earlier version; then what changed is
// read again and stored as PutRanges does. Of all others it does as PutFile.
//
// src.At is read by several goroutines. base must be of a committed record.
// Errors are as PutFile's.
func (b *Backup) PutAgain(ctx context.Context, base Content, src Source) (Content, error) {
	if err := b.enter(ctx); err != nil {
		return Content{}, err
	}
	defer b.leave()
	if !b.r.keepsPrints(src) {
		return b.putFile(ctx, src)
	}
	old := b.r.openPrints(base)
	if old == nil {
		return b.putFile(ctx, src)
	}
	defer old.file.Close()
	if old.length != blockLength(src.Size) {
		return b.putFile(ctx, src)
	}
	changed, err := b.changedBlocks(ctx, old, src)
	if err == nil {
		var c Content
		if c, err = b.putBlocks(ctx, base, old, src, changed); err == nil {
			return c, nil
		}
	}
	if errors.Is(err, errMuchChanged) || errors.Is(err, ErrDamaged) && b.pipe.err() == nil {
		return b.putFile(ctx, src)
	}
	return Content{}, err
}

// putBlocks stores the changed blocks of a file and what is known of all.
func (b *Backup) putBlocks(ctx context.Context, base Content, old *oldPrints, src Source, changed []Range) (Content, error) {
	prints := b.r.newPrints(src, old.length)
	defer prints.drop()
	prints.inherit(old)
	src.At = prints
	c, err := b.putRanges(ctx, base, src, changed)
	if err != nil {
		return Content{}, err
	}
	path, _ := b.r.printPath(base)
	if c.Equal(base) {
		os.Chtimes(path, time.Time{}, time.Now())
		return c, nil
	}
	prints.keep(c)
	b.usedPrints.add(path)
	return c, nil
}

// errMuchChanged says that comparing blocks does not pay.
var errMuchChanged = errors.New("much of the file changed")

const (
	// compareStroke is how much is read at once, at least one block.
	compareStroke = 2 << 20
	// comparers is how many goroutines compare, at most.
	comparers = 4
	// enoughCompared is how much is read before it is judged whether much
	// changed, maxChanged how many changed ranges are kept in memory.
	enoughCompared = 256 << 20
	maxChanged     = 1 << 20
)

// comparison finds the blocks of a file that are not as they were.
type comparison struct {
	b    *Backup
	old  *oldPrints
	src  Source
	next atomic.Int64

	mu             sync.Mutex
	ranges         []Range
	read, modified int64
}

// changedBlocks reads the file and gives the ranges that changed.
func (b *Backup) changedBlocks(ctx context.Context, old *oldPrints, src Source) ([]Range, error) {
	c := &comparison{b: b, old: old, src: src}
	stroke := max(compareStroke, old.length)
	work, ctx := errgroup.WithContext(ctx)
	for range min(comparers, runtime.GOMAXPROCS(0)) {
		work.Go(func() error { return c.run(ctx, stroke) })
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	if c.modified > src.Size/2 {
		return nil, errMuchChanged
	}
	return normalRanges(c.ranges, src.Size)
}

// run compares stroke after stroke.
func (c *comparison) run(ctx context.Context, stroke int64) error {
	buf := make([]byte, stroke)
	prints := make([]blockPrint, stroke/c.old.length)
	raw := make([]byte, len(prints)*printSize)
	hash := newHasher(c.b.r.keys.prints)
	for {
		at := c.next.Add(stroke) - stroke
		if at >= c.src.Size {
			return nil
		}
		if err := errors.Join(ctx.Err(), c.b.pipe.err()); err != nil {
			return err
		}
		data := buf[:min(stroke, c.src.Size-at)]
		n, err := c.src.At.ReadAt(data, at)
		c.b.read.Add(int64(n))
		if n < len(data) && (err == nil || errors.Is(err, io.EOF)) {
			return fmt.Errorf("%w: it ends at %d of %d bytes", ErrSourceChanged, at+int64(n), c.src.Size)
		}
		if n < len(data) {
			return fmt.Errorf("read source at %d: %w", at+int64(n), err)
		}
		if err := c.old.read(prints, at/c.old.length, raw); err != nil {
			return errMuchChanged // what is known cannot be read
		}
		if err := c.take(int64(len(data)), c.compare(hash, data, at, prints)); err != nil {
			return err
		}
	}
}

// compare gives the ranges of the data, which begins at the offset, that differ.
func (c *comparison) compare(hash *blake3.Hasher, data []byte, at int64, prints []blockPrint) (ranges []Range) {
	for i := int64(0); i < int64(len(data)); i += c.old.length {
		block := data[i:min(i+c.old.length, int64(len(data)))]
		if c.b.r.keys.print(hash, block) == prints[i/c.old.length] {
			continue
		}
		r := Range{at + i, int64(len(block))}
		if n := len(ranges); n > 0 && ranges[n-1].End() == r.Offset {
			ranges[n-1].Length += r.Length
		} else {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// take takes in what one stroke gave.
func (c *comparison) take(read int64, ranges []Range) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read += read
	for _, r := range ranges {
		c.modified += r.Length
	}
	c.ranges = append(c.ranges, ranges...)
	if len(c.ranges) > maxChanged || c.read >= enoughCompared && c.modified > c.read*3/4 {
		return errMuchChanged
	}
	return nil
}
