package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// TestAFullDiskIsSaidAndTheNextBackupTakesUp: the medium fills up in the middle
// of a backup. The command says what is full and ends with exit code 1, earlier
// backups are whole, nothing half-written stays, and when there is room again
// the next backup does not store again what was stored.
func TestAFullDiskIsSaidAndTheNextBackupTakesUp(t *testing.T) {
	types := fileSystems
	if os.Getenv("SOMBRA_TORTURE") == "" {
		types = []string{"ext4", "xfs"}
	}
	for _, fstype := range types {
		t.Run(fstype, func(t *testing.T) { fillUp(t, fstype) })
	}
}

func fillUp(t *testing.T, fstype string) {
	voltest.Need(t, fstype)
	v := voltest.Make(t, fstype, 512<<20)
	m := cheaply(t, filepath.Join(v.Root, "repository"))
	src := newSource(t, scratch(t), 31)
	first, want := m.must("backup", "--json", src.dir).reported(), src.kept()

	// Room for about 60 MiB, and 90 to store.
	ballast := filepath.Join(v.Root, "ballast")
	fillTo(t, v.Root, ballast, 60<<20)
	for _, name := range []string{"one", "two", "three"} {
		src.file(name, 30<<20)
	}
	for range 2 { // the second begins on a disk that is all but full
		o := m.sombra("backup", "--json", src.dir).exits(1).says("the storage is full", "no space left on device", m.repo, "make room there", "takes up what this one has stored")
		if o.reported() != "" {
			t.Errorf("a backup that did not fit has reported record %s", o.reported())
		}
		if strings.Contains(o.err, "panic") {
			t.Error(o.err)
		}
		if rest := remains(t, m.repo); len(rest) > 0 {
			t.Errorf("half-written files: %v", rest)
		}
		r, done := look(t, m.repo)
		if err := r.shows(first, want); err != nil {
			t.Error(err)
		}
		if err := r.whole(true); err != nil {
			t.Error(err)
		}
		if ids := r.ids(); len(ids) != 1 {
			t.Errorf("%d records", len(ids))
		}
		done()
	}
	m.must("check")
	var there int64
	for _, size := range packFiles(t, m.repo) {
		there += size
	}
	if there < 20<<20 {
		t.Errorf("before the disk was full only %d bytes were stored", there)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	id := m.must("backup", "--json", src.dir).reported()
	r, done := look(t, m.repo)
	defer done()
	if err := r.shows(id, src.kept()); err != nil {
		t.Error(err)
	}
	added := r.totals(id).BytesAdded
	if limit := src.news() - there*98/100 + 1<<20; added > limit {
		t.Errorf("the next backup stored %d bytes, of which at most %d were not there", added, limit)
	}
	m.must("check", "--read-data")
	t.Logf("%s: full after %d MiB of 90; the next backup stored %d MiB", fstype, there>>20, added>>20)
}

// fillTo makes a file so large that only so many bytes are free.
func fillTo(t *testing.T, dir, name string, free int64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, freeBytes(t, dir)-free); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func freeBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}
