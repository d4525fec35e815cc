package requester

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
)

// What a file's tag in the restoration says: how it is restored, and in the
// bits above which component set it is of.
const (
	tagReplaces = 1 << iota // something has the name
	tagCompares             // the file that is there is compared with the pieces

	tagBits = iota
)

// plan begins a file: unless it is in place, its content is added to the
// restoration, or restored at once where there is none to be read. The error,
// or planned, ends it; else it is finished.
func (f *filler) plan(ctx context.Context, e *repository.Entry, set *setRun) (planned bool, err error) {
	if err := f.parents(ctx, e.Path); err != nil {
		return false, err
	}
	if e.Content.Size() != e.Size || e.Size < 0 {
		return false, fmt.Errorf("%w: its size is %d and its content has %d bytes", repository.ErrDamaged, e.Size, e.Content.Size())
	}
	tag, pieces := f.tagOf(set), repository.AllPieces
	there, err := f.lstat(ctx, e.Path)
	switch {
	case err == nil && !f.replace(there, e):
		return false, errKept
	case err == nil && there.Mode.IsDir():
		return false, errors.New("a directory is in its place")
	case err == nil:
		same, err := f.inPlace(ctx, e, there, set)
		switch {
		case err != nil:
			return false, err
		case same == repository.Identical:
			if err := f.attributes(ctx, e, there); err != errDiffers {
				return false, err
			}
		case same == repository.Unproven:
			tag, pieces = tag|tagCompares, repository.UnprovenPieces
		}
		tag |= tagReplaces
	case !isMissing(err):
		return false, err
	}
	if len(e.Streams) > 0 {
		return false, fmt.Errorf("it has %d named streams, which this system's files cannot have", len(e.Streams))
	}
	n, err := f.restoration.Add(ctx, e, tag, pieces)
	switch {
	case errors.Is(err, repository.ErrPlanFull):
		return false, f.alone(ctx, e, set, tag&tagReplaces != 0)
	case err != nil:
		return false, err
	case n > 0:
		return true, nil
	}
	return false, f.alone(ctx, e, set, false) // nothing but holes: there are no bytes to be lost
}

// inPlace compares what is there with the content. Only a file of the same size
// and modification time is looked at, and then all of its bytes: a restore that
// was stopped may have left any, and so may a failing disk. It need not be read if an
// earlier operation of this restore has written it, and nobody touched it since.
func (f *filler) inPlace(ctx context.Context, e *repository.Entry, there session.Entry, set *setRun) (repository.Sameness, error) {
	if !there.Mode.IsRegular() || there.Size != e.Size || !there.Modified.Equal(e.ModTime) {
		return repository.Different, nil
	}
	if e.HardLink != 0 && there.Links != uint64(e.Nlink) {
		// It may be a name of a file that has names outside of the backup.
		return repository.Different, nil
	}
	if set.asLeft(e.Path, there) {
		return repository.Identical, nil
	}
	file, err := f.target.OpenFile(ctx, e.Path)
	if err != nil {
		return repository.Different, nil // whatever it is, it is replaced
	}
	defer file.Close()
	return f.repo.Same(ctx, e.Content, file)
}

// attributes gives a file that has its bytes what else it lacks, and says that
// it is identical. Nothing is touched that is as it should be. errDiffers says that
// the file must be replaced to get its attributes.
func (f *filler) attributes(ctx context.Context, e *repository.Entry, there session.Entry) error {
	want := sessionEntry(e)
	if there.Mode != want.Mode || there.Perm != want.Perm || there.UID != want.UID || there.GID != want.GID ||
		!there.Modified.Equal(want.Modified) || !maps.EqualFunc(there.XAttrs, want.XAttrs, slices.Equal) {
		if e.Type != repository.Symlink && !givable(there, want) {
			return errDiffers
		}
		if err := f.target.SetAttributes(ctx, e.Path, want); err != nil {
			return err
		}
	}
	return errIdentical
}

// givable reports whether a file in place may be given the attributes. The bytes
// prove nothing of whose file it is: whoever can write to its directory can have put
// another name of a file of the system there, with the same bytes, or put another
// file there since they were compared. So none gets an owner, a privilege or,
// where it has names that the backup may not know, anything at all.
func givable(there, want session.Entry) bool {
	const privileges = 0o6000
	return there.Links <= 1 && there.UID == want.UID && there.GID == want.GID && (there.Perm|want.Perm)&privileges == 0 &&
		maps.EqualFunc(there.XAttrs, want.XAttrs, slices.Equal)
}

// tagOf is the part of a tag that names the component set.
func (f *filler) tagOf(set *setRun) uint64 {
	if set == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.Index(f.sets, set)
	if i < 0 {
		i = len(f.sets)
		f.sets = append(f.sets, set)
	}
	return uint64(i+1) << tagBits
}

