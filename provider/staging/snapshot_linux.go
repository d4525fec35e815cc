package staging

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/area"
	"github.com/sombra-backup/sombra/vss"
)

const (
	// maxPasses bounds the passes before the hold.
	maxPasses = 6
	// quickPass is one after which another would not shorten the hold by
	// anything worth having.
	quickPass = 20 * time.Millisecond
	// commitRoom must still be free when Commit begins.
	commitRoom = 1 << 20
)

// Snapshot is a copy made file by file. It implements [provider.Snapshot] and
// [provider.Refresher].
type Snapshot struct {
	req     provider.Request
	scope   *provider.Matcher
	method  Method
	seq     *provider.Sequence
	root    *os.File
	fsType  int64
	trusted bool
	isRoot  bool
	tick    time.Duration
	path    string // of the copy, below the area

	// Set by the first Estimate, or else by EndPrepare.
	listed    bool
	totals    Totals
	expected  Expectation
	unclaimed bool

	// Set by EndPrepare. All that is made is made from these descriptors: who
	// may write to the volume's root can put another directory where the area
	// was.
	area, copy  *area.Dir
	tree, aside int
	asideCount  atomic.Int64
	records     map[string]*record
	passes      int
	flush       time.Duration
	committed   result
}

var (
	_ provider.Snapshot  = (*Snapshot)(nil)
	_ provider.Refresher = (*Snapshot)(nil)
)

// New begins a copy. Whether the method serves the volume is for the caller to
// have checked. It makes nothing.
func New(ctx context.Context, req provider.Request, method Method) (*Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root, err := os.OpenFile(req.Ref.Volume.Root, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, area.Failure("BeginPrepare", req.Ref.Volume.Root, err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &fs); err != nil {
		root.Close()
		return nil, area.Failure("BeginPrepare", req.Ref.Volume.Root, err)
	}
	s := &Snapshot{req: req, scope: provider.NewMatcher(&req.Scope), method: method, root: root, fsType: int64(fs.Type), trusted: Trusted(int64(fs.Type)),
		isRoot: os.Geteuid() == 0, tick: clockTick(), path: copyPath(req.Ref), tree: -1, aside: -1,
		records: map[string]*record{}}
	s.seq = provider.NewSequence("shadow copy of "+req.Ref.Volume.Root,
		func(ctx context.Context) error { return Delete(ctx, req.Ref) }, s.release)
	return s, nil
}

func (s *Snapshot) release() {
	s.root.Close()
	if s.area != nil {
		s.area.Close()
	}
	if s.copy != nil {
		s.copy.Close()
	}
	if s.tree >= 0 {
		unix.Close(s.tree)
	}
	if s.aside >= 0 {
		unix.Close(s.aside)
	}
}

// Estimate implements [provider.Snapshot]. It lists and opens all claimed files
// but makes nothing.
func (s *Snapshot) Estimate(ctx context.Context) (e provider.Estimate, err error) {
	err = s.seq.Estimate(ctx, func(ctx context.Context) error {
		if err := s.list(ctx); err != nil {
			return err
		}
		free, err := s.check("Estimate")
		if err != nil {
			return err
		}
		e = provider.Estimate{Room: s.expected.Room, Free: free, Hold: s.expected.Hold,
			Files: s.totals.Files, Bytes: s.totals.Bytes, Extents: s.totals.Extents,
			Unclaimed: s.unclaimed, Notes: s.expected.Notes}
		return nil
	})
	return e, err
}

// check compares what is expected with what there is.
func (s *Snapshot) check(op string) (free uint64, err error) {
	dir, err := area.Nearest(s.req.Ref.Area)
	if err != nil {
		return 0, area.Failure(op, s.req.Ref.Area, err)
	}
	defer dir.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return 0, area.Failure(op, s.req.Ref.Area, err)
	}
	free = fs.Bavail * uint64(fs.Bsize)
	if free < s.expected.Room {
		return free, vss.Errorf(vss.ErrInsufficientStorage, op, s.req.Ref.Area, "the shadow copy needs %s and %s are free: free %s there",
			area.Size(s.expected.Room), area.Size(free), area.Size(s.expected.Room-free))
	}
	return free, s.tooLong(op, s.expected.Hold)
}

