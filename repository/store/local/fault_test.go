package local

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
)

// injector brings about one fault, at one of the operations it is of.
type injector struct {
	fault *fault
	at    int

	mu sync.Mutex
	n  int
	// hit is where it was brought about.
	hit string
	// all, if not nil, counts the operations of each kind.
	all map[operation]int
}

func (j *injector) ask(op operation, path string) *fault {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.all != nil {
		j.all[op]++
	}
	if j.fault == nil || j.fault.op != op && j.fault.does != doesDie {
		return nil
	}
	n := j.n
	j.n++
	if n == j.at {
		j.hit = string(op) + " " + path
	}
	if n == j.at || n > j.at && j.fault.does == doesDie {
		return j.fault
	}
	return nil
}

// errKilled is what a process gets that is dead.
var errKilled = errors.New("the process is dead")

// task is something that operations of a disk may fail in.
type task struct {
	name string
	// start gives a disk before the task, and what must be true then.
	start func(t *testing.T) instant
	// run does it, and gives the backup it made, if any.
	run func(ctx context.Context, i instant, d *disk) (*made, error)
	// reads says that it changes nothing, so that nothing comes of it.
	reads bool
}

func tasks() []task {
	return []task{
		{"create a repository", func(t *testing.T) instant {
			return instant{d: unsyncedHome(t), next: 1}
		}, func(ctx context.Context, _ instant, d *disk) (*made, error) {
			r, err := repository.Create(ctx, open(home, d), password, options())
			if err != nil {
				return nil, err
			}
			return nil, r.Close()
		}, false},
		{"back up", secondBackup, func(ctx context.Context, i instant, d *disk) (*made, error) {
			r, err := on(ctx, d)
			if err != nil {
				return nil, err
			}
			defer r.Close()
			base, err := r.Record(ctx, i.committed[0].id.String())
			if err != nil {
				return nil, err
			}
			rec, err := backup(ctx, r, base, i.next, false)
			if err != nil {
				return nil, err
			}
			m := &made{rec.ID, i.next}
			if _, err := r.AddNote(ctx, rec.ID, repository.Note{Kind: "outcome"}); err != nil {
				return m, err
			}
			return m, nil
		}, false},
		{"check", secondBackup, func(ctx context.Context, i instant, d *disk) (*made, error) {
			return nil, holds(ctx, d, i.committed)
		}, true},
		{"forget and prune", forgotten, func(ctx context.Context, _ instant, d *disk) (*made, error) {
			_, err := prune(ctx, d)
			return nil, err
		}, false},
		{"delete", secondBackup, func(ctx context.Context, _ instant, d *disk) (*made, error) {
			st := open(home, d)
			err := st.Put(ctx, "notes/x/y", []byte("none of ours"))
			if err == nil {
				err = st.Delete(ctx, "notes/x/y")
			}
			return nil, err
		}, false},
	}
}

// secondBackup is the instant before a second backup, on a disk that has packs
// without an index, an object that was named and not synced, and remains of
// a Put, all left by a process that was killed.
func secondBackup(t *testing.T) instant {
	d := unsyncedHome(t)
	var i instant
	for _, now := range history(t, d) {
		if len(now.committed) == 1 && now.next == 2 {
			i = now
			// Another pack has just got its name.
			if all, err := packs(t.Context(), now.d.copy()); err == nil && len(all) > len(i.packs)+2 && strings.HasPrefix(now.after, string(opRename)+" "+home+"/data") {
				break
			}
		}
	}
	i.d.now = time.Now().Add(-48 * time.Hour)
	f, err := i.d.CreateTemp(path.Join(home, "index"))
	if err == nil {
		_, err = f.Write(make([]byte, 3*block))
	}
	if err != nil {
		t.Fatal(err)
	}
	i.d.now = time.Now()
	return i
}

// forgotten is the instant after the first record was deleted and prune has
// marked what only that needed.
func forgotten(t *testing.T) instant {
	d := unsyncedHome(t)
	instants := history(t, d)
	for n, now := range instants {
		// The first pack to be deleted.
		if len(now.committed) == 2 && strings.HasPrefix(now.after, string(opRemove)+" "+home+"/data") {
			return instants[n-1]
		}
	}
	t.Fatal("prune deletes no pack")
	return instant{}
}

// harmless says whether a fault did no harm: what the task says of itself is
// true, and so it is after a loss of power.
func (i instant) harmless(ctx context.Context, d *disk, m *made, s survival) error {
	d.fault, d.gaveUp = nil, false
	if m != nil {
		i.committed = append(i.committed[:len(i.committed):len(i.committed)], *m)
		i.bytes, i.next = 0, i.next+1
	}
	if err := holds(ctx, d.copy(), i.committed); err != nil {
		return err
	}
	i.d = d
	if err := i.survives(ctx, s); err != nil {
		return errors.Join(errors.New("power was lost: "+s.name), err)
	}
	return i.carriesOn(ctx, d)
}

// places gives the operations, counted among those of its kind, at which the
// fault number k of n is brought about: all of them in torture; else they are
// shared out among the faults, so that each operation has one.
func places(k, n, operations int) []int {
	var at []int
	for o := range operations {
		if torture() || o%n == k || operations <= k && o == 0 {
			at = append(at, o)
		}
	}
	return at
}

