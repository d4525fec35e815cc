package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store/local"
)

// faultWorld is a host with applications at work on three volumes, each of which
// is served by another provider.
type faultWorld struct {
	*machine
	volumes map[string]*voltest.Volume // by their provider's name
	// repository and state are volumes of their own, so that they can be full.
	repository, stateVolume *voltest.Volume
	apps                    []*faultLoad
	// deep: servers are started on copies of their data.
	deep        bool
	*faultTally // of the cell
}

// faultDatabases are the servers that can be in it, by the volume each is on.
var faultDatabases = []struct {
	name, provider string
	start          func(root string) (*serverApp, error)
}{
	{"postgres", "btrfs", newPostgresApp},
	{"mariadb", "reflink", newMariaDBApp},
	{"redis", "precopy", newRedisApp},
	{"etcd", "precopy", newEtcdApp},
}

// newFaultWorld starts everything, of the servers those that are named.
func newFaultWorld(t *testing.T, databases []string) *faultWorld {
	t.Helper()
	voltest.Need(t, fileSystems...)
	w := &faultWorld{volumes: map[string]*voltest.Volume{}}
	for _, fs := range fileSystems {
		w.volumes[providerOf[fs]] = voltest.Make(t, fs, 1<<30)
	}
	w.repository, w.stateVolume = voltest.Ext4(t, 0), voltest.Ext4(t, 0)
	w.machine = bareMachine(t, filepath.Join(w.repository.Root, "repository"))
	w.machine.stateDir = filepath.Join(w.stateVolume.Root, "state")
	w.initialize()
	add := func(a faultApp, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		w.apps = append(w.apps, newFaultLoad(t, a))
	}
	// Scripts are trusted only where nobody else may write in any directory above.
	config, err := os.MkdirTemp("/var/lib", "sombra-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(config) })
	if err := os.Chmod(config, 0o755); err != nil {
		t.Fatal(err)
	}
	add(newSQLiteApp(w.volumes["btrfs"].Root))
	shop, err := newShopApp(w.volumes["reflink"].Root, filepath.Join(config, "shop"))
	add(shop, err)
	counter, err := newCounterApp(w.volumes["precopy"].Root, filepath.Join(config, "counter"))
	add(counter, err)
	for _, d := range faultDatabases {
		if slices.Contains(databases, d.name) {
			add(d.start(w.volumes[d.provider].Root))
		}
	}
	writers := "writers:\n" + shop.yaml() + counter.yaml(filepath.Join(counter.root, "counter"))
	for _, s := range w.servers() {
		writers += s.yaml
	}
	w.configure(writers)
	for _, v := range w.volumes {
		for i := range 20 {
			write(t, filepath.Join(v.Root, "files", fmt.Sprint(i)), strings.Repeat("data of no writer ", 100))
		}
	}
	return w
}

// initialize makes the repository, with a password that is cheap to try: a cell
// runs the program a dozen times.
func (w *faultWorld) initialize() {
	w.t.Helper()
	if err := os.Mkdir(w.repo, 0o700); err != nil {
		w.t.Fatal(err)
	}
	st, err := local.Open(w.repo)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := repository.Create(context.Background(), st, []byte("e2e"), repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// makeRoom begins a new repository where that of the cells before has taken half of
// its volume: what is forgotten is not gone before a prune some time later.
func (w *faultWorld) makeRoom() {
	w.t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(w.repository.Root, &st); err != nil {
		w.t.Fatal(err)
	}
	if st.Bavail > st.Blocks/2 {
		return
	}
	if err := os.RemoveAll(w.repo); err != nil {
		w.t.Fatal(err)
	}
	w.initialize()
}

// memory makes a directory for copies, which servers that run as other users can
// reach. It is in memory: copies are read, and thrown away.
func (w *faultWorld) memory() string {
	w.t.Helper()
	dir, err := os.MkdirTemp("", "copies-")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// roots are the paths to back up.
func (w *faultWorld) roots() (list []string) {
	for _, p := range []string{"btrfs", "reflink", "precopy"} {
		list = append(list, w.volumes[p].Root)
	}
	return list
}

func (w *faultWorld) app(name string) *faultLoad {
	i := slices.IndexFunc(w.apps, func(l *faultLoad) bool { return l.name() == name })
	return w.apps[i]
}

// servers are those of the applications that are database servers.
func (w *faultWorld) servers() (list []*serverApp) {
	for _, a := range w.apps {
		if s, ok := a.faultApp.(*serverApp); ok {
			list = append(list, s)
		}
	}
	return list
}

// remainsChecked is what remains looks for.
var remainsChecked = []string{"process of ours", "shadow copy", "journal", "stopped thread of an application", "session, slot, pause", "control group",
	"frozen file system"}

// remains lists what is left of runs.
func (w *faultWorld) remains() (list []string) {
	for _, root := range w.roots() {
		for _, s := range w.left(root) {
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	for _, l := range w.apps {
		list = append(list, l.held()...)
		for _, pid := range l.pids() {
			list = append(list, stoppedTasks(pid)...)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/sombra-keeper-*")
	list = append(list, groups...)
	if len(list) == 0 { // it is looked at as often as something else is left
		for _, root := range w.roots() {
			if !writable(root) {
				list = append(list, root+" is frozen")
			}
		}
	}
	return list
}

// writable reports whether a volume accepts a change soon.
func writable(root string) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		name := filepath.Join(root, "changes")
		os.WriteFile(name, nil, 0o600) // that there is no room is another matter
		os.Remove(name)
	}()
	select {
	case <-done:
		return true
	case <-time.After(promptly):
		return false
	}
}

// stoppedTasks lists the threads of a process that are stopped.
func stoppedTasks(pid int) (list []string) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/stat", pid))
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		if len(f) > 0 && (f[0] == "T" || f[0] == "t") {
			list = append(list, fmt.Sprintf("thread %s of process %d is stopped (%s)", filepath.Base(filepath.Dir(task)), pid, f[0]))
		}
	}
	return list
}

// faultLoad is an application under writes.
type faultLoad struct {
	faultApp

	mu     sync.Mutex
	begun  int64 // the number being written
	next   int64 // the one to be written next
	acked  int64
	times  []time.Time // of acknowledgements
	failed []error
	down   bool // it was killed, and is not started yet
}

func newFaultLoad(t *testing.T, a faultApp) *faultLoad {
	t.Helper()
	l := &faultLoad{faultApp: a, next: 1, times: []time.Time{{}}}
	if err := a.start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		if c, ok := a.(io.Closer); ok {
			c.Close()
		} else {
			a.kill()
		}
		<-ended
	})
	waitFor(t, 30*time.Second, a.name()+" accepts writes", func() bool { return l.last() > 3 })
	return l
}

// run writes number by number until ctx ends, not so fast that worlds take the disk
// and the processors from each other.
func (l *faultLoad) run(ctx context.Context) {
	for ; ctx.Err() == nil; time.Sleep(30 * time.Millisecond) {
		l.mu.Lock()
		n, down := l.next, l.down
		l.begun = n
		l.mu.Unlock()
		if down {
			continue
		}
		err := l.write(ctx, n)
		l.mu.Lock()
		switch {
		case err == nil:
			l.acked = n
			l.times = append(l.times, time.Now())
			l.next = n + 1
		case !l.down:
			l.failed = append(l.failed, err)
		}
		l.mu.Unlock()
	}
}

// last is the highest number acknowledged.
func (l *faultLoad) last() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked
}

// trying is the number that is being written.
func (l *faultLoad) trying() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun
}