func (f *filler) setOf(tag uint64) *setRun {
	if tag >>= tagBits; tag > 0 {
		return f.sets[tag-1]
	}
	return nil
}

// lstat describes what has the name. In a directory that this run made nothing
// has, and nobody is asked.
func (f *filler) lstat(ctx context.Context, name string) (session.Entry, error) {
	if i := strings.LastIndexByte(name, '/'); i > 0 {
		f.mu.Lock()
		fresh := f.fresh[name[:i]]
		f.mu.Unlock()
		if fresh {
			return session.Entry{}, fs.ErrNotExist
		}
	}
	return f.target.Lstat(ctx, name)
}

// newFile is a file being restored.
type newFile struct {
	session.NewFile
	full   func(error)   // told that there is no room
	settle *settler      // told what is written
	end    *atomic.Int64 // how far it was written
}

// WriteAt ends the restore when there is no room: no other file has any.
func (n newFile) WriteAt(p []byte, off int64) (int, error) {
	for end := n.end.Load(); off+int64(len(p)) > end && !n.end.CompareAndSwap(end, off+int64(len(p))); {
		end = n.end.Load()
	}
	m, err := n.NewFile.WriteAt(p, off)
	if errors.Is(err, syscall.ENOSPC) {
		n.full(err)
	}
	n.settle.wrote(m)
	return m, err
}

// comparison is a file in place that is compared.
type comparison struct{ session.ChangeFile }

var errDiffers = errors.New("differs")

// WriteAt compares instead.
func (c comparison) WriteAt(p []byte, off int64) (int, error) {
	there := make([]byte, len(p))
	if n, _ := c.ReadAt(there, off); n != len(p) || !slices.Equal(there, p) {
		return 0, errDiffers
	}
	return len(p), nil
}

// Open implements [repository.RestoreSink].
func (f *filler) Open(ctx context.Context, e *repository.Entry, tag uint64) (io.WriterAt, error) {
	if tag&tagCompares != 0 {
		file, err := f.target.OpenFile(ctx, e.Path)
		if err != nil {
			return nil, errDiffers
		}
		return comparison{file}, nil
	}
	n, err := f.target.Create(ctx, e.Path)
	if err != nil {
		return nil, err
	}
	f.settle.wrote(settleFile)
	return newFile{n, f.full, f.settle, new(atomic.Int64)}, nil
}

// Done implements [repository.RestoreSink].
func (f *filler) Done(ctx context.Context, e *repository.Entry, tag uint64, w io.WriterAt, err error) error {
	set := f.setOf(tag)
	switch w := w.(type) {
	case comparison:
		w.Close()
		if err == nil {
			there, lerr := f.target.Lstat(ctx, e.Path)
			if err = lerr; err == nil {
				err = f.attributes(ctx, e, there)
			}
		}
	case newFile:
		if err == nil && w.end.Load() < e.Size { // it ends with a hole
			err = w.Truncate(e.Size)
		}
		if err == nil && set.holdsBack() {
			return f.finish(e, set, f.hold(e, set, w))
		}
		if err == nil && tag&tagReplaces != 0 {
			return f.later(ctx, replacement{e, set, w})
		}
		if err == nil {
			err = w.Commit(ctx, sessionEntry(e))
		}
		w.Close()
	}
	if errors.Is(err, errDiffers) {
		err = f.alone(ctx, e, set, true)
	}
	return f.finish(e, set, err)
}

// alone restores a file by itself: under a temporary name, from bytes that
// verify, and then under its own.
func (f *filler) alone(ctx context.Context, e *repository.Entry, set *setRun, replaces bool) error {
	n, err := f.target.Create(ctx, e.Path)
	if err != nil {
		return err
	}
	if set.holdsBack() {
		if err := f.fill(ctx, e, n); err != nil {
			n.Close()
			return err
		}
		return f.hold(e, set, n)
	}
	defer n.Close()
	if err := f.fill(ctx, e, n); err != nil {
		return err
	}
	if replaces && e.Size > 0 {
		if err := f.target.Sync(ctx); err != nil {
			return err
		}
	}
	return n.Commit(ctx, sessionEntry(e))
}

// fill writes the stored bytes. Holes are left, and nothing is written that did
// not verify.
func (f *filler) fill(ctx context.Context, e *repository.Entry, n session.NewFile) error {
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
		if err := f.attributes(ctx, e, there); err != errDiffers {
			return err
		}
	}
	switch e.Type {
	case repository.Symlink:
		return f.target.Symlink(ctx, se, e.Path)
	case repository.Fifo, repository.CharDevice, repository.BlockDevice:
		return f.target.Mknod(ctx, se, e.Path)
	}
	return fmt.Errorf("a %s cannot be made again here", e.Type)
}