// TestEveryOperationOfTheDiskMayFail: whatever fails, and however, is said by an
// error that names it, or has done no harm; and all that was committed is there,
// the repository is whole, and the next backup succeeds.
func TestEveryOperationOfTheDiskMayFail(t *testing.T) {
	hits, asked := map[string]int{}, map[operation]int{}
	r := rand.New(rand.NewPCG(5, 6))
	for _, task := range tasks() {
		t.Run(task.name, func(t *testing.T) {
			start := task.start(t)
			count := &injector{all: map[operation]int{}}
			d := start.d.copy()
			d.fault = count.ask
			if _, err := task.run(t.Context(), start, d); err != nil {
				t.Fatalf("without a fault: %v", err)
			}
			kind := map[operation]int{}
			for _, f := range faults {
				kind[f.op]++
			}
			turn := map[operation]int{}
			for n := range faults {
				f := &faults[n]
				for _, at := range places(turn[f.op], kind[f.op], count.all[f.op]) {
					j := &injector{fault: f, at: at, all: asked}
					task.fails(t, start, j, r)
					if j.hit != "" {
						hits[f.name]++
					}
				}
				turn[f.op]++
			}
		})
	}
	known := operations()
	for op, n := range asked {
		if !known[op] {
			t.Errorf("%q was asked for %d times and has no fault", op, n)
		}
	}
	total := 0
	for _, f := range faults {
		total += hits[f.name]
		if hits[f.name] == 0 {
			t.Errorf("no test has brought about %q", f.name)
		}
	}
	t.Logf("%d faults of %d operations, brought about %d times", len(faults), len(known), total)
}

// fails runs the task with a fault.
func (k task) fails(t *testing.T, start instant, j *injector, r *rand.Rand) {
	t.Helper()
	d := start.d.copy()
	d.fault = j.ask
	m, err := k.run(t.Context(), start, d)
	// Of faults that nobody is told, what is found is damage.
	// After a file system gave up the next operation may say so first.
	gaveUp := j.fault.does == doesGiveUp && errors.Is(err, syscall.EROFS)
	if err != nil && j.hit != "" && j.fault.err != nil && !errors.Is(err, j.fault.err) && !gaveUp {
		t.Errorf("%s at %s: the error does not say so: %v", j.fault.name, j.hit, err)
	}
	if err != nil && j.hit == "" {
		t.Errorf("%s, not brought about: %v", j.fault.name, err)
	}
	if k.reads && !torture() {
		d.fault, d.gaveUp = nil, false
		if err := holds(t.Context(), d, start.committed); err != nil {
			t.Errorf("%s at %s: %v", j.fault.name, j.hit, err)
		}
		return
	}
	all := survivals(r)
	s := all[r.IntN(len(all))]
	if err := start.harmless(t.Context(), d, m, s); err != nil {
		t.Errorf("%s at %s: %v", j.fault.name, j.hit, err)
	}
}

// TestAProcessMayDieBeforeAnyOperation: and all its goroutines with it.
func TestAProcessMayDieBeforeAnyOperation(t *testing.T) {
	died := &fault{"the process dies", "", errKilled, doesDie}
	r := rand.New(rand.NewPCG(7, 8))
	for _, task := range tasks() {
		start := task.start(t)
		n := 0
		for ; ; n++ {
			if n > 5000 {
				t.Fatalf("%s does not come to an end", task.name)
			}
			j := &injector{fault: died, at: n}
			if d := start.d.copy(); !torture() && n%5 != 0 {
				d.fault = j.ask
				if _, err := task.run(t.Context(), start, d); err == nil {
					break
				}
				continue
			}
			task.fails(t, start, j, r)
			if j.hit == "" {
				break
			}
		}
		t.Logf("%s: %d operations", task.name, n)
	}
}

// TestADeletionThatReturnedLasts: a loss of power does not bring the object
// back, nor does one while it went on leave a part of it.
func TestADeletionThatReturnedLasts(t *testing.T) {
	for _, s := range survivals(rand.New(rand.NewPCG(9, 9))) {
		d := unsyncedHome(t)
		st := open(home, d)
		data := make([]byte, 3*block)
		if err := st.Put(t.Context(), "records/x", data); err != nil {
			t.Fatal(err)
		}
		d.changed = func() {
			after := open(home, d.powerLoss(s))
			info, err := after.Stat(t.Context(), "records/x")
			if errors.Is(err, store.ErrNotExist) {
				return
			}
			got := make([]byte, len(data))
			if n, err2 := after.ReadAt(t.Context(), "records/x", got, 0); err != nil || n != len(data) || err2 != nil && err2 != io.EOF {
				t.Errorf("%s: %v, %d bytes, %v", s.name, err, info.Size, err2)
			}
		}
		if err := st.Delete(t.Context(), "records/x"); err != nil {
			t.Fatal(err)
		}
		d.changed = nil
		if _, err := open(home, d.powerLoss(s)).Stat(t.Context(), "records/x"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("%s: the object that was deleted is there again: %v", s.name, err)
		}
	}
}

// TestAFolderThatWasTakenAwayIsMadeAgain: someone tidies up the disk while the
// store is open.
func TestAFolderThatWasTakenAwayIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	st := open(dir, osFiles{})
	for _, name := range []string{"data/ab/x", "data/ab/y"} {
		if err := st.Put(t.Context(), name, []byte(name)); err != nil {
			t.Fatalf("put %s: %v", name, err)
		}
		if err := os.RemoveAll(path.Join(dir, "data")); err != nil {
			t.Fatal(err)
		}
	}
}
