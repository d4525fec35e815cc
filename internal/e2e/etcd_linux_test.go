package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/voltest"
)

// keys is a client of an etcd server that puts numbers one after the other.
type keys struct {
	t *testing.T
	*dbtest.Etcd
	mu   sync.Mutex
	n    int
	done map[int]time.Time // when each was acknowledged
}

func newKeys(t *testing.T, o dbtest.EtcdOptions) *keys {
	t.Helper()
	if _, err := os.Stat(dbtest.EtcdBin); err != nil {
		voltest.Skip(t, "etcd is not installed: %v", err)
	}
	e, err := dbtest.StartEtcd(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	k := &keys{t: t, Etcd: e, done: map[int]time.Time{}}
	t.Cleanup(func() {
		k.end()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// put puts the next number.
func (k *keys) put() {
	k.t.Helper()
	n := k.n + 1
	if err := k.Put(context.Background(), "k/"+strconv.Itoa(n), "v"); err != nil {
		k.t.Errorf("put: %v", err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.n, k.done[n] = n, time.Now()
}

// load puts numbers until what it returns is called.
func (k *keys) load() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			k.put()
		}
	})
	return func() { cancel(); wg.Wait() }
}

// count is how many numbers the server has, which must be without a gap.
func (k *keys) count() int {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	out, err := k.Etcdctl(ctx, "get", "--prefix", "--keys-only", "k/")
	if err != nil {
		k.t.Fatal(err)
	}
	got := map[string]bool{}
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" {
			got[line] = true
		}
	}
	for n := 1; n <= len(got); n++ {
		if !got["k/"+strconv.Itoa(n)] {
			k.t.Fatalf("of %d numbers %d is missing", len(got), n)
		}
	}
	return len(got)
}

// between checks that a restored server has what was acknowledged before a backup
// was frozen, and nothing that was put after it was thawed.
func (k *keys) between(from, to time.Time) {
	k.t.Helper()
	got := k.count()
	k.mu.Lock()
	defer k.mu.Unlock()
	least, most := 0, 1
	for n, at := range k.done {
		if at.Before(from) {
			least = max(least, n)
		}
		if at.Before(to) {
			most = max(most, n+1)
		}
	}
	if got < least || got > most {
		k.t.Errorf("it has %d numbers; %d were acknowledged before the backup began, and %d when it had ended", got, least, most)
	}
	k.n = got
}

// servers are the processes that have the data open.
func (k *keys) servers() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range dirs {
		if target, err := os.Readlink(fd); err == nil && target == filepath.Join(k.Dir, "member/snap/db") {
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

func (k *keys) end() {
	k.t.Helper()
	for _, pid := range k.servers() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			k.t.Error(err)
		}
	}
	waitFor(k.t, longest, "the server's end", func() bool { return len(k.servers()) == 0 })
}

// TestEtcdIsBackedUpAndRestored: a server that is found by itself, under load, in a
// full, an incremental and a differential backup, on btrfs and on ext4; some of them
// outside of torture. Each is restored in place: it has what was acknowledged before it, and the server, which
// no unit runs, is started again and outlives the restore.
func TestEtcdIsBackedUpAndRestored(t *testing.T) {
	for _, fstype := range []string{"btrfs", "ext4"} {
		t.Run(fstype, func(t *testing.T) {
			// The log's files have 64 MB each, and the old ones are kept until the
			// restored ones are known to be good.
			v := map[string]func(testing.TB, int64, ...string) *voltest.Volume{"btrfs": voltest.Btrfs, "ext4": voltest.Ext4}[fstype](t, 2<<30)
			m := newMachine(t)
			k := newKeys(t, dbtest.EtcdOptions{Dir: filepath.Join(v.Root, "etcd")})
			for range 100 {
				k.put()
			}
			type made struct {
				id       string
				from, to time.Time
			}
			var list []made
			types := []string{"full", "incremental", "differential"}
			if os.Getenv("SOMBRA_TORTURE") == "" {
				types = map[string][]string{"btrfs": {"full", "incremental"}, "ext4": {"copy"}}[fstype]
			}
			for _, kind := range types {
				stop := k.load()
				time.Sleep(200 * time.Millisecond)
				from := time.Now()
				o := m.must("backup", "--json", "--type", kind, v.Root)
				to := time.Now()
				stop()
				res := o.summary()
				if len(res.Components) != 1 || !res.Components[0].Succeeded {
					t.Fatalf("components %+v", res.Components)
				}
				list = append(list, made{res.ID, from, to})
			}
			for _, b := range list {
				m.must("restore", b.id)
				if n := len(k.servers()); n != 1 {
					t.Fatalf("%d servers have the data open after the restore", n)
				}
				k.between(b.from, b.to)
				if left, _ := filepath.Glob(filepath.Join(k.Dir, ".sombra-before-restore")); len(left) > 0 {
					t.Errorf("left after the restore: %v", left)
				}
				for range 20 {
					k.put()
				}
			}
			k.end()
			// The data of a server that does not run, named in the configuration.
			m.configure(fmt.Sprintf("writers:\n  - kind: etcd\n    config: {directory: %s}\n", k.Dir))
			o := m.must("backup", "--json", v.Root).summary()
			if err := os.RemoveAll(filepath.Join(k.Dir, "member")); err != nil {
				t.Fatal(err)
			}
			n := k.n
			m.must("restore", "--restore-option", `"cluster"="new"`, o.ID)
			if pids := k.servers(); len(pids) > 0 {
				t.Errorf("processes %v have the data of a server that did not run", pids)
			}
			if err := errors.Join(k.Kill(), k.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
			if got := k.count(); got != n {
				t.Errorf("it has %d numbers, want %d", got, n)
			}
		})
	}
}

// TestOneOfSeveralEtcdMembers: what one member of three had is not put back into
// their cluster, but made a cluster of its own where that is asked for.
func TestOneOfSeveralEtcdMembers(t *testing.T) {
	m := newMachine(t)
	dir, err := dbtest.Scratch("/var/tmp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	names := []string{"a", "b", "c"}
	var all []*keys
	for _, name := range names {
		all = append(all, newKeys(t, dbtest.EtcdOptions{Dir: filepath.Join(dir, name), Home: filepath.Join(dir, "home"), Name: name, Cluster: names}))
	}
	k := all[0]
	if err := k.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		k.put()
	}
	o := m.must("backup", "--json", k.Dir)
	id := o.summary().ID
	k.put()
	refused := m.sombra("restore", id)
	if refused.code == 0 || !strings.Contains(refused.out+refused.err, "one of 3 members") {
		t.Fatalf("exit code %d: %s%s", refused.code, refused.out, refused.err)
	}
	if got := k.count(); got != 51 {
		t.Errorf("after the refusal the cluster has %d numbers, want 51", got)
	}
	for _, other := range all[1:] {
		if err := other.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	m.must("restore", "--restore-option", `"cluster"="new"`, id)
	if got := k.count(); got != 50 {
		log, _ := os.ReadFile(filepath.Join(k.Dir, ".sombra-etcd.log"))
		t.Logf("%s", log)
		t.Errorf("the new cluster has %d numbers, want 50", got)
	}
	out, err := k.Etcdctl(t.Context(), "member", "list")
	if err != nil || strings.Count(strings.TrimSpace(out), "\n") != 0 {
		t.Errorf("its members are %s, %v", out, err)
	}
}
