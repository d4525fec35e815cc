package repository

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store/local"
)

// The index of the test: as backups write it, of packs of 16 MiB that hold 32
// chunks each.
const (
	testPackChunks = 32
	testIndexPacks = batchPacks
	testIndexLines = testPackChunks * testIndexPacks
)

// testChunkID is the id of a chunk of the test's index.
func testChunkID(n int) (id ID) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	return hashObject(b[:])
}

// makeIndex writes index objects of that many chunks into the folder of a store.
func makeIndex(t *testing.T, r *Repository, dir string, chunks int) (objects int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "index"), 0o700); err != nil {
		t.Fatal(err)
	}
	for first := 0; first < chunks; first += testIndexLines {
		batch := &indexBatch{}
		for p := range testIndexPacks {
			var frames []packedFrame
			offset := uint32(headerSize)
			for c := range testPackChunks {
				frames = append(frames, packedFrame{offset, 500_000, []packedChunk{{testChunkID(first + p*testPackChunks + c), 1 << 20}}})
				offset += 500_000
			}
			batch.add(kindDataPack, testChunkID(-first-p-1), 17<<20, frames)
		}
		object := batch.encode(r.keys, nil)
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(indexName(hashObject(object)))), object, 0o600); err != nil {
			t.Fatal(err)
		}
		objects++
	}
	return objects
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
	begun := time.Now()
	r, err := Open(ctx, st, testPassword, testOptions())
	if err != nil {
		return err
	}
	if err := r.index.refresh(ctx); err != nil {
		return err
	}
	opened := time.Since(begun)
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
			tell("peak", strings.Fields(peak)[0], opened.Round(time.Millisecond), looked/lookups)
		}
	}
	return nil
}

// TestTheIndexOfManyChunksTakesLittleMemory: ten million chunks, or a tenth of
// that, in a process of its own: opening and looking up stay under what a whole
// backup may take.
func TestTheIndexOfManyChunksTakesLittleMemory(t *testing.T) {
	chunks, limit := 1_000_000, 90<<10
	if os.Getenv("SOMBRA_TORTURE") == "1" {
		chunks, limit = 10_000_000, 250<<10
	}
	dir := t.TempDir()
	st, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := newTestRepository(t, st)
	objects := makeIndex(t, r, dir, chunks)
	cmd := exec.Command(os.Args[0], dir, strconv.Itoa(chunks))
	cmd.Env = append(os.Environ(), roleVariable+"=index")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var peak int
	var opened, lookup string
	s := bufio.NewScanner(strings.NewReader(string(out)))
	for s.Scan() {
		fmt.Sscanf(s.Text(), "peak %d %s %s", &peak, &opened, &lookup)
	}
	t.Logf("%d chunks in %d packs and %d index objects: peak memory %d KiB, opened in %s, %s a look-up", chunks, objects*testIndexPacks, objects, peak, opened, lookup)
	if peak == 0 || peak > limit {
		t.Errorf("peak memory %d KiB, expected at most %d", peak, limit)
	}
}
