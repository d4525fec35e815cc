package staging

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider/area"
)

// pass is one walk over the scope that copies what has changed since the one
// before.
type pass struct {
	s      *Snapshot
	number int
	last   bool // in the hold: no flushing, and what moves is reported

	jobs    chan job
	workers int

	flushing atomic.Int64 // nanoseconds spent in Flush by all workers
	mu       sync.Mutex
	done     result
	lostDirs []string // in the last pass: what was there in part of it only
}

// result is what a pass did.
type result struct {
	Files int
	Bytes uint64
	Took  time.Duration // without flushing
	Moved []string
	// copied are the files of the last pass.
	copied []*record
	// trouble is why something that is needed could not be copied. In the last
	// pass that is an error; before it the next pass may fare better, since
	// the application is at work.
	trouble error
}

// job is a file to be copied.
type job struct {
	rec   *record
	dir   *directory
	name  string
	fresh bool
}

// runPass takes one pass over the scope.
func (s *Snapshot) runPass(ctx context.Context, last bool) (result, error) {
	s.passes++
	p := &pass{s: s, number: s.passes, last: last, jobs: make(chan job, 256), workers: s.method.Workers()}
	if last {
		p.workers = runtime.GOMAXPROCS(0)
	}
	begin := time.Now()
	g, working := errgroup.WithContext(ctx)
	for range p.workers {
		g.Go(func() error { return p.work(working) })
	}
	g.Go(func() error {
		defer close(p.jobs)
		return p.walk(working)
	})
	err := g.Wait()
	for j := range p.jobs { // left by workers that stopped at an error
		j.dir.release()
	}
	if err == nil && last {
		err = p.verify(ctx)
	}
	p.done.Took = max(time.Since(begin)-time.Duration(p.flushing.Load())/time.Duration(p.workers), 0)
	return p.done, err
}

func (p *pass) walk(ctx context.Context) error {
	areaStat, err := statAt(p.s.area.Fd(), "")
	if err != nil {
		return err
	}
	w := p.walker(&areaStat)
	w.visit = func(o *object) error { return p.visit(ctx, o) }
	w.failed = func(name string, needed bool, err error) error {
		if needed {
			return p.trouble("list", name, err)
		}
		r := p.s.records[name]
		if r == nil {
			r = &record{path: name}
			p.s.records[name] = r
		}
		r.pass, r.missing, r.settled = p.number, err.Error(), true
		return nil
	}
	if p.last {
		w.gone = p.vanished
	}
	return w.run(ctx)
}

func (p *pass) walker(area *stat) *walk {
	return &walk{root: p.s.root, area: area, scope: p.s.scope, unclaimed: p.s.unclaimed}
}

// visit brings the copy of one object up to date, or hands it to a worker.
func (p *pass) visit(ctx context.Context, o *object) error {
	r := p.s.records[o.path]
	fresh := r == nil || r.st.kind() != o.st.kind() || r.mount != o.mount
	if !fresh && unchanged(&r.st, &o.st, r.since, p.s.tick) && (p.s.trusted || !o.st.isRegular()) {
		r.pass, r.claimed = p.number, o.claimed
		r.st.atime = o.st.atime
		return nil
	}
	if fresh {
		r = &record{path: o.path}
		p.s.records[o.path] = r
	}
	r.pass, r.claimed, r.mount = p.number, o.claimed, o.mount
	if o.st.isRegular() && !o.mount {
		return p.enqueue(ctx, o, r, fresh)
	}
	r.st, r.since, r.settled, r.missing = o.st, time.Now(), false, ""
	if o.st.isDir() {
		return p.directory(o, r, fresh)
	}
	return p.special(o, r)
}

func (p *pass) enqueue(ctx context.Context, o *object, r *record, fresh bool) error {
	if err := p.s.openCopy(o.dir); err != nil {
		return err
	}
	if fresh {
		r.st = o.st // so that an object that vanishes now has its kind
	}
	o.dir.retain()
	select {
	case p.jobs <- job{r, o.dir, o.name, fresh || r.since.IsZero()}:
		return nil
	case <-ctx.Done():
		o.dir.release()
		return context.Cause(ctx)
	}
}

// directory makes a directory of the copy.
func (p *pass) directory(o *object, r *record, fresh bool) error {
	if o.self != nil {
		r.xattrs = readXattrs(int(o.self.src.Fd()), "")
	}
	if o.path == "." || !fresh {
		return nil
	}
	dst, name, err := p.s.openParent(o)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	return p.s.place(dst, name, o.path, func() error {
		err := unix.Mkdirat(dst, name, 0o700)
		if err == unix.EEXIST {
			if st, serr := statAt(dst, name); serr == nil && st.isDir() {
				return nil
			}
		}
		return err
	})
}