// failures takes the errors of writes since the last call.
func (l *faultLoad) failures() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.failed
	l.failed = nil
	return list
}

// after is how long after a time the first write was acknowledged, if one was.
func (l *faultLoad) after(at time.Time) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.times, at, time.Time.Compare)
	if i == len(l.times) {
		return 0, false
	}
	return l.times[i].Sub(at), true
}

// crash kills the application; restart starts it again.
func (l *faultLoad) crash() error {
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	return l.kill()
}

func (l *faultLoad) restart() error {
	err := l.start()
	l.mu.Lock()
	l.down = false
	l.mu.Unlock()
	return err
}

// revive waits until an application accepts writes for which there was no room, and
// starts it again if it has ended for want of that, at once or while it recovered.
func (l *faultLoad) revive() error {
	for at := time.Now(); time.Since(at) < 20*time.Second; time.Sleep(5 * time.Millisecond) {
		if _, ok := l.after(at); ok {
			return nil
		}
		if pids := l.pids(); len(pids) == 0 || dead(pids[0]) {
			return errors.Join(l.crash(), l.restart())
		}
	}
	return fmt.Errorf("%s has room again, and accepts no write", l.name())
}

// restored starts an application whose data is what it was when a number was the
// last one.
func (l *faultLoad) restored(last int64) error {
	l.mu.Lock()
	l.acked, l.next = last, last+1
	l.mu.Unlock()
	return l.restart()
}
