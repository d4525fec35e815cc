package btrfs

import (
	"context"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/area"
	"github.com/sombra-backup/sombra/vss"
)

// muchDirty is how much more dirty memory than after the last flush makes
// another one worth its time.
const muchDirty = 64 << 20

// making is a snapshot in the making.
type making struct {
	req   provider.Request
	seq   *provider.Sequence
	root  *os.File
	area  *area.Dir // the directory of this copy, from EndPrepare on
	flush time.Duration
	dirty uint64 // dirty memory of the machine after the last flush

	cleaning cleaning
}

var (
	_ provider.Snapshot  = (*making)(nil)
	_ provider.Refresher = (*making)(nil)
)

func newSnapshot(r provider.Request, root *os.File) *making {
	m := &making{req: r, root: root, cleaning: cleaning{patience: maxCleaning}}
	m.seq = provider.NewSequence("shadow copy of "+r.Ref.Volume.Root, func(ctx context.Context) error {
		return (&Provider{}).Delete(ctx, r.Ref)
	}, m.release)
	return m
}

// Estimate implements [provider.Snapshot].
func (m *making) Estimate(ctx context.Context) (e provider.Estimate, err error) {
	err = m.seq.Estimate(ctx, func(context.Context) error {
		if err := m.tooLong("Estimate"); err != nil {
			return err
		}
		var s unix.Statfs_t
		if err := unix.Fstatfs(int(m.root.Fd()), &s); err != nil {
			return area.Failure("statfs", m.root.Name(), err)
		}
		e = provider.Estimate{Room: room, Free: s.Bavail * uint64(s.Bsize), Hold: usualHold, Unclaimed: true}
		if e.Free < e.Room {
			return vss.Errorf(vss.ErrInsufficientStorage, "Estimate", m.root.Name(), "a snapshot needs %s free to begin with, and %s are",
				area.Size(e.Room), area.Size(e.Free))
		}
		return nil
	})
	return e, err
}

func (m *making) tooLong(op string) error {
	if m.req.HoldLimit > 0 && usualHold > m.req.HoldLimit {
		return vss.Errorf(vss.ErrHoldWritesTimeout, op, m.root.Name(), "a snapshot takes about %v, and writes may be held for %v: allow a longer hold",
			usualHold, m.req.HoldLimit)
	}
	return nil
}

// EndPrepare implements [provider.Snapshot]. It waits until the file system has
// removed what belonged to deleted subvolumes, then writes back what is dirty, and
// again while that takes long, for Commit has to wait for the rest.
func (m *making) EndPrepare(ctx context.Context) error {
	return m.seq.Do(ctx, provider.StepEndPrepare, func(ctx context.Context) error {
		if err := m.tooLong("EndPrepare"); err != nil {
			return err
		}
		if err := m.makeDir(); err != nil {
			return err
		}
		return m.settle(ctx)
	})
}

func (m *making) makeDir() error {
	a, err := area.MakeCopy(m.req.Ref.Area, m.req.Ref.SnapshotID.String())
	if err != nil {
		return err
	}
	defer a.Close()
	if err := a.NeedRoom("EndPrepare", room); err != nil {
		return err
	}
	m.area, err = a.Open(m.req.Ref.SnapshotID.String())
	return err
}

// Refresh implements [provider.Refresher].
func (m *making) Refresh(ctx context.Context) error {
	return m.seq.Refresh(ctx, m.settle)
}

// settle brings the file system to where it has little left to do.
func (m *making) settle(ctx context.Context) error {
	if err := m.cleaning.await(ctx, m.root); err != nil {
		return err
	}
	return m.flushAll(ctx)
}

func (m *making) flushAll(ctx context.Context) error {
	begin := time.Now()
	before := time.Duration(math.MaxInt64)
	for range maxFlushes {
		if err := ctx.Err(); err != nil {
			return err
		}
		once := time.Now()
		if err := m.flushOnce(); err != nil {
			return err
		}
		took := time.Since(once)
		if took < quickFlush || took > before/5*4 {
			break // programs write as fast as it flushes
		}
		before = took
	}
	m.flush += time.Since(begin)
	m.dirty = dirtyMemory()
	return nil
}

func (m *making) flushOnce() error {
	if err := unix.Syncfs(int(m.root.Fd())); err != nil {
		return area.Failure("flush", m.root.Name(), err)
	}
	return nil
}

// PreCommit implements [provider.Snapshot]. Freezing may have taken long; it
// flushes once more if much was written since.
func (m *making) PreCommit(ctx context.Context) error {
	return m.seq.Do(ctx, provider.StepPreCommit, func(context.Context) error {
		if dirtyMemory() < m.dirty+muchDirty {
			return nil
		}
		return m.flushOnce()
	})
}

// Commit implements [provider.Snapshot].
func (m *making) Commit(ctx context.Context) error {
	return m.seq.Do(ctx, provider.StepCommit, func(context.Context) error {
		if err := m.area.NeedRoom("Commit", room/4); err != nil {
			return err
		}
		err := snapshot(int(m.root.Fd()), m.area.Fd(), treeName)
		if errors.Is(err, unix.ETXTBSY) {
			return vss.Errorf(vss.ErrProviderVeto, "Commit", m.root.Name(), "a swap file on it is in use, and btrfs makes no snapshot then: keep swap files in a subvolume of their own")
		}
		if err != nil {
			return area.Failure("snapshot", m.root.Name(), err)
		}
		return nil
	})
}

// PostCommit implements [provider.Snapshot].
func (m *making) PostCommit(ctx context.Context) (c provider.Copied, err error) {
	err = m.seq.Do(ctx, provider.StepPostCommit, func(context.Context) error {
		c = provider.Copied{Root: copyPath(m.req.Ref), Flush: m.flush, Unclaimed: true, Note: m.cleaning.note}
		return nil
	})
	return c, err
}

// Abort implements [provider.Snapshot].
func (m *making) Abort(ctx context.Context) error { return m.seq.Abort(ctx) }

func (m *making) release() {
	m.root.Close()
	if m.area != nil {
		m.area.Close()
	}
}

// dirtyMemory is how many bytes of the machine's memory wait to be written;
// zero if that cannot be told, which means no more flushes than one.
func dirtyMemory() uint64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "\nDirty:")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(line), " kB"), 10, 54)
	if err != nil {
		return 0
	}
	return n << 10
}
