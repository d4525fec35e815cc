package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// world is a store with a clock that tests set, and machines that use it. Each
// machine's operations wait until the schedule lets them go on; a Put takes its
// time when it begins and can be seen later, a listing is not one instant, a
// machine may sleep or die between any two steps, and what it had asked for
// when it died may still be done long afterwards.
type world struct {
	t   testing.TB
	rng *rand.Rand

	mu      sync.Mutex
	clock   time.Time
	objects map[string]simObject
	waiting []*simStep
	running int
}

type simObject struct {
	data []byte
	time time.Time
}

// simStep is a step that a machine wants to take, or a timer.
type simStep struct {
	m    *machine
	due  time.Time
	gone chan struct{}
}

// machine is one user of the store.
type machine struct {
	w      *world
	name   string
	asleep time.Time
	dead   bool
	// dies is at which step it dies, zero if never.
	dies, steps int
	// alone says that it need not wait for the schedule.
	alone bool
}

func newWorld(t testing.TB, origin *mem.Store, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), clock: time.Unix(1_700_000_000, 0), objects: map[string]simObject{}}
	for name, size := range objects(t, origin) {
		object, err := readObject(t.Context(), origin, name, size)
		if err != nil {
			t.Fatal(err)
		}
		w.objects[name] = simObject{object, w.clock}
	}
	return w
}

// step waits for the schedule. A dead machine gets an error and asks for nothing
// any more.
func (m *machine) step(ctx context.Context) error {
	w := m.w
	w.mu.Lock()
	if m.steps++; m.dies > 0 && m.steps >= m.dies {
		m.dead = true
	}
	if m.dead {
		w.mu.Unlock()
		return errInjected
	}
	if m.alone {
		w.mu.Unlock()
		return nil
	}
	s := &simStep{m: m, gone: make(chan struct{})}
	w.waiting = append(w.waiting, s)
	w.mu.Unlock()
	select {
	case <-s.gone:
	case <-ctx.Done():
		// Perhaps the schedule has chosen it all the same.
		w.mu.Lock()
		w.waiting = slices.DeleteFunc(w.waiting, func(o *simStep) bool { return o == s })
		w.mu.Unlock()
		return ctx.Err()
	}
	return nil
}

// sleep is a timer of the machine.
func (m *machine) sleep(ctx context.Context, d time.Duration) error {
	w := m.w
	w.mu.Lock()
	s := &simStep{m: m, due: w.clock.Add(d), gone: make(chan struct{})}
	w.waiting = append(w.waiting, s)
	w.mu.Unlock()
	select {
	case <-s.gone:
		return nil
	case <-ctx.Done():
		w.mu.Lock()
		w.waiting = slices.DeleteFunc(w.waiting, func(o *simStep) bool { return o == s })
		w.mu.Unlock()
		return ctx.Err()
	}
}

func (m *machine) Put(ctx context.Context, name string, data []byte) error {
	if err := m.step(ctx); err != nil {
		return err
	}
	w := m.w
	w.mu.Lock()
	o := simObject{bytes.Clone(data), w.clock}
	late := m.dies > 0 && m.steps+1 >= m.dies && w.rng.IntN(2) == 0
	w.mu.Unlock()
	apply := func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, ok := w.objects[name]; ok {
			return store.ErrExist
		}
		w.objects[name] = o
		return nil
	}
	err := m.step(ctx)
	if late && m.dead {
		w.zombie(func() { apply() })
	}
	if err != nil {
		return err
	}
	return apply()
}

// zombie has something done later, by nobody.
func (w *world) zombie(f func()) {
	m := &machine{w: w, name: "the network", asleep: w.clock.Add(time.Duration(w.rng.Int64N(int64(80 * time.Hour))))}
	w.start(m, func() {
		if m.step(context.Background()) == nil {
			f()
		}
	})
}

