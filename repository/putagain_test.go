package repository

import (
	"bytes"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// openWithState opens the repository as a machine that keeps block prints.
func openWithState(t testing.TB, st store.Store, dir string) *Repository {
	t.Helper()
	o := testOptions()
	o.StateDir, o.LargeFile = dir, 128<<10
	r, err := Open(t.Context(), st, testPassword, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// storeAgain stores a version of a file and gives the bytes that were added.
func storeAgain(t testing.TB, r *Repository, base Content, data []byte) (Content, int64) {
	t.Helper()
	b := begin(t, r, nil)
	c, err := b.PutAgain(t.Context(), base, source(data))
	if err != nil {
		t.Fatal(err)
	}
	added := b.addedBytes.Load()
	commit(t, b, testInfo())
	if got := readContent(t, r, c); !bytes.Equal(got, data) {
		t.Fatal("what was stored differs from the file")
	}
	return c, added
}

// TestChangedBlocksAreFound: version after version with every kind of change, some
// of them with the prints lost or spoilt, comes out right, and where blocks
// changed in place little is stored.
func TestChangedBlocksAreFound(t *testing.T) {
	st := mem.New()
	newTestRepository(t, st)
	state := filepath.Join(t.TempDir(), "state")
	dir := filepath.Join(state, "blocks")
	r := openWithState(t, st, state)
	rng := rand.New(rand.NewPCG(3, 3))
	const listRoom = 40 << 10 // for the extent list
	data := randomData(700_000, 1)
	b := begin(t, r, nil)
	content := putFile(t, b, data)
	commit(t, b, testInfo())
	for version := range 60 {
		old := data
		data = bytes.Clone(data)
		little := int64(len(data)) * 2 // what may be stored
		switch version % 6 {
		case 0: // a few places
			for range 5 {
				data[rng.IntN(len(data))]++
			}
			little = 5*2*minBlock + listRoom
		case 1: // the end
			data = append(data, randomData(rng.IntN(60_000), uint64(version))...)
			little = int64(len(data)-len(old)) + minBlock + listRoom
		case 2:
			data = data[:len(data)-rng.IntN(60_000)]
			little = minBlock + listRoom
		case 3: // an insertion moves everything
			at := rng.IntN(len(data))
			data = append(append(bytes.Clone(data[:at]), 7), data[at:]...)
		case 4: // nothing
			little = 0
		case 5: // all
			data = randomData(len(data), uint64(version)+100)
		}
		if version > 30 {
			spoil(t, dir, version)
			little = int64(len(data)) * 2
		}
		if version%7 == 0 {
			r = openWithState(t, st, state)
		}
		var added int64
		content, added = storeAgain(t, r, content, data)
		if added > little {
			t.Errorf("version %d: %d bytes were stored, expected at most %d", version, added, little)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 12 {
		t.Errorf("%d files are kept, %v", len(list), err)
	}
}

// spoil harms the prints, in a way that the number chooses.
func spoil(t testing.TB, dir string, how int) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch how % 4 {
		case 0:
			b = b[:len(b)/2]
		case 1:
			b[how*31%len(b)] ^= 4
		case 2:
			clear(b[printHeader+len(b)/3:])
		case 3:
			err = os.Remove(path)
			b = nil
		}
		if b != nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// turncoat is a file of which one block reads differently from the second time
// on: it is written to while it is read.
type turncoat struct {
	mu    sync.Mutex
	first []byte
	then  []byte
	block int
	reads int
}

func (f *turncoat) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data := f.first
	if at := int64(f.block) * minBlock; off < at+minBlock && off+int64(len(p)) > at {
		if f.reads++; f.reads > 1 {
			data = f.then
		}
	}
	return bytes.NewReader(data).ReadAt(p, off)
}

// TestPrintsAreOfWhatWasStored: if a file changes between being compared and
// being stored, what is known of it is what was stored, not what was seen before.
func TestPrintsAreOfWhatWasStored(t *testing.T) {
	st := mem.New()
	newTestRepository(t, st)
	r := openWithState(t, st, t.TempDir())
	const block = 9
	data := randomData(300_000, 1)
	b := begin(t, r, nil)
	content := putFile(t, b, data)
	commit(t, b, testInfo())

	seen, then := bytes.Clone(data), bytes.Clone(data)
	copy(seen[block*minBlock:], "as it is when it is compared")
	copy(then[block*minBlock:], "as it is when it is stored")
	b = begin(t, r, nil)
	content, err := b.PutAgain(t.Context(), content, Source{At: &turncoat{first: seen, then: then, block: block}, Size: int64(len(data))})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, b, testInfo())
	if got := readContent(t, r, content); !bytes.Equal(got, then) {
		t.Fatal("what was stored is not what was read last")
	}
	// It goes back to what was seen and never stored.
	storeAgain(t, r, content, seen)
}

// TestPartlyReadBlocksAreNotTrusted: a block of which only a part was read the second time is
// looked at again next time.
func TestPartlyReadBlocksAreNotTrusted(t *testing.T) {
	r := newTestRepository(t, mem.New())
	r.options.StateDir = t.TempDir()
	data := randomData(5*minBlock+100, 1)
	p := r.newPrints(source(data), minBlock)
	buf := make([]byte, len(data))
	for _, part := range []Range{{0, minBlock}, {minBlock + 5, minBlock}, {3 * minBlock, minBlock - 1}, {4 * minBlock, minBlock + 100}} {
		if n, err := p.ReadAt(buf[:part.Length], part.Offset); int64(n) != part.Length || err != nil && err != io.EOF {
			t.Fatal(n, err)
		}
	}
	b := begin(t, r, nil)
	c := putFile(t, b, data)
	p.keep(c)
	old := r.openPrints(c)
	if old == nil {
		t.Fatal("the prints were not kept")
	}
	defer old.file.Close()
	prints := make([]blockPrint, 6)
	if err := old.read(prints, 0, make([]byte, 6*printSize)); err != nil {
		t.Fatal(err)
	}
	hash := newHasher(r.keys.prints)
	for i, known := range []bool{true, false, false, false, true, true} {
		want := r.keys.print(hash, data[i*minBlock:min((i+1)*minBlock, len(data))])
		if known != (prints[i] == want) || !known && prints[i] != (blockPrint{}) {
			t.Errorf("block %d: print %s, whole %v", i, hex.EncodeToString(prints[i][:]), known)
		}
	}
}

// TestPrintsGoWhenTheyAreOfNoMoreUse: those of a base go when the record with
// the next version is committed, not before, and those nobody used for long.
func TestPrintsGoWhenTheyAreOfNoMoreUse(t *testing.T) {
	st := mem.New()
	newTestRepository(t, st)
	state := t.TempDir()
	dir := filepath.Join(state, "blocks")
	r := openWithState(t, st, state)
	kept := func() int {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	data := randomData(300_000, 1)
	b := begin(t, r, nil)
	content := putFile(t, b, data)
	commit(t, b, testInfo())
	data[77]++
	b = begin(t, r, nil)
	if _, err := b.PutAgain(t.Context(), content, source(data)); err != nil {
		t.Fatal(err)
	}
	if err := b.Abort(); err != nil || kept() != 2 {
		t.Errorf("after an aborted backup there are %d files, %v", kept(), err)
	}
	storeAgain(t, r, content, data)
	if kept() != 1 {
		t.Errorf("after the next backup there are %d files", kept())
	}
	list, _ := os.ReadDir(dir)
	path := filepath.Join(dir, list[0].Name())
	long := time.Now().Add(-2 * printAge)
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
	begin(t, r, nil)
	if kept() != 0 {
		t.Error("prints that nobody used for long are still there")
	}
}
