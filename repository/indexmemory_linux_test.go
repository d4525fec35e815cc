package repository

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/local"
)

// The index of the test: of packs of 16 MiB that hold 32 chunks each.
const (
	testPackChunks = 32
	testPackSize   = 17 << 20
)

// testChunkID is the id of a chunk of the test's index.
func testChunkID(n int) (id ID) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	return hashObject(b[:])
}

// testPackID is the id of a pack of the test's index.
func testPackID(n int) ID { return testChunkID(-n - 1) }

// makeIndex writes index objects of that many chunks into the folder of a store,
// each of packs packs.
func makeIndex(t *testing.T, r *Repository, dir string, chunks, packs int) (objects int, size int64) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "index"), 0o700); err != nil {
		t.Fatal(err)
	}
	for first := 0; first < chunks; first += testPackChunks * packs {
		batch := &indexBatch{}
		for p := range packs {
			pack := first/testPackChunks + p
			var frames []packedFrame
			offset := uint32(headerSize)
			for c := range testPackChunks {
				frames = append(frames, packedFrame{offset, 500_000, []packedChunk{{testChunkID(pack*testPackChunks + c), 1 << 20}}})
				offset += 500_000
			}
			batch.add(kindDataPack, testPackID(pack), testPackSize, frames)
		}
		object := batch.encode(r.keys, nil)
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(indexName(hashObject(object)))), object, 0o600); err != nil {
			t.Fatal(err)
		}
		objects++
		size += int64(len(object))
	}
	return objects, size
}

// packListing is a store in whose listing the packs of the test's index stand.
type packListing struct {
	store.Store
	packs int
}

func (s packListing) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	if prefix != prefixData {
		return s.Store.List(ctx, prefix, f)
	}
	for n := range s.packs {
		if err := f(store.Info{Name: packName(kindDataPack, testPackID(n)), Size: testPackSize}); err != nil {
			return err
		}
	}
	return nil
}

// indexProcess opens a repository, reads its index, and looks chunks up: every
// second one is there.
func indexProcess(ctx context.Context, dir string, args []string) error {
	debug.SetGCPercent(30) // as the program itself
	chunks, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	st, err := local.Open(dir)
	if err != nil {
		return err
	}
	r, err := Open(ctx, packListing{st, (chunks + testPackChunks - 1) / testPackChunks}, testPassword, testOptions())
	if err != nil {
		return err
	}
	before := liveMemory()
	begun := time.Now()
	// As a backup begins.
	if err := r.index.refresh(ctx); err != nil {
		return err
	}
	if err := r.index.compare(ctx); err != nil {
		return err
	}
	opened := time.Since(begun)
	costs := liveMemory() - before
	begun = time.Now()
	const lookups = 40_000
	for i := range lookups {
		n := i / 2 * 7919 % chunks
		if i%2 == 1 {
			n = -1_000_000_000 - i
		}
		loc, ok, err := r.index.holds(ctx, testChunkID(n))
		if err != nil || ok != (i%2 == 0) || ok && loc.length != 1<<20 {
			return fmt.Errorf("chunk %d: %d bytes, stored %v, %v", n, loc.length, ok, err)
		}
	}
	looked := time.Since(begun)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if peak, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			tell("peak", strings.Fields(peak)[0], opened.Round(time.Millisecond), looked/lookups, costs)
		}
	}
	return nil
}

// liveMemory is how much of the heap is in use.
func liveMemory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Ten million chunks, or a tenth of that, in a process of its own: opening and
// looking up stay under what a whole backup may take, be the index as backups
// leave it or as prune does.
func TestTheIndexOfManyChunksTakesLittleMemory(t *testing.T) {
	chunks, limits := 1_000_000, [2]int{88 << 10, 80 << 10}
	if os.Getenv("SOMBRA_TORTURE") == "1" {
		chunks, limits = 10_000_000, [2]int{210 << 10, 150 << 10}
	}
	for i, packs := range []int{batchPacks, fullIndex / testPackChunks} {
		dir := t.TempDir()
		st, err := local.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		r := newTestRepository(t, st)
		objects, size := makeIndex(t, r, dir, chunks, packs)
		cmd := exec.Command(os.Args[0], dir, strconv.Itoa(chunks))
		cmd.Env = append(os.Environ(), roleVariable+"=index")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var peak, costs int
		var opened, lookup string
		s := bufio.NewScanner(strings.NewReader(string(out)))
		for s.Scan() {
			fmt.Sscanf(s.Text(), "peak %d %s %s %d", &peak, &opened, &lookup, &costs)
		}
		t.Logf("%d chunks in %d packs and %d index objects: %.1f bytes a chunk in the store, %.1f in memory; peak memory %d KiB, opened in %s, %s a look-up",
			chunks, objects*packs, objects, float64(size)/float64(chunks), float64(costs)/float64(chunks), peak, opened, lookup)
		if peak == 0 || peak > limits[i] {
			t.Errorf("peak memory %d KiB, expected at most %d", peak, limits[i])
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}