func (s *Snapshot) tooLong(op string, hold time.Duration) error {
	if s.req.HoldLimit <= 0 || hold <= s.req.HoldLimit {
		return nil
	}
	return vss.Errorf(vss.ErrHoldWritesTimeout, op, s.root.Name(),
		"writes would be held for about %v to copy %d files of %s, and %v are allowed: choose fewer files, allow a longer hold, or move them to a file system with snapshots",
		hold.Round(time.Millisecond), s.totals.Files, area.Size(s.totals.Bytes), s.req.HoldLimit)
}

// EndPrepare implements [provider.Snapshot]. It takes passes over the scope as
// long as each leaves less to do than the one before.
func (s *Snapshot) EndPrepare(ctx context.Context) error {
	return s.seq.Do(ctx, provider.StepEndPrepare, func(ctx context.Context) error {
		if err := s.list(ctx); err != nil {
			return err
		}
		if _, err := s.check("EndPrepare"); err != nil {
			return err
		}
		if err := s.makeCopy(); err != nil {
			return err
		}
		if err := s.sync(); err != nil {
			return err
		}
		var before result
		for n := 1; ; n++ {
			now, err := s.preparePass(ctx)
			if err != nil {
				return err
			}
			if now.Files == 0 || now.Took <= quickPass {
				return nil
			}
			if n >= maxPasses || n > 1 && now.Took > before.Took*4/5 {
				return s.tooLong("EndPrepare", now.Took)
			}
			before = now
		}
	})
}

// sync writes the volume back, so that single files need less of it.
func (s *Snapshot) sync() error {
	if s.totals.Files == 0 {
		return nil
	}
	begin := time.Now()
	if err := unix.Syncfs(int(s.root.Fd())); err != nil {
		return area.Failure("flush", s.root.Name(), err)
	}
	s.flush = time.Since(begin)
	return nil
}

// Refresh implements [provider.Refresher].
func (s *Snapshot) Refresh(ctx context.Context) error {
	return s.seq.Refresh(ctx, func(ctx context.Context) error {
		now, err := s.preparePass(ctx)
		if err != nil {
			return err
		}
		return s.tooLong("Refresh", now.Took)
	})
}

// preparePass takes a pass while the application is at work. What stands in the
// way of a file then may be gone a moment later, so it counts only if it stays.
func (s *Snapshot) preparePass(ctx context.Context) (r result, err error) {
	err = persist(ctx, func() (trouble, err error) {
		if r, err = s.runPass(ctx, false); err != nil {
			return nil, err
		}
		return r.trouble, s.prune(ctx)
	})
	return r, err
}

func (s *Snapshot) makeCopy() error {
	a, err := area.MakeCopy(s.req.Ref.Area, s.req.Ref.SnapshotID.String())
	if err != nil {
		return area.Failure("make", s.path, err)
	}
	s.area = a
	if s.copy, err = a.Open(s.req.Ref.SnapshotID.String()); err != nil {
		return area.Failure("open", s.path, err)
	}
	for _, d := range []struct {
		name string
		fd   *int
	}{{treeName, &s.tree}, {asideName, &s.aside}} {
		p := filepath.Join(s.path, d.name)
		if err := unix.Mkdirat(s.copy.Fd(), d.name, 0o700); err != nil {
			return area.Failure("make", p, err)
		}
		if *d.fd, err = unix.Openat(s.copy.Fd(), d.name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
			return area.Failure("open", p, err)
		}
	}
	return nil
}

// PreCommit implements [provider.Snapshot]. There is nothing to do.
func (s *Snapshot) PreCommit(ctx context.Context) error {
	return s.seq.Do(ctx, provider.StepPreCommit, func(context.Context) error { return nil })
}

