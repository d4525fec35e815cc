package requester

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// fatalError is one of the repository's, or of the session's: no file can be
// saved any more.
type fatalError struct{ err error }

func (f *fatalError) Error() string { return f.err.Error() }
func (f *fatalError) Unwrap() error { return f.err }

// got is what reading a file gave.
type got struct {
	content   repository.Content
	streams   []repository.Stream
	entry     session.Entry
	unchanged bool
	read      string // see AttrRead
	since     since
	part      partGot
}

// liveTries is how often a file that changes while it is read is tried.
const liveTries = 3

// read opens and stores a file. One that is read live is looked at before and
// after; if it changed meanwhile it is read again.
func (c *copier) read(ctx context.Context, j *job) (got, error) {
	var last error
	for try := range liveTries {
		if try > 0 {
			select {
			case <-time.After(time.Duration(try) * 50 * time.Millisecond):
			case <-ctx.Done():
				return got{}, ctx.Err()
			}
		}
		g, err := c.readOnce(ctx, j)
		var changed *changedError
		if !errors.As(err, &changed) {
			return g, err
		}
		last = err
	}
	return got{}, fmt.Errorf("%w, in each of %d tries", last, liveTries)
}

// changedError says that a file changed while it was read.
type changedError struct{ what string }

func (e *changedError) Error() string { return "it changed while it was read (" + e.what + ")" }

func (c *copier) readOnce(ctx context.Context, j *job) (g got, err error) {
	opening := time.Now()
	f, err := j.tree.Open(ctx, j.name)
	if err != nil {
		return g, err
	}
	defer f.Close()
	if g.entry, err = opened(ctx, f); err != nil {
		return g, err
	}
	if !g.entry.Mode.IsRegular() {
		return g, &changedError{"its type"}
	}
	if g.entry.Size < 0 {
		return g, fmt.Errorf("the service gives it a size of %d", g.entry.Size)
	}
	live := g.entry.Source == session.FromLive
	if live && !j.live {
		return g, errors.New("it is not in the shadow copy, and its writer does not let it be read from the volume itself")
	}
	if live {
		if err := settled(ctx, j, g.entry, opening); err != nil {
			return g, err
		}
	}
	if base := c.unchanged(ctx, j, g.entry); base != nil {
		g.content, g.streams, g.unchanged, g.read = base.Content, base.Streams, true, base.Attrs[AttrRead]
		g.since = sinceOf(base)
		return g, nil
	}
	g.read = c.mark
	src := &watched{at: f}
	data, err := dataRanges(ctx, f, g.entry)
	if err != nil {
		return g, err
	}
	if from := (repository.Source{At: src, Size: g.entry.Size, Data: data}); j.part != nil {
		g.content, err = c.putPartial(ctx, j, &g, from)
	} else {
		g.content, err = c.putWhole(ctx, j, &g, from)
	}
	switch {
	case src.err != nil:
		return g, fmt.Errorf("read: %w", src.err)
	case errors.Is(err, repository.ErrSourceChanged):
		return g, &changedError{"its size"}
	case errors.Is(err, repository.ErrInvalid):
		return g, err // what the service tells of the file makes no sense
	case err != nil:
		return g, &fatalError{err}
	}
	if g.streams, err = c.streams(ctx, f, j.entry.Streams); err != nil {
		return g, err
	}
	if !live {
		return g, nil
	}
	after, err := statBare(ctx, f)
	if err != nil {
		return g, err
	}
	if what := difference(g.entry, after); what != "" {
		return g, &changedError{what}
	}
	return g, nil
}

// putWhole stores a file of which no writer says what changed. Of a large one the
// service is asked.
func (c *copier) putWhole(ctx context.Context, j *job, g *got, src repository.Source) (repository.Content, error) {
	content, told, err := c.putChanged(ctx, j, g.entry, src)
	if g.since = told; told.told() || err != nil {
		return content, err
	}
	return c.put(ctx, j, src)
}

// put stores a file. Of a large one it is worth while to look for the blocks
// that changed since the base.
func (c *copier) put(ctx context.Context, j *job, src repository.Source) (repository.Content, error) {
	if c.old != nil && src.Size >= repository.LargeFile {
		if old, err := c.old.Lookup(ctx, rootID, j.table); err == nil && old.Type == repository.Regular && old.Content.Size() > 0 {
			return c.b.PutAgain(ctx, old.Content, src)
		}
	}
	return c.b.PutFile(ctx, src)
}