func (m *machine) ReadAt(_ context.Context, name string, p []byte, off int64) (int, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if m.dead {
		return 0, errInjected
	}
	o, ok := m.w.objects[name]
	if !ok {
		return 0, store.ErrNotExist
	}
	n := copy(p, o.data[min(off, int64(len(o.data))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *machine) Stat(_ context.Context, name string) (store.Info, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if m.dead {
		return store.Info{}, errInjected
	}
	o, ok := m.w.objects[name]
	if !ok {
		return store.Info{}, store.ErrNotExist
	}
	return store.Info{Name: name, Size: int64(len(o.data)), ModTime: o.time}, nil
}

// List gives the first names as they are at one step, the others as they are at
// a later one.
func (m *machine) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	var infos []store.Info
	w := m.w
	cut := string([]byte{"0123456789abcdef"[w.number(16)]})
	for half := range 2 {
		if err := m.step(ctx); err != nil {
			return err
		}
		w.mu.Lock()
		for name, o := range w.objects {
			rest, ok := strings.CutPrefix(name, prefix)
			if ok && (rest < cut) == (half == 0) {
				infos = append(infos, store.Info{Name: name, Size: int64(len(o.data)), ModTime: o.time})
			}
		}
		w.mu.Unlock()
	}
	for _, info := range infos {
		if err := f(info); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) Delete(ctx context.Context, name string) error {
	if err := m.step(ctx); err != nil {
		return err
	}
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if _, ok := m.w.objects[name]; !ok {
		return store.ErrNotExist
	}
	delete(m.w.objects, name)
	return nil
}

func (w *world) number(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// start has a machine do something. The lock need not be held.
func (w *world) start(m *machine, f func()) {
	w.mu.Lock()
	w.running++
	w.mu.Unlock()
	go func() {
		f()
		w.mu.Lock()
		w.running--
		w.mu.Unlock()
	}()
}

// patience is how often the schedule finds nothing to do before it takes it that
// all machines wait for time to pass.
const patience = 100

// run lets steps happen, in random order at random times, until all is done.
func (w *world) run() {
	idle := 0
	for {
		w.mu.Lock()
		if w.running == 0 {
			w.mu.Unlock()
			return
		}
		if w.advance(idle > patience) {
			idle = 0
		} else {
			idle++
		}
		w.mu.Unlock()
		switch {
		case idle == 0:
		case idle < patience-10:
			runtime.Gosched()
		default:
			time.Sleep(20 * time.Microsecond)
		}
		if idle > 500_000 {
			w.t.Fatal("the schedule does not come to an end")
		}
	}
}

// advance lets one step happen, and time pass. It says whether there was one.
func (w *world) advance(hurry bool) bool {
	switch n := w.rng.IntN(1000); {
	case len(w.waiting) == 0:
	case n < 700:
		w.clock = w.clock.Add(time.Duration(w.rng.Int64N(int64(time.Minute))))
	case n < 985:
		w.clock = w.clock.Add(time.Duration(w.rng.Int64N(int64(20 * time.Minute))))
	default:
		w.clock = w.clock.Add(time.Duration(w.rng.Int64N(int64(5 * time.Hour))))
	}
	var ready []int
	var wake time.Time
	for i, s := range w.waiting {
		at := s.due
		if s.m.asleep.After(at) {
			at = s.m.asleep
		}
		if !at.After(w.clock) {
			ready = append(ready, i)
		} else if wake.IsZero() || at.Before(wake) {
			wake = at
		}
	}
	if len(ready) == 0 {
		if !wake.IsZero() && hurry {
			w.clock = wake
		}
		return false
	}
	i := ready[w.rng.IntN(len(ready))]
	s := w.waiting[i]
	if s.due.IsZero() && w.rng.IntN(60) == 0 {
		s.m.asleep = w.clock.Add(time.Duration(w.rng.Int64N(int64(70 * time.Hour))))
		return true
	}
	w.waiting = slices.Delete(w.waiting, i, i+1)
	close(s.gone)
	return true
}

// simulation is what the machines of a world do.
type simulation struct {
	*world
	r *Repository

	known sync.Mutex
	// want is what each record must hold.
	want map[ID]map[string]uint64
	// stale, pruned, deleted count.
	stale, committed, deleted, copied int
}

func (s *simulation) on(m *machine) *Repository {
	r := s.r.on(m)
	r.sleep = m.sleep
	return r
}

// backup makes a backup of a few of few files, on top of an earlier one or not.
func (s *simulation) backup(m *machine) error {
	ctx := s.t.Context()
	r := s.on(m)
	defer r.decoder.Close()
	for range 1 + s.number(2) {
		var base *Record
		if records, _ := r.Records(ctx); len(records) > 0 && s.number(4) > 0 {
			base = records[s.number(len(records))]
		}
		want, err := s.backupOn(ctx, r, base)
		if errors.Is(err, ErrStale) {
			s.known.Lock()
			s.stale++
			s.known.Unlock()
		}
		if err != nil && m.dead {
			return nil
		}
		if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, ErrDamaged) {
			return err
		}
		_ = want
	}
	return nil
}

func (s *simulation) backupOn(ctx context.Context, r *Repository, base *Record) (map[string]uint64, error) {
	b, err := r.Begin(ctx, BeginOptions{Base: base})
	if err != nil {
		return nil, err
	}
	defer b.Abort()
	want := map[string]uint64{}
	for i := range 5 {
		n := uint64(s.number(12))
		path := fmt.Sprint("file", i)
		want[path] = n
		var c Content
		kept := false
		if base != nil && s.number(2) == 0 {
			if e, err := base.Table().Lookup(ctx, "/", path); err == nil && b.Holds(ctx, e.Content) == nil {
				s.known.Lock()
				known := s.want[base.ID]
				s.known.Unlock()
				if known != nil {
					c, kept = e.Content, true
					want[path] = known[path]
				}
			}
		}
		if !kept {
			if c, err = b.PutFile(ctx, source(simFile(n))); err != nil {
				return nil, err
			}
		}
		if err := b.Add(ctx, Entry{Root: "/", Path: path, Type: Regular, Size: c.Size(), Content: c}); err != nil {
			return nil, err
		}
	}
	rec, err := b.Commit(ctx, testInfo())
	if err != nil {
		return nil, err
	}
	s.known.Lock()
	s.want[rec.ID] = want
	s.committed++
	s.known.Unlock()
	return want, nil
}

func simFile(n uint64) []byte { return randomData(500+int(n)*300, 1000+n) }

// prune forgets records and prunes.
func (s *simulation) prune(m *machine) error {
	ctx := s.t.Context()
	for range 2 + s.number(3) {
		r := s.on(m)
		ids, err := r.recordIDs(ctx, "")
		if err != nil && !m.dead {
			return err
		}
		for _, id := range ids {
			if s.number(3) == 0 {
				m.Delete(ctx, recordName(id))
			}
		}
		o := PruneOptions{MaxUnused: []float64{0, 0.01, 0.5}[s.number(3)]}
		if s.number(3) == 0 {
			o.Grace = -1
		}
		report, err := r.Prune(ctx, o, nil)
		r.decoder.Close()
		s.known.Lock()
		s.deleted += int(report.Deleted)
		s.copied += int(report.Copied)
		s.known.Unlock()
		if err != nil && !m.dead && !errors.Is(err, ErrDamaged) && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		if report.Stopped != nil && !errors.Is(report.Stopped, store.ErrNotExist) {
			return fmt.Errorf("prune stopped: %w", report.Stopped)
		}
		// A day or so passes.
		if s.number(2) == 0 {
			m.sleep(ctx, time.Duration(s.number(40))*time.Hour)
		}
	}
	return nil
}

// whole says what is wrong with the store as it is: every record must restore
// wholly.
func (s *simulation) whole() error {
	st := mem.New()
	s.mu.Lock()
	for name, o := range s.objects {
		if err := st.Put(s.t.Context(), name, o.data); err != nil {
			s.t.Fatal(err)
		}
	}
	s.mu.Unlock()
	r := s.r.on(st)
	defer r.decoder.Close()
	records, err := r.Records(s.t.Context())
	if err != nil {
		return err
	}
	for _, rec := range records {
		want := s.want[rec.ID]
		for e, err := range rec.Table().All(s.t.Context()) {
			if err != nil {
				return err
			}
			f, err := r.OpenContent(s.t.Context(), e.Content)
			if err != nil {
				return fmt.Errorf("record %s: %s: %w", rec.ID.Short(), e.Path, err)
			}
			got := make([]byte, e.Size)
			if n, err := f.ReadAt(got, 0); int64(n) != e.Size || err != nil && err != io.EOF {
				return fmt.Errorf("record %s: %s: %w", rec.ID.Short(), e.Path, err)
			}
			if want != nil && !bytes.Equal(got, simFile(want[e.Path])) {
				return fmt.Errorf("record %s: %s differs", rec.ID.Short(), e.Path)
			}
		}
	}
	problems, err := problemsOf(s.t.Context(), r, CheckOptions{ReadData: true})
	if err == nil && len(problems) > 0 {
		err = fmt.Errorf("check: %+v", problems)
	}
	return err
}

// Whatever the order of steps, however long they take, and wherever a machine
// dies: every record in the store restores wholly, and check is clean.
func TestBackupsAndPrunesInAnyOrderHarmNothing(t *testing.T) {
	schedules := 150
	if os.Getenv("SOMBRA_TORTURE") == "1" {
		schedules = 5000
	}
	origin := mem.New()
	r := newTestRepository(t, origin)
	r.options.PackSize = 4 << 10
	r.options.Workers = 1
	first := begin(t, r, nil)
	for i := range 5 {
		addFile(t, first, fmt.Sprint("file", i), simFile(uint64(i)))
	}
	rec := commit(t, first, testInfo())
	var stale, committed, deleted, copied, died int
	for seed := range schedules {

		w := newWorld(t, origin, uint64(seed))
		s := &simulation{world: w, r: r, want: map[ID]map[string]uint64{rec.ID: {"file0": 0, "file1": 1, "file2": 2, "file3": 3, "file4": 4}}}
		var errs []error
		for i, do := range []func(*machine) error{s.backup, s.backup, s.backup, s.prune, s.prune} {
			m := &machine{w: w, name: fmt.Sprint(i)}
			if w.rng.IntN(3) == 0 {
				m.dies = 1 + w.rng.IntN(120)
			}
			w.start(m, func() {
				err := do(m)
				s.known.Lock()
				if err != nil {
					errs = append(errs, fmt.Errorf("machine %s: %w", m.name, err))
				}
				if m.dead {
					died++
				}
				s.known.Unlock()
			})
		}
		w.run()
		if err := errors.Join(append(errs, s.whole())...); err != nil {
			t.Fatalf("schedule %d: %v", seed, err)
		}
		s.settle(t, seed)
		stale += s.stale
		committed += s.committed
		deleted += s.deleted
		copied += s.copied
	}
	t.Logf("%d schedules: %d backups committed, %d were silent for too long, %d machines died, %d packs deleted, %d chunks copied", schedules, committed, stale, died, deleted, copied)
	if stale == 0 || committed == 0 || deleted == 0 || copied == 0 || died == 0 {
		t.Error("not everything that should happen did")
	}
}

// settle prunes until nothing is left to do: what no record uses is gone then.
func (s *simulation) settle(t *testing.T, seed int) {
	m := &machine{w: s.world, name: "last", alone: true}
	var report PruneReport
	for range 8 {
		r := s.on(m)
		var err error
		report, err = r.Prune(t.Context(), PruneOptions{}, nil)
		r.decoder.Close()
		if err != nil || report.Stopped != nil {
			t.Fatalf("schedule %d: the last prunes: %v, %v", seed, err, report.Stopped)
		}
		s.clock = s.clock.Add(60 * time.Hour)
	}
	if report.Waiting != 0 || report.Marked != 0 || float64(report.Unused) > 0.2*float64(report.Bytes) {
		t.Errorf("schedule %d: after the last prune: %+v", seed, report)
	}
	if err := s.whole(); err != nil {
		t.Fatalf("schedule %d: after the last prunes: %v", seed, err)
	}
	for name := range s.objects {
		if strings.HasPrefix(name, prefixIntents) || strings.HasPrefix(name, prefixMarks) {
			t.Errorf("schedule %d: %s is left", seed, name)
		}
	}
}
