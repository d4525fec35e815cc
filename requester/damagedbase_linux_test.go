//go:build linux

package requester_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
)

// useRepository gives the world the repository in a store, made anew if the store is empty.
func (w *world) useRepository(st store.Store, o repository.Options) {
	w.t.Helper()
	o.KDF, o.TempDir = repository.KDF{Time: 1, Memory: 64, Threads: 1}, w.t.TempDir()
	repo, err := repository.Open(w.t.Context(), st, []byte("secret"), o)
	if err != nil {
		repo, err = repository.Create(w.t.Context(), st, []byte("secret"), o)
	}
	w.must(err)
	w.t.Cleanup(func() { repo.Close() })
	w.repo = repo
}

// TestADamagedBaseLosesNothing: whichever pack of the base's file table is
// damaged or gone, the next backup has every entry as a backup that reads
// everything has it, of files that changed as of those that did not.
func TestADamagedBaseLosesNothing(t *testing.T) {
	w := newWorld(t)
	const files = 3000
	for i := range files {
		var name [80]byte // that does not compress
		rand.Read(name[:])
		w.write(fmt.Sprintf("d%02d/%04d-%s", i%7, i, hex.EncodeToString(name[:])), fmt.Sprintf("file %d", i))
	}
	time.Sleep(young)
	st := mem.New()
	o := repository.Options{PackSize: 1}
	w.useRepository(st, o)
	first := w.backup(w.paths())
	var packs []string
	w.must(st.List(t.Context(), "meta/", func(i store.Info) error {
		packs = append(packs, i.Name)
		return nil
	}))
	if len(packs) < 3 {
		t.Fatalf("the file table is in %d packs: too few to tell", len(packs))
	}
	for i := 0; i < files; i += 97 { // same size, same modification time
		found, err := filepath.Glob(w.path(fmt.Sprintf("d%02d/%04d-*", i%7, i)))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		rel := strings.TrimPrefix(found[0], w.dir+"/")
		was := w.lstat(rel)
		w.must(os.WriteFile(found[0], []byte(strings.Repeat("X", int(was.Size))), 0o644))
		w.touchLike(rel, was)
	}
	w.useRepository(st.Copy(), o)
	r := w.paths()
	r.Reread = true
	want := w.entries(w.backup(r).Record)
	reread := 0
	for i, pack := range packs {
		harmed := st.Copy()
		info, err := harmed.Stat(t.Context(), pack)
		w.must(err)
		data := make([]byte, info.Size)
		if _, err := harmed.ReadAt(t.Context(), pack, data, 0); err != nil {
			t.Fatal(err)
		}
		w.must(harmed.Delete(t.Context(), pack))
		if i%2 == 0 {
			data[len(data)/2] ^= 1
			w.must(harmed.Put(t.Context(), pack, data))
		}
		w.useRepository(harmed, o)
		res := w.backup(w.paths())
		if res.Outcome != requester.Complete || res.Totals.Files != first.Totals.Files {
			t.Errorf("pack %d: %v, %d files of %d", i, res.Outcome, res.Totals.Files, first.Totals.Files)
		}
		if res.Totals.Unchanged < res.Totals.Files-files/97-1 {
			reread++
			if !strings.Contains(strings.Join(res.Warnings, "\n"), "file list cannot be read") {
				t.Errorf("pack %d: files are read again and it is not said why: %q", i, res.Warnings)
			}
		}
		diffTrees(t, w.entries(res.Record), want)
	}
	if reread == 0 {
		t.Error("no damage had files read again")
	}
}

// TestALargeFileThatChangedComesBack: of files large enough for block prints that
// changed in place, grew, shrank, were cut and written anew, or became sparse
// between two backups, the next record has the bytes they had.
func TestALargeFileThatChangedComesBack(t *testing.T) {
	w := newWorld(t)
	state := filepath.Join(t.TempDir(), "state")
	w.must(os.Mkdir(state, 0o700))
	w.useRepository(mem.New(), repository.Options{StateDir: state})
	const size = repository.LargeFile + 12345
	src := mrand.NewChaCha8([32]byte{7})
	data := make([]byte, size)
	src.Read(data)
	w.must(os.WriteFile(w.path("disk"), data, 0o600))
	w.backup(w.paths())
	if list, err := os.ReadDir(filepath.Join(state, "blocks")); err != nil || len(list) != 1 {
		t.Fatalf("block prints: %v, %v", list, err)
	}
	f, err := os.OpenFile(w.path("disk"), os.O_RDWR, 0)
	w.must(err)
	defer func() { f.Close() }()
	for _, step := range []struct {
		name   string
		change func() error
		most   int64 // is to be stored
	}{
		{"in place", func() error {
			for _, at := range []int64{0, 8191, 8192, 20<<20 + 5, size - 1} {
				if _, err := f.WriteAt([]byte{data[at] + 1}, at); err != nil {
					return err
				}
			}
			return nil
		}, 1 << 20},
		{"grown", func() error { _, err := f.WriteAt(data[:300_000], size); return err }, 1 << 20},
		{"cut", func() error { return f.Truncate(size - 4321) }, 1 << 20},
		{"back to what it was", func() error { _, err := f.WriteAt(data, 0); return err }, 1 << 20},
		{"sparse", func() error {
			if err := f.Truncate(10 << 20); err != nil {
				return err
			}
			return f.Truncate(size)
		}, 5 << 20}, // the chunk that was cut, of up to 4 MiB
	} {
		w.must(step.change())
		want, err := os.ReadFile(w.path("disk"))
		w.must(err)
		res := w.backup(w.paths())
		if added := res.Record.Totals.BytesAdded; added > step.most {
			t.Errorf("%s: %d bytes were added", step.name, added)
		}
		w.must(f.Close())
		w.must(os.Remove(w.path("disk")))
		back := w.restore(res.Record, requester.RestoreRequest{})
		if back.Outcome != requester.Complete {
			t.Fatalf("%s: %v %+v", step.name, back.Outcome, back.Failures)
		}
		got, err := os.ReadFile(w.path("disk"))
		w.must(err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came back that are not the %d of the file", step.name, len(got), len(want))
		}
		f, err = os.OpenFile(w.path("disk"), os.O_RDWR, 0)
		w.must(err)
	}
}
