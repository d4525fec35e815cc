package staging

import (
	"context"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
)

// verify looks again, at the end of the last pass, at everything claimed that
// the pass saw, and notes what is not as it was then: it moved while it was said
// to be still, and what was copied is not of one instant. What no times tell
// (see [Trusted]) is not found.
func (p *pass) verify(ctx context.Context) error {
	seen := make([]*record, 0, len(p.s.records))
	for _, r := range p.s.records {
		if r.pass == p.number && !r.mount && r.missing == "" {
			seen = append(seen, r)
		}
	}
	var mu sync.Mutex
	var changed []*record // directories
	g, working := errgroup.WithContext(ctx)
	share := max(len(seen)/runtime.GOMAXPROCS(0)+1, 64)
	for part := range slices.Chunk(seen, share) {
		g.Go(func() error {
			dirs, err := p.verifySome(working, part)
			mu.Lock()
			defer mu.Unlock()
			changed = append(changed, dirs...)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for range listTries {
		if len(changed) == 0 {
			break
		}
		begun := time.Now()
		before := make([]stat, len(changed))
		for i, r := range changed {
			before[i], _ = p.look(r.path)
		}
		for _, r := range changed {
			if err := p.listAgain(ctx, r.path); err != nil {
				return err
			}
		}
		again := false
		for i, r := range changed {
			now, _ := p.look(r.path)
			again = again || !unmoved(&before[i], &now, begun, p.s.tick)
		}
		if !again {
			break
		}
	}
	p.belowLost()
	return nil
}

// unmoved reports whether no name came to or left a directory that was looked at
// since begun, and again now. Times that are equal do not tell so where they are
// recent: two renames in one step of the clock leave the same.
func unmoved(before, now *stat, begun time.Time, tick time.Duration) bool {
	return sameTime(before.mtime, now.mtime) && goTime(now.mtime).Before(begun.Add(-2*tick))
}

// listTries is how often directories that change all the time are listed to
// find them as they are at one moment: what wanders from one to the other would
// be missed in both.
const listTries = 8

// verifySome looks at some objects, and returns the directories in which names
// may have come or gone.
func (p *pass) verifySome(ctx context.Context, seen []*record) (changed []*record, err error) {
	for i, r := range seen {
		if i%256 == 255 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		now, err := p.look(r.path)
		switch {
		case r.st.isDir():
			if err != nil || now.ino != r.st.ino || now.dev != r.st.dev {
				p.vanished(r.path)
			} else if !sameTime(now.mtime, r.st.mtime) || !goTime(now.mtime).Before(r.since.Add(-2*p.s.tick)) {
				changed = append(changed, r)
			}
		case r.claimed && (err != nil || !now.same(&r.st)):
			p.vanished(r.path)
		}
	}
	return changed, nil
}

// look describes what is at a path of the volume now. It may be led astray by a
// link: then it is another object.
func (p *pass) look(name string) (stat, error) {
	at := int(p.s.root.Fd())
	if len(name) <= longPath {
		return statAt(at, name)
	}
	dir, base := path.Split(name)
	fd, err := openBeneath(at, strings.TrimSuffix(dir, "/"), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return stat{}, err
	}
	defer unix.Close(fd)
	return statAt(fd, base)
}

// listAgain finds claimed files in a directory that the pass has not seen there.
func (p *pass) listAgain(ctx context.Context, dir string) error {
	areaStat, err := statAt(p.s.area.Fd(), "")
	if err != nil {
		return err
	}
	known := func(name string) bool {
		r := p.s.records[name]
		return r != nil && r.pass == p.number
	}
	w := p.walker(&areaStat)
	w.unclaimed = false
	w.visit = func(o *object) error {
		if o.claimed && !known(o.path) {
			p.vanished(o.path)
		}
		return nil
	}
	w.failed = func(string, bool, error) error { return nil } // whatever it is, it was not seen
	w.skip = known
	return w.from(ctx, dir)
}

// vanished notes that something claimed was not there all the time.
func (p *pass) vanished(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s.scope.Claimed(name) {
		p.moved(name)
	} else if p.s.scope.Enter(name, false) {
		p.lostDirs = append(p.lostDirs, name)
	}
}

// belowLost names claimed files below the directories that were not there all
// the time, as far as they are known from before.
func (p *pass) belowLost() {
	lost := make(map[string]bool, len(p.lostDirs))
	for _, dir := range p.lostDirs {
		lost[dir] = true
	}
	if len(lost) > 0 {
		for _, r := range p.s.records {
			for dir := path.Dir(r.path); r.claimed && dir != "."; dir = path.Dir(dir) {
				if lost[dir] {
					p.moved(r.path)
					break
				}
			}
		}
	}
	slices.Sort(p.done.Moved)
	p.done.Moved = slices.Compact(p.done.Moved)
}

func (p *pass) moved(path string) {
	if len(p.done.Moved) < provider.MaxMoved {
		p.done.Moved = append(p.done.Moved, path)
	}
}
