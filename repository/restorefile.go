package repository

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// unfinished is a file of which some pieces were written and some not.
type unfinished struct {
	plannedFile
	once sync.Once
	w    io.WriterAt

	mu   sync.Mutex
	left int64
	err  error
	late bool // too many are open: it is restored in the end
}

// deliver gives a piece to its file, or says why it cannot be had.
func (r *restoreRun) deliver(ctx context.Context, l planLine, data []byte, failed error) error {
	file := int64(l.file >> 1)
	if l.file&1 != 0 {
		return r.single(ctx, file, l, data, failed)
	}
	u, err := r.unfinished(file)
	if err != nil || u == nil {
		return err
	}
	u.once.Do(func() {
		if !u.late {
			w, err := r.sink.Open(ctx, u.entry, u.tag)
			if u.w = w; err != nil {
				u.w = nil
				u.fail(err)
			}
		}
	})
	if failed != nil {
		u.fail(fmt.Errorf("read stored content at %d: %w", l.to, failed))
	} else if u.good() {
		if _, err := u.w.WriteAt(data, l.to); err != nil {
			u.fail(err)
		}
	}
	u.mu.Lock()
	u.left--
	end := u.left == 0
	u.mu.Unlock()
	if !end {
		return nil
	}
	return r.finish(ctx, file, u)
}

// single restores a file that is one piece.
func (r *restoreRun) single(ctx context.Context, file int64, l planLine, data []byte, failed error) error {
	f, err := r.p.describe(file)
	if err != nil {
		return err
	}
	w, err := r.sink.Open(ctx, f.entry, f.tag)
	if err != nil {
		w = nil
	} else if failed != nil {
		err = fmt.Errorf("read stored content at %d: %w", l.to, failed)
	} else {
		_, err = w.WriteAt(data, l.to)
	}
	return r.sink.Done(ctx, f.entry, f.tag, w, err)
}

// unfinished gives the state of a file in several pieces, nil if it is void.
func (r *restoreRun) unfinished(file int64) (*unfinished, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u := r.files[file]; u != nil {
		return u, nil
	}
	if r.p.void[file] {
		return nil, nil
	}
	f, err := r.p.describe(file)
	if err != nil {
		return nil, err
	}
	u := &unfinished{plannedFile: f, left: f.pieces, late: r.open >= r.p.unfinished}
	if !u.late {
		r.open++
	}
	r.files[file] = u
	return u, nil
}

func (r *restoreRun) finish(ctx context.Context, file int64, u *unfinished) error {
	r.mu.Lock()
	delete(r.files, file)
	if u.late {
		r.late = append(r.late, file)
	} else {
		r.open--
	}
	r.mu.Unlock()
	if u.late {
		return nil
	}
	return r.sink.Done(ctx, u.entry, u.tag, u.w, u.err)
}

// abandon ends the files that are unfinished when a run ends early.
func (r *restoreRun) abandon(why error) {
	for _, u := range r.files {
		if u.w != nil {
			r.sink.Done(context.Background(), u.entry, u.tag, u.w, why)
		}
	}
}

func (u *unfinished) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil {
		u.err = err
	}
}

// good says whether the file can still be written.
func (u *unfinished) good() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err == nil && !u.late
}
