package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestManyMachinesBackUpToOneRepositoryAtOnce: real processes, each with a state
// of its own, all beginning together; half of their data is the same. One of
// them is killed in each round, and checks run beside them. Every backup that
// was reported restores, and no check says anything.
func TestManyMachinesBackUpToOneRepositoryAtOnce(t *testing.T) {
	const machines = 8
	dir := scratch(t)
	first := cheaply(t, dir+"/repository")
	many := make([]*machine, machines)
	sources := make([]*source, machines)
	for i := range many {
		many[i] = bareMachine(t, first.repo)
		sources[i] = newSource(t, scratch(t), uint64(41+i))
		shared := newSource(t, scratch(t), 40) // the same for all
		shared.dir, shared.now = sources[i].dir, sources[i].now
		for n := range 10 {
			shared.file(fmt.Sprint("shared/f", n), 300_000)
		}
	}
	records := map[string]sums{}
	checks, killed := 0, 0
	n := rounds(40)
	if n < 40 {
		n = 3
	}
	for round := range n {
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range many {
			sources[i].change(round)
			r := many[i].start(false, "backup", "--json", sources[i].dir)
			victim := i == round%machines
			all.Go(func() {
				if victim {
					go r.read()
					time.Sleep(rand.N(700 * time.Millisecond))
					r.cmd.Process.Kill()
				}
				o := r.wait()
				mu.Lock()
				defer mu.Unlock()
				if o.code == -1 {
					killed++
				} else if o.code != 0 {
					t.Errorf("machine %d: exit code %d\n%s", i, o.code, o.err)
				}
				if id := o.reported(); id != "" {
					records[id] = sources[i].kept()
				}
			})
		}
		beside := make(chan struct{})
		go func() { all.Wait(); close(beside) }()
		for running := true; running; {
			select {
			case <-beside:
				running = false
			default:
			}
			first.must("check", "--read-data")
			checks++
		}
	}
	m, done := look(t, first.repo)
	defer done()
	for _, id := range slices.Sorted(maps.Keys(records)) {
		if err := m.shows(id, records[id]); err != nil {
			t.Error(err)
		}
	}
	if err := m.whole(true); err != nil {
		t.Error(err)
	}
	if want := n * (machines - 1); len(records) < want {
		t.Errorf("%d backups were reported, want %d", len(records), want)
	}
	t.Logf("%d rounds of %d machines: %d backups reported and compared, %d killed, %d checks beside them", n, machines, len(records), killed, checks)
}
