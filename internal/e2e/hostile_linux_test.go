package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// bounded checks what no medium may cost whoever reads it.
func (o *outcome) bounded() *outcome {
	o.t.Helper()
	if rss := o.usage.Maxrss >> 10; rss > 512 {
		o.t.Errorf("sombra %s: it took %d MiB of memory", strings.Join(o.args, " "), rss)
	}
	if o.took > 30*time.Second {
		o.t.Errorf("sombra %s: it took %v", strings.Join(o.args, " "), o.took)
	}
	return o
}

// hostileRecords adds records to the repository that only one who has its keys,
// and means harm, could make. The package that has the means makes them. It
// gives their names by their ids.
func (m *machine) hostileRecords(below, canary string) map[string]string {
	m.t.Helper()
	list := filepath.Join(m.dir, "hostile")
	cmd := exec.Command("go", "test", "-count=1", "-run", "^TestHostileRecordsAreRefused$", "github.com/sombra-backup/sombra/repository")
	cmd.Env = append(os.Environ(), "SOMBRA_HOSTILE_REPOSITORY="+m.repo, "SOMBRA_HOSTILE_PASSWORD=e2e", "SOMBRA_HOSTILE_LIST="+list,
		"SOMBRA_HOSTILE_BELOW="+strings.TrimPrefix(below, "/"), "SOMBRA_HOSTILE_CANARY="+strings.TrimPrefix(canary, "/"))
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("make hostile records: %v\n%s", err, out)
	}
	data, err := os.ReadFile(list)
	if err != nil {
		m.t.Fatal(err)
	}
	names := map[string]string{}
	for line := range strings.Lines(string(data)) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		names[id] = name
	}
	if len(names) < 10 {
		m.t.Fatalf("only %d hostile records", len(names))
	}
	return names
}

// TestHostileRecordChangesNothingOutside: a record made to write outside its
// target, or to cost whoever reads it without bound, is refused by every command
// with an error that names it or the file, within bounded memory and time, and
// nothing outside the target changes, whether it is extracted or restored in
// place.
func TestHostileRecordChangesNothingOutside(t *testing.T) {
	v := voltest.Ext4(t, 0)
	m := newMachine(t)
	target, canary := filepath.Join(v.Root, "target"), filepath.Join(v.Root, "canary")
	write(t, filepath.Join(target, "file"), "the user's")
	makeTree(t, canary)
	write(t, filepath.Join(canary, "existing"), "not to be touched")
	m.must("backup", target)
	records := m.hostileRecords(target, canary)
	want := treeOf(t, canary, true)
	beside := names(t, v.Root)
	var refused []string
	for _, id := range slices.Sorted(maps.Keys(records)) {
		allowed := strings.HasPrefix(records[id], "allowed")
		if !allowed {
			refused = append(refused, id)
		}
		t.Run(records[id], func(t *testing.T) {
			m := *m
			m.t = t
			for _, args := range [][]string{{"restore", id}, {"extract", id, filepath.Join(scratch(t), "extract")}, {"ls", "-l", id}} {
				if args[0] == "ls" && os.Getenv("SOMBRA_TORTURE") == "" {
					continue // it reads the table as check does, which is looked at below
				}
				o := m.sombra(args...).bounded()
				if !allowed {
					o.exits(1, 3)
				}
				if o.code != 0 && !strings.Contains(o.out+o.err, id[:8]) && !strings.Contains(o.out+o.err, filepath.Base(target)+"/") {
					t.Errorf("%s: the error names neither record nor file:\n%s\n%s", args[0], o.out, o.err)
				}
				t.Logf("%s: exit code %d, %d MiB, %v: %s", args[0], o.code, o.usage.Maxrss>>10, o.took.Round(time.Millisecond), strings.TrimSpace(o.err))
			}
			same(t, "canary", treeOf(t, canary, true), want)
			if now := names(t, v.Root); !slices.Equal(now, beside) {
				t.Errorf("beside the target there are %v, and were %v", now, beside)
			}
		})
	}
	o := m.sombra("check", "--read-data").bounded().exits(1)
	for _, id := range refused {
		if !strings.Contains(o.out+o.err, id[:8]) {
			t.Errorf("check does not name the record %q (%s)", records[id], id[:8])
		}
	}
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".sombra" {
			list = append(list, e.Name())
		}
	}
	return list
}

// TestDamagedRepositoryIsFoundAndNeverRestoredWrong: a flipped bit or a cut end
// in any object is found and named by check, and what a restore writes is right
// or not written.
func TestDamagedRepositoryIsFoundAndNeverRestoredWrong(t *testing.T) {
	m := newMachine(t)
	dir := filepath.Join(scratch(t), "data")
	for i := range 20 {
		write(t, filepath.Join(dir, fmt.Sprint(i%4), fmt.Sprintf("file-%d", i)), strings.Repeat(fmt.Sprintf("content of %d. ", i), 1+i*i*100))
	}
	m.must("backup", dir)
	write(t, filepath.Join(dir, "new"), "since then")
	m.must("backup", dir)
	want := treeOf(t, dir, false)
	objects := m.objects()
	if len(objects) < 8 {
		t.Fatalf("only %d objects", len(objects))
	}
	random := rand.New(rand.NewPCG(1, 2))
	n := rounds(120)
	for i := range n {
		object := objects[i%len(objects)]
		damage(t, filepath.Join(m.repo, object), i%5 == 4, random, func(what string) {
			o := m.sombra("check", "--read-data").bounded()
			if o.code == 0 || !strings.Contains(o.out+o.err, filepath.Base(object)) && !strings.HasPrefix(object, "keys/") {
				t.Errorf("%s: check ends with %d and says\n%s\n%s", what, o.code, o.out, o.err)
			}
			to := filepath.Join(m.dir, "extract")
			o = m.sombra("extract", "latest", to).bounded()
			came := map[string]string{}
			if _, err := os.Stat(filepath.Join(to, dir)); err == nil {
				came = treeOf(t, filepath.Join(to, dir), false)
			}
			wrong := 0
			for name, line := range came {
				if old, ok := want[name]; !ok || old != line && !strings.HasPrefix(line, "mode 40") {
					t.Errorf("%s: %q was written wrong: %s, want %s", what, name, line, want[name])
					wrong++
				}
			}
			if o.code == 0 && len(came) != len(want) && !strings.HasPrefix(object, "records/") {
				t.Errorf("%s: extract ends well with %d of %d files", what, len(came), len(want))
			}
			if err := os.RemoveAll(to); err != nil {
				t.Fatal(err)
			}
		})
	}
	m.must("check", "--read-data")
	t.Logf("%d damages in %d objects, all found", n, len(objects))
}

// objects lists the repository's objects.
func (m *machine) objects() (list []string) {
	m.t.Helper()
	err := filepath.WalkDir(m.repo, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(m.repo, p)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return list
}

// damage damages a file while fn runs.
func damage(t *testing.T, name string, cut bool, random *rand.Rand, fn func(what string)) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := random.IntN(len(data))
	bad, what := slices.Clone(data), fmt.Sprintf("a bit of byte %d of %s is flipped", at, name)
	if cut {
		bad, what = bad[:at], fmt.Sprintf("%s ends at %d", name, at)
	} else {
		bad[at] ^= 1 << random.IntN(8)
	}
	replace := func(data []byte) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(bad)
	fn(what)
	replace(data)
}
