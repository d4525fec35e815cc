package requester

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
)

// regular restores a file: under a temporary name, from bytes that verify, and
// then under its own.
func (f *filler) regular(ctx context.Context, e *repository.Entry) error {
	if err := f.parents(ctx, e.Path); err != nil {
		return err
	}
	there, err := f.target.Lstat(ctx, e.Path)
	switch {
	case err == nil && !f.replace(there, e):
		return errKept
	case err == nil && there.Mode.IsDir():
		return errors.New("a directory is in its place")
	case err == nil && there.Mode.IsRegular() && there.Size == e.Size && there.Modified.Equal(e.ModTime) && e.HardLink == 0:
		if same, err := f.identical(ctx, e); err != nil {
			return err
		} else if same {
			if err := f.target.SetAttributes(ctx, e.Path, sessionEntry(e)); err != nil {
				return err
			}
			return errIdentical
		}
	case err != nil && !isMissing(err):
		return err
	}
	if len(e.Streams) > 0 {
		return fmt.Errorf("it has %d named streams, which this system's files cannot have", len(e.Streams))
	}
	n, err := f.target.Create(ctx, e.Path)
	if err != nil {
		return err
	}
	defer n.Close()
	if err := f.fill(ctx, e, n); err != nil {
		return err
	}
	return n.Commit(ctx, sessionEntry(e))
}

// fill writes the stored bytes. Holes are left, and nothing is written that did
// not verify.
func (f *filler) fill(ctx context.Context, e *repository.Entry, n session.NewFile) error {
	if e.Content.Size() != e.Size || e.Size < 0 {
		return fmt.Errorf("%w: its size is %d and its content has %d bytes", repository.ErrDamaged, e.Size, e.Content.Size())
	}
	if err := n.Truncate(e.Size); err != nil {
		return err
	}
	if e.Size == 0 {
		return nil
	}
	file, err := f.repo.OpenContent(ctx, e.Content)
	if err != nil {
		return err
	}
	return file.Each(ctx, func(offset int64, data []byte) error {
		_, err := n.WriteAt(data, offset)
		return err
	})
}

// identical compares the file that is there with the stored bytes.
func (f *filler) identical(ctx context.Context, e *repository.Entry) (bool, error) {
	there, err := f.target.OpenFile(ctx, e.Path)
	if err != nil {
		return false, nil // whatever it is, it is replaced
	}
	defer there.Close()
	if e.Size == 0 {
		return true, nil
	}
	file, err := f.repo.OpenContent(ctx, e.Content)
	if err != nil {
		return false, err
	}
	buf := make([]byte, 0, 1<<20)
	at := int64(0)
	differs := errors.New("differs")
	same := func(offset int64, data []byte) error {
		buf = slices.Grow(buf[:0], len(data))[:len(data)]
		if n, _ := there.ReadAt(buf, offset); n != len(data) || !bytes.Equal(buf, data) {
			return differs
		}
		return nil
	}
	zeros := make([]byte, 1<<20)
	hole := func(to int64) error {
		for at < to {
			n := min(to-at, int64(len(zeros)))
			if err := same(at, zeros[:n]); err != nil {
				return err
			}
			at += n
		}
		return nil
	}
	err = file.Each(ctx, func(offset int64, data []byte) error {
		if err := hole(offset); err != nil {
			return err
		}
		at = offset + int64(len(data))
		return same(offset, data)
	})
	if err == nil {
		err = hole(e.Size)
	}
	if errors.Is(err, differs) {
		return false, nil
	}
	return err == nil, err
}

// special restores links, devices and pipes.
func (f *filler) special(ctx context.Context, e *repository.Entry) error {
	if err := f.parents(ctx, e.Path); err != nil {
		return err
	}
	se := sessionEntry(e)
	there, err := f.target.Lstat(ctx, e.Path)
	switch {
	case err == nil && !f.replace(there, e):
		return errKept
	case err == nil && there.Mode.IsDir():
		return errors.New("a directory is in its place")
	case err == nil && there.Mode.Type() == se.Mode.Type() && there.Target == se.Target && there.Device == se.Device:
		if err := f.target.SetAttributes(ctx, e.Path, se); err != nil {
			return err
		}
		return errIdentical
	}
	switch e.Type {
	case repository.Symlink:
		return f.target.Symlink(ctx, se, e.Path)
	case repository.Fifo, repository.CharDevice, repository.BlockDevice:
		return f.target.Mknod(ctx, se, e.Path)
	}
	return fmt.Errorf("a %s cannot be made again here", e.Type)
}