// Commit implements [provider.Snapshot]. It lists the scope again and copies
// what is new or has changed. It gives up when the hold limit is over.
func (s *Snapshot) Commit(ctx context.Context) error {
	return s.seq.Do(ctx, provider.StepCommit, func(ctx context.Context) error {
		if s.totals.Files > 0 {
			if err := s.area.NeedRoom("Commit", commitRoom); err != nil {
				return err
			}
		}
		begin := time.Now()
		if limit := s.req.HoldLimit; limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, limit, vss.Errorf(vss.ErrHoldWritesTimeout, "Commit", s.root.Name(),
				"copying what changed took longer than the %v that writes may be held", limit))
			defer cancel()
		}
		done, err := s.runPass(ctx, true)
		if err != nil {
			return err
		}
		s.committed = done
		return s.tooLong("Commit", time.Since(begin))
	})
}

// PostCommit implements [provider.Snapshot].
func (s *Snapshot) PostCommit(ctx context.Context) (c provider.Copied, err error) {
	err = s.seq.Do(ctx, provider.StepPostCommit, func(ctx context.Context) error {
		if err := s.tidy(ctx); err != nil {
			return err
		}
		if err := s.writeManifest(); err != nil {
			return err
		}
		if vss.SnapshotAttributes(s.req.Context)&(vss.AttrPersistent|vss.AttrNoAutoRelease) != 0 {
			if err := unix.Syncfs(s.area.Fd()); err != nil {
				return area.Failure("flush", s.path, err)
			}
		}
		c = provider.Copied{Root: filepath.Join(s.path, treeName), Flush: s.flush, Unclaimed: s.unclaimed,
			Files: s.committed.Files, Extents: s.extents(), Bytes: s.committed.Bytes, Moved: s.committed.Moved}
		s.records, s.committed.copied = nil, nil // the manifest has it all, and the session may go on for hours
		return nil
	})
	return c, err
}

// extents counts those of the files copied in the hold. There was no time for
// it then, but the copies have as many.
func (s *Snapshot) extents() int {
	sum := 0
	for _, r := range s.committed.copied {
		fd, err := openBeneath(s.tree, r.path, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			continue // vanished in the hold: Moved has it
		}
		f := os.NewFile(uintptr(fd), r.path)
		if n, err := s.method.Examine(f); err == nil {
			sum += n
		}
		f.Close()
	}
	return sum
}

// Abort implements [provider.Snapshot].
func (s *Snapshot) Abort(ctx context.Context) error { return s.seq.Abort(ctx) }

// prune takes out of the copy what the latest pass did not see.
func (s *Snapshot) prune(ctx context.Context) error {
	var gone []*record
	for _, r := range s.records {
		if r.pass != s.passes {
			gone = append(gone, r)
		}
	}
	if err := s.forget(ctx, gone); err != nil {
		return err
	}
	return s.emptyAside(ctx)
}

func (s *Snapshot) writeManifest() error {
	entries := make([]provider.ManifestEntry, 0, len(s.records))
	for _, r := range s.records {
		entries = append(entries, r.entry())
	}
	m, err := provider.NewManifest(entries)
	if err != nil {
		return area.Failure("describe", s.path, err)
	}
	const unfinished = provider.ManifestName + ".new"
	name := filepath.Join(s.path, provider.ManifestName)
	fd, err := unix.Openat(s.copy.Fd(), unfinished, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return area.Failure("write", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := m.WriteTo(f); err != nil {
		return area.Failure("write", name, err)
	}
	if err := f.Close(); err != nil {
		return area.Failure("write", name, err)
	}
	// Only now is the copy one that Locate finds.
	if err := unix.Renameat(s.copy.Fd(), unfinished, s.copy.Fd(), provider.ManifestName); err != nil {
		return area.Failure("write", name, err)
	}
	return nil
}