// tick is two steps of the slowest clock that file systems stamp changes with.
const tick = 20 * time.Millisecond

// settled makes sure that a change of the file would show in its times. One in the
// same step of the clock as the last leaves no trace; and stores through a memory
// map, since the file was opened, none but the first (see [session.Tree.Open]). So
// a file that changed since, or shortly before, is opened again.
func settled(ctx context.Context, j *job, e session.Entry, opening time.Time) error {
	now := time.Now()
	if e.Changed.Before(opening.Add(-tick)) || e.Changed.After(now.Add(tick)) {
		return nil // long ago, or by another clock
	}
	select {
	case <-time.After(e.Changed.Add(tick).Sub(now)):
	case <-ctx.Done():
		return ctx.Err()
	}
	f, err := j.tree.Open(ctx, j.name)
	if err != nil {
		return err
	}
	defer f.Close()
	again, err := statBare(ctx, f)
	if err != nil {
		return err
	}
	if what := difference(e, again); what != "" {
		return &changedError{what}
	}
	return nil
}

// opened describes a file that was just opened, in full.
func opened(ctx context.Context, f session.File) (session.Entry, error) {
	if b, ok := f.(session.BareFile); ok {
		return b.Opened(ctx)
	}
	return f.Stat(ctx)
}

// statBare describes a file as far as difference compares it.
func statBare(ctx context.Context, f session.File) (session.Entry, error) {
	if b, ok := f.(session.BareFile); ok {
		return b.StatBare(ctx)
	}
	return f.Stat(ctx)
}

func difference(a, b session.Entry) string {
	switch {
	case a.Size != b.Size:
		return "its size"
	case !a.Modified.Equal(b.Modified):
		return "its modification time"
	case !a.Changed.Equal(b.Changed):
		return "its change time"
	case a.Inode != b.Inode:
		return "its inode"
	}
	return ""
}

// watched keeps the error of reading a source apart from the repository's.
type watched struct {
	at  io.ReaderAt
	mu  sync.Mutex
	err error
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.at.ReadAt(p, off)
	if err != nil && err != io.EOF {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
	}
	return n, err
}

// dataRanges asks where a sparse file has data; nil means everywhere.
func dataRanges(ctx context.Context, f session.File, e session.Entry) ([]repository.Range, error) {
	if e.Allocated >= e.Size {
		return nil, nil
	}
	ranges, err := f.Data(ctx)
	if errors.Is(err, vss.ErrNotSupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]repository.Range, 0, len(ranges))
	for _, r := range ranges {
		if r.Offset < uint64(e.Size) {
			out = append(out, repository.Range{Offset: int64(r.Offset), Length: int64(min(r.Length, uint64(e.Size)-r.Offset))})
		}
	}
	return out, nil
}

func (c *copier) streams(ctx context.Context, f session.File, list []session.Stream) (out []repository.Stream, err error) {
	for _, s := range list {
		r, err := f.Stream(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		w := &watchedReader{r: r}
		content, err := c.b.PutStream(ctx, w)
		r.Close()
		if w.err != nil {
			return nil, fmt.Errorf("stream %s: read: %w", s.Name, w.err)
		}
		if err != nil {
			return nil, &fatalError{err}
		}
		out = append(out, repository.Stream{Name: s.Name, Content: content})
	}
	return out, nil
}

type watchedReader struct {
	r   io.Reader
	err error
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// unchanged gives the entry of the same unchanged file in the base record.
// Files of components are always read: what their writer keeps in them is
// worth more than the time.
func (c *copier) unchanged(ctx context.Context, j *job, e session.Entry) *repository.Entry {
	if c.old == nil || j.cl != nil || !j.volume.TimesTell {
		return nil
	}
	old, err := c.old.Lookup(ctx, rootID, j.table)
	if err != nil || old.Attrs[AttrWriter] != "" || !unchangedSince(old, e, c.base.Started) {
		return nil
	}
	if old.Attrs[AttrVolume] != j.volume.ID || c.b.Holds(ctx, old.Content) != nil {
		return nil
	}
	return old
}