// special makes a link, pipe, socket or device node of the copy, in place of
// what was there. Where that is refused the manifest says so.
func (p *pass) special(o *object, r *record) error {
	if err := p.s.openCopy(o.dir); err != nil {
		return err
	}
	src, dst := int(o.dir.src.Fd()), o.dir.dst
	if o.mount {
		return p.unreadable(o, r, errors.New("another file is mounted on it"))
	}
	r.xattrs = readXattrs(src, o.name)
	if o.st.kind() == unix.S_IFLNK {
		target, err := readlink(src, o.name)
		if err != nil {
			return p.lost(o.path, o.needed, r, err)
		}
		r.target = target
		return p.s.place(dst, o.name, o.path, func() error { return unix.Symlinkat(target, dst, o.name) })
	}
	err := p.s.place(dst, o.name, o.path, func() error {
		return unix.Mknodat(dst, o.name, o.st.kind()|0o600, int(o.st.rdev))
	})
	if errors.Is(err, unix.EPERM) {
		r.missing, err = "device nodes can be made by root only", nil
	}
	return err
}

// unreadable records that an object's content cannot be copied. For what was
// chosen that is an error of the copy.
func (p *pass) unreadable(o *object, r *record, err error) error {
	return p.refuse(o.path, o.needed, r, err)
}

func (p *pass) refuse(path string, needed bool, r *record, err error) error {
	if needed {
		r.pass = 0 // as if it had not been seen
		return p.trouble("read", path, err)
	}
	r.missing, r.settled = err.Error(), true
	return nil
}

// trouble is an error in the last pass, and noted before it.
func (p *pass) trouble(op, path string, err error) error {
	err = area.Failure(op, filepath.Join(p.s.root.Name(), path), err)
	if p.last || area.IsFull(err) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done.trouble == nil {
		p.done.trouble = err
	}
	return nil
}

// lost deals with an error at an object that may just have gone.
func (p *pass) lost(path string, needed bool, r *record, err error) error {
	if !vanished(err) {
		return p.refuse(path, needed, r, err)
	}
	r.pass = 0
	if p.last {
		p.vanished(path)
	}
	return nil
}

func (p *pass) work(ctx context.Context) error {
	for j := range p.jobs {
		err := context.Cause(ctx)
		if err == nil {
			err = p.file(ctx, j)
		}
		j.dir.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// file copies one file.
func (p *pass) file(ctx context.Context, j job) error {
	r := j.rec
	fd, err := openToRead(int(j.dir.src.Fd()), j.name)
	if err != nil {
		return p.lost(r.path, r.claimed, r, err)
	}
	src := os.NewFile(uintptr(fd), filepath.Join(p.s.root.Name(), r.path))
	defer src.Close()
	// The order is what makes the rule of unchanged right: first the time,
	// then the state that is remembered, then the flush, then the bytes.
	since := time.Now()
	st, err := statAt(fd, "")
	if err != nil {
		return p.refuse(r.path, r.claimed, r, err)
	}
	if !st.isRegular() {
		return p.lost(r.path, r.claimed, r, unix.ENOENT)
	}
	if !p.last {
		if err := p.s.method.Flush(src); err != nil {
			return p.refuse(r.path, r.claimed, r, err)
		}
		p.flushing.Add(int64(time.Since(since)))
	}
	r.st, r.since, r.xattrs, r.missing, r.settled = st, since, readXattrs(fd, ""), "", false
	bytes, err := p.copy(ctx, j, src)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done.Files++
	p.done.Bytes += bytes
	if p.last {
		p.done.copied = append(p.done.copied, r)
	}
	return nil
}

func (p *pass) copy(ctx context.Context, j job, src *os.File) (bytes uint64, err error) {
	dst, fresh, err := p.s.openTarget(j, p.s.method.Renew(j.rec.st.size))
	if err != nil {
		return 0, err
	}
	defer dst.Close()
	bytes, err = p.s.method.Copy(ctx, src, dst, j.rec.st.size, fresh)
	switch {
	case err == nil && !p.last:
		return bytes, p.s.settle(j.dir.dst, j.name, j.rec)
	case err == nil:
		return bytes, nil
	case context.Cause(ctx) != nil:
		return bytes, context.Cause(ctx)
	}
	if area.IsFull(err) {
		return bytes, area.Failure("copy to", p.s.area.Path(), err)
	}
	return bytes, p.refuse(j.rec.path, j.rec.claimed, j.rec, err)
}

// readlink reads the target of a symbolic link.
func readlink(dir int, name string) (string, error) {
	for size := 256; ; size *= 4 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, b)
		if err == unix.EINVAL { // it is no link any more
			err = unix.ENOENT
		}
		if err != nil {
			return "", err
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
}
