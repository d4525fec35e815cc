package localfs

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// flusher flushes files before they are read live. A page of a file that is
// mapped and was written to can be written to again without any trace in the
// file's times, until it is written back: then the kernel write-protects it,
// and the next store moves them.
//
// Of a file that has nothing to be written back flushing costs half a
// microsecond. Where there is much to be written it is quicker to flush the whole
// file system once, after which only those files need it that were changed since.
type flusher struct {
	spent atomic.Int64 // nanoseconds, by all files
	once  sync.Once
	done  atomic.Int64 // when the whole file system was flushed, in nanoseconds since 1970; 0: it was not
}

// flushPatience is how long files are flushed one by one.
const flushPatience = 100 * time.Millisecond

// coarse is more than a step of any clock that times of change are taken from.
const coarse = 20 * time.Millisecond

// before flushes a file that is to be read.
func (l *flusher) before(f *file) error {
	return f.use("flush", func(fd int) error {
		if l.spent.Load() > int64(flushPatience) {
			l.once.Do(func() { l.all(fd) })
		}
		if since := l.done.Load(); since != 0 && !changedAfter(fd, since) {
			return nil
		}
		begin := time.Now()
		err := flushFile(fd)
		if err != nil {
			// An error that is reported once may be an old one, of bytes
			// that are nowhere any more.
			err = flushFile(fd)
		}
		l.spent.Add(int64(time.Since(begin)))
		return err
	})
}

// all flushes the file system that a file is on. If that fails, of whatever
// file, each is flushed by itself.
func (l *flusher) all(fd int) {
	begin := time.Now().Add(-coarse).UnixNano()
	if noIntr(func() error { return unix.Syncfs(fd) }) == nil {
		l.done.Store(begin)
	}
}

// changedAfter tells whether a file may have been written to since.
func changedAfter(fd int, since int64) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) != nil || st.Ctim.Nano() >= since
}

// flushFile writes back a file's dirty pages. It is what fdatasync begins with,
// without the flush of the disk's cache, which nobody needs here.
func flushFile(fd int) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	err := noIntr(func() error { return unix.SyncFileRange(fd, 0, 0, all) })
	switch err {
	case unix.EROFS, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP: // nothing is written back there
		return nil
	}
	return err
}

// noIntr calls f again while a signal interrupts it.
func noIntr(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
