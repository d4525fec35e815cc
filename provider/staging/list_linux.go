package staging

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider/area"
)

// recent is how long ago a change must be for a file to count as one that is
// no longer being changed.
const recent = time.Minute

var errEnough = errors.New("enough is known")

// list measures the scope, once, and decides whether data of no writer fits.
func (s *Snapshot) list(ctx context.Context) error {
	if s.listed {
		return nil
	}
	var totals Totals
	err := persist(ctx, func() (trouble, err error) {
		totals, trouble = s.measure(ctx, false, nil)
		return trouble, context.Cause(ctx)
	})
	if err != nil {
		return err
	}
	expected := s.method.Expect(totals)
	if s.req.Unclaimed && s.method.Unclaimed() && len(s.req.Scope.Unclaimed) > 0 {
		fits := func(t Totals) bool {
			return s.req.HoldLimit <= 0 || s.method.Expect(t).Hold <= s.req.HoldLimit/2
		}
		all, err := s.measure(ctx, true, fits)
		switch {
		case err == nil && fits(all):
			totals, expected, s.unclaimed = all, s.method.Expect(all), true
		case err != nil && err != errEnough:
			return err
		}
	}
	s.totals, s.expected, s.listed = totals, expected, true
	return nil
}

// measure walks the scope and sums up. It ends with errEnough as soon as fits
// says no.
func (s *Snapshot) measure(ctx context.Context, unclaimed bool, fits func(Totals) bool) (Totals, error) {
	t := Totals{Suspect: !s.trusted, FSType: s.fsType}
	w := &walk{root: s.root, scope: s.scope, unclaimed: unclaimed}
	if fd, err := unix.Open(s.req.Ref.Area, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		if st, err := statAt(fd, ""); err == nil {
			w.area = &st
		}
		unix.Close(fd)
	}
	w.failed = func(name string, needed bool, err error) error {
		if needed {
			return w.veto(name, err)
		}
		return nil
	}
	now := time.Now()
	w.visit = func(o *object) error {
		if fits != nil && !fits(t) {
			return errEnough
		}
		switch {
		case o.st.isDir():
			t.Dirs++
			return nil
		case o.mount && o.needed:
			return w.veto(o.path, errors.New("another file is mounted on it"))
		case o.mount || !o.st.isRegular():
			t.Files++
			return nil
		}
		return s.measureFile(&t, o, now)
	}
	return t, w.run(ctx)
}

func (s *Snapshot) measureFile(t *Totals, o *object, now time.Time) error {
	fd, err := openToRead(int(o.dir.src.Fd()), o.name)
	if err != nil {
		if vanished(err) || !o.needed {
			return nil
		}
		return area.Failure("read", filepath.Join(s.root.Name(), o.path), err)
	}
	f := os.NewFile(uintptr(fd), filepath.Join(s.root.Name(), o.path))
	defer f.Close()
	extents, err := s.method.Examine(f)
	if err != nil {
		if !o.needed {
			return nil
		}
		return area.Failure("examine", f.Name(), err)
	}
	size := uint64(max(o.st.size, 0))
	t.Files++
	t.Bytes += size
	t.Extents += extents
	t.Data += data(f, &o.st)
	if now.Sub(goTime(o.st.ctime)) < recent {
		t.RecentFiles++
		t.RecentBytes += size
	}
	return nil
}

// data is how much of a file is not holes. What the file system says it takes
// up is no answer: it may be compressed.
func data(f *os.File, st *stat) uint64 {
	if st.blocks*512 >= st.size {
		return uint64(max(st.size, 0))
	}
	var sum uint64
	for off := int64(0); ; {
		from, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return sum
		}
		if err != nil {
			return uint64(max(st.size, 0))
		}
		to, err := unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
		if err != nil || to <= from {
			return sum
		}
		sum += uint64(to - from)
		off = to
	}
}

// troublePauses are the times after which what went wrong with a file of a
// living application is tried again: it may have been closed to others for a
// moment, or lent to one program alone.
var troublePauses = [...]time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond}

// troubleLimit is how long that goes on if each try takes its time.
const troubleLimit = 3 * time.Second

// persist calls f until it has no trouble, or has had it often enough for it to
// be believed. An error ends it at once.
func persist(ctx context.Context, f func() (trouble, err error)) error {
	begin := time.Now()
	for _, pause := range troublePauses {
		trouble, err := f()
		if err != nil || trouble == nil {
			return err
		}
		if time.Since(begin) > troubleLimit {
			return trouble
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
	trouble, err := f()
	return cmp.Or(err, trouble)
}
