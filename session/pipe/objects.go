package pipe

import (
	"context"
	"io"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// object is a tree, file or target of the other side.
type object struct {
	c  *client
	id uint64
}

// open calls a method that returns an object and gives its number.
func (c *client) open(ctx context.Context, object uint64, method string, args []any) (uint64, error) {
	var id uint64
	err := c.do(ctx, object, method, args, &id)
	return id, err
}

func (o object) do(ctx context.Context, method string, args []any, results ...any) error {
	return o.c.do(ctx, o.id, method, args, results...)
}

func (o object) Close() error { return o.do(context.Background(), "Close", nil) }

func (o object) Lstat(ctx context.Context, name string) (e session.Entry, err error) {
	err = o.do(ctx, "Lstat", []any{name}, &e)
	return e, err
}

func (o object) ReadDir(ctx context.Context, name string, fn func(session.Entry, error) error) error {
	return o.c.dir(ctx, o.id, name, fn)
}

func (o object) Stat(ctx context.Context) (e session.Entry, err error) {
	err = o.do(ctx, "Stat", nil, &e)
	return e, err
}

// ReadAt implements [io.ReaderAt], in pieces the other side accepts.
func (o object) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		want := min(len(p)-n, maxIO)
		data, err := o.c.call(context.Background(), o.id, "ReadAt", []any{want, off + int64(n)}, nil)
		n += copy(p[n:], data)
		if err != nil {
			return n, err
		}
		if len(data) < want {
			return n, io.ErrUnexpectedEOF
		}
	}
	return n, nil
}

// WriteAt implements [io.WriterAt], likewise.
func (o object) WriteAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		part := p[n:min(len(p), n+maxIO)]
		var got int
		err := o.do(context.Background(), "WriteAt", []any{part, off + int64(n)}, &got)
		n += got
		if err != nil {
			return n, err
		}
		if got < len(part) {
			return n, io.ErrShortWrite
		}
	}
	return n, nil
}

func (o object) Truncate(size int64) error {
	return o.do(context.Background(), "Truncate", []any{size})
}

// tree is a [session.Tree] of the other side.
type tree struct{ object }

func (t *tree) Open(ctx context.Context, name string) (session.File, error) {
	id, err := t.c.open(ctx, t.id, "Open", []any{name})
	if err != nil {
		return nil, err
	}
	return &file{object{t.c, id}}, nil
}

func (t *tree) ChangedRanges(ctx context.Context, base vss.GUID, name string) (out []vss.Range, err error) {
	err = t.do(ctx, "ChangedRanges", []any{base, name}, &out)
	return out, err
}

// file is a [session.File] of the other side.
type file struct{ object }

func (f *file) Data(ctx context.Context) (out []vss.Range, err error) {
	err = f.do(ctx, "Data", nil, &out)
	return out, err
}

func (f *file) Stream(ctx context.Context, name string) (io.ReadCloser, error) {
	id, err := f.c.open(ctx, f.id, "Stream", []any{name})
	if err != nil {
		return nil, err
	}
	return &stream{object{f.c, id}}, nil
}

// stream is a named data stream of the other side.
type stream struct{ object }

func (s *stream) Read(p []byte) (int, error) {
	data, err := s.c.call(context.Background(), s.id, "Read", []any{min(len(p), maxIO)}, nil)
	return copy(p, data), err
}

// target is a [session.Target] of the other side.
type target struct{ object }

func (t *target) Mkdir(ctx context.Context, name string) (existed bool, err error) {
	err = t.do(ctx, "Mkdir", []any{name}, &existed)
	return existed, err
}

func (t *target) Create(ctx context.Context, name string) (session.NewFile, error) {
	id, err := t.c.open(ctx, t.id, "Create", []any{name})
	if err != nil {
		return nil, err
	}
	return &newFile{object{t.c, id}}, nil
}

func (t *target) OpenFile(ctx context.Context, name string) (session.ChangeFile, error) {
	id, err := t.c.open(ctx, t.id, "OpenFile", []any{name})
	if err != nil {
		return nil, err
	}
	return &changeFile{object{t.c, id}}, nil
}

func (t *target) Symlink(ctx context.Context, e session.Entry, name string) error {
	return t.do(ctx, "Symlink", []any{e, name})
}

func (t *target) Link(ctx context.Context, oldname, name string) error {
	return t.do(ctx, "Link", []any{oldname, name})
}

func (t *target) Mknod(ctx context.Context, e session.Entry, name string) error {
	return t.do(ctx, "Mknod", []any{e, name})
}

func (t *target) SetAttributes(ctx context.Context, name string, e session.Entry) error {
	return t.do(ctx, "SetAttributes", []any{name, e})
}

func (t *target) Remove(ctx context.Context, name string) error {
	return t.do(ctx, "Remove", []any{name})
}

func (t *target) Free(ctx context.Context, name string) (free uint64, err error) {
	err = t.do(ctx, "Free", []any{name}, &free)
	return free, err
}

func (t *target) Sync(ctx context.Context) error { return t.do(ctx, "Sync", nil) }

func (t *target) Obstacles(ctx context.Context, names []string) (out []session.Obstacle, err error) {
	err = t.do(ctx, "Obstacles", []any{names}, &out)
	return out, err
}

func (t *target) Service(ctx context.Context, name string) (out session.Service, err error) {
	err = t.do(ctx, "Service", []any{name}, &out)
	return out, err
}

func (t *target) StopService(ctx context.Context, name string) (before session.Service, err error) {
	err = t.do(ctx, "StopService", []any{name}, &before)
	return before, err
}

func (t *target) StartService(ctx context.Context, name string) error {
	return t.do(ctx, "StartService", []any{name})
}

func (t *target) AtReboot(ctx context.Context, what string) (session.RebootSet, error) {
	id, err := t.c.open(ctx, t.id, "AtReboot", []any{what})
	if err != nil {
		return nil, err
	}
	return &rebootSet{object{t.c, id}}, nil
}

func (t *target) PendingReboots(ctx context.Context) (out []session.PendingReboot, err error) {
	err = t.do(ctx, "PendingReboots", nil, &out)
	return out, err
}

func (t *target) CancelReboot(ctx context.Context, id string) error {
	return t.do(ctx, "CancelReboot", []any{id})
}

// rebootSet is a [session.RebootSet] of the other side.
type rebootSet struct{ object }

func (s *rebootSet) Stage(ctx context.Context, name string) (staged string, err error) {
	err = s.do(ctx, "Stage", []any{name}, &staged)
	return staged, err
}

func (s *rebootSet) Commit(ctx context.Context) (id string, err error) {
	err = s.do(ctx, "Commit", nil, &id)
	return id, err
}

// newFile is a [session.NewFile] of the other side.
type newFile struct{ object }

func (f *newFile) Commit(ctx context.Context, e session.Entry) error {
	return f.do(ctx, "Commit", []any{e})
}

// changeFile is a [session.ChangeFile] of the other side.
type changeFile struct{ object }

func (f *changeFile) SetAttributes(ctx context.Context, e session.Entry) error {
	return f.do(ctx, "SetAttributes", []any{e})
}

func (f *changeFile) Sync() error { return f.do(context.Background(), "Sync", nil) }
