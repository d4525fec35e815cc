package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// cutting is a repository on a file system whose power is cut.
type cutting struct {
	t      *testing.T
	volume *voltest.Volume
	m      *machine
	src    *source

	mu sync.Mutex
	// reported are the records that backups have said they made, by now.
	reported []string
	records  map[string]sums
}

// cut is what one loss of power left.
type cut struct {
	image string
	// reported is how many records had been reported when it began.
	reported int
	// inside says that an object was being put just before.
	inside bool
}

// TestPowerCutsLoseNoBackup: while real backups run to a repository on ext4 and
// on XFS, the image of that file system is cloned at random times. Each clone is
// mounted, which replays its journal: every record that was reported before the
// cut is there and shows what was backed up, the repository is whole, and the
// next backup succeeds.
func TestPowerCutsLoseNoBackup(t *testing.T) {
	cuts := rounds(50) / 2
	if cuts < 3 {
		cuts = 3
	}
	for _, fstype := range []string{"ext4", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			if fstype != "ext4" {
				onlyInTorture(t)
			}
			cutPower(t, fstype, cuts)
		})
	}
}

func cutPower(t *testing.T, fstype string, n int) {
	voltest.Need(t, fstype, "xfs")
	host := voltest.XFS(t, 8<<30)
	t.Setenv("SOMBRA_TEST_SCRATCH", host.Root) // where images and mount points lie
	c := &cutting{t: t, volume: voltest.Make(t, fstype, 1<<30), records: map[string]sums{}, src: newSource(t, scratch(t), 21)}
	c.m = cheaply(t, filepath.Join(c.volume.Root, "repository"))
	c.backup(0)

	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for round := 1; ; round++ {
			select {
			case <-stop:
				return
			default:
				c.backup(round)
			}
		}
	})
	var cuts []cut
	for i := range n {
		time.Sleep(100*time.Millisecond + rand.N(900*time.Millisecond))
		if i%2 == 1 { // every other time just when something is being put
			c.putting(5 * time.Second)
		}
		cuts = append(cuts, c.cut(filepath.Join(host.Root, fmt.Sprint("cut", i))))
	}
	close(stop)
	running.Wait()
	if t.Failed() {
		return
	}
	inside := 0
	for _, cut := range cuts {
		c.look(cut)
		if cut.inside {
			inside++
		}
	}
	t.Logf("%d cuts, %d of them while an object was being put; at the last %d backups had been reported; all came back", len(cuts), inside, cuts[len(cuts)-1].reported)
}

// backup changes the source and makes a backup.
func (c *cutting) backup(round int) {
	c.src.change(round)
	if round%3 == 2 {
		c.src.file("large", 20<<20+round)
	}
	want := c.src.kept()
	o := c.m.sombra("backup", "--json", c.src.dir)
	id := o.reported()
	if o.code != 0 || id == "" {
		c.t.Errorf("backup %d: exit code %d\n%s\n%s", round, o.code, o.out, o.err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reported = append(c.reported, id)
	c.records[id] = want
}

// putting waits until a file is being written, or so long, and says whether one
// is.
func (c *cutting) putting(limit time.Duration) bool {
	for end := time.Now().Add(limit); ; time.Sleep(200 * time.Microsecond) {
		for _, place := range []string{"data/*", "meta/*", "index", "records"} {
			if found, _ := filepath.Glob(filepath.Join(c.m.repo, place, ".sombra-tmp-*")); len(found) > 0 {
				return true
			}
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// cut cuts the power.
func (c *cutting) cut(image string) cut {
	c.t.Helper()
	c.mu.Lock()
	n := len(c.reported)
	c.mu.Unlock()
	inside := c.putting(0)
	if err := voltest.Clone(c.volume.Image(), image); err != nil {
		c.t.Fatal(err)
	}
	return cut{image, n, inside}
}

// look mounts what a cut left and compares.
func (c *cutting) look(k cut) {
	c.t.Helper()
	options := []string{}
	if c.volume.FSType == "xfs" {
		options = append(options, "nouuid") // the original is mounted
	}
	v, done := voltest.MountImage(c.t, c.volume.FSType, k.image, options...)
	defer done()
	defer os.Remove(k.image)
	dir := filepath.Join(v.Root, "repository")
	m, closed := look(c.t, dir)
	for _, id := range c.reported[:k.reported] {
		if err := m.shows(id, c.records[id]); err != nil {
			c.t.Errorf("%s: reported before the power was cut: %v", k.image, err)
		}
	}
	for _, id := range m.ids() { // and those it had not come to report
		if want, known := c.records[id]; known {
			if err := m.shows(id, want); err != nil {
				c.t.Errorf("%s: not reported yet: %v", k.image, err)
			}
		}
	}
	if err := m.whole(true); err != nil {
		c.t.Errorf("%s: %v", k.image, err)
	}
	closed()
	next := bareMachine(c.t, dir)
	id := next.must("backup", "--json", c.src.dir).reported()
	m, closed = look(c.t, dir)
	defer closed()
	if err := m.shows(id, c.src.kept()); err != nil {
		c.t.Errorf("%s: the backup after the cut: %v", k.image, err)
	}
	if err := m.whole(true); err != nil {
		c.t.Errorf("%s: after the next backup: %v", k.image, err)
	}
}
