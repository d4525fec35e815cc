package repository

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// cutBy gives the chunks that one of the two ways cuts the data into.
func cutBy(t *testing.T, data []byte, each func(*Backup, context.Context, objectKind, *chunker, func(chunkRef) error) error) (refs []chunkRef) {
	t.Helper()
	r := newTestRepository(t, mem.New())
	r.keys.gear, r.keys.dataID = [256]uint64{}, secret{}
	for i := range r.keys.gear {
		r.keys.gear[i] = uint64(i+1) * 0x9e3779b97f4a7c15
	}
	r.keys.dataHash.New = func() any { return newHasher(r.keys.dataID) }
	b := begin(t, r, nil)
	c := newChunker(&r.keys.gear, r.chunking, make([]byte, 3*r.chunking.Max), bytes.NewReader(data).Read)
	err := each(b, t.Context(), kindDataPack, c, func(ref chunkRef) error {
		refs = append(refs, ref)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

// TestCuttingAheadGivesTheSameChunks: in the same order, with the same names.
func TestCuttingAheadGivesTheSameChunks(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 8192, 500_000} {
		data := randomData(n, uint64(n))
		want := cutBy(t, data, (*Backup).eachInTurn)
		got := cutBy(t, data, (*Backup).eachAhead)
		if !slices.Equal(got, want) {
			t.Errorf("%d bytes: %d chunks, want these %d", n, len(got), len(want))
		}
		if n == 500_000 && len(want) < 100 {
			t.Errorf("%d bytes were cut into %d chunks only", n, len(want))
		}
	}
}

// TestALargeFileIsStoredWhole: one that takes the long way, through the defaults' sizes.
func TestALargeFileIsStoredWhole(t *testing.T) {
	o := testOptions()
	o.Chunking, o.PackSize = Chunking{}, 4<<20
	r, err := Create(t.Context(), mem.New(), testPassword, o)
	if err != nil {
		t.Fatal(err)
	}
	data := slices.Concat(randomData(aheadSize, 1), make([]byte, 9<<20), randomData(300_000, 2))
	b := begin(t, r, nil)
	c := putFile(t, b, data)
	commit(t, b, testInfo())
	if got := readContent(t, r, c); !bytes.Equal(got, data) {
		t.Error("what was stored differs")
	}
}

// TestCuttingAheadEndsWithItsError: whoever fails, the error is given, and when
// it is, nothing reads or stores any more.
func TestCuttingAheadEndsWithItsError(t *testing.T) {
	r := newTestRepository(t, mem.New())
	broken := errors.New("broken")
	b := begin(t, r, nil)
	before := runtime.NumGoroutine()
	data := randomData(300_000, 1)
	for name, fail := range map[string]func(cancel context.CancelFunc) (io.Reader, func(chunkRef) error){
		"the source": func(context.CancelFunc) (io.Reader, func(chunkRef) error) {
			return io.MultiReader(bytes.NewReader(data), errorReader{broken}), func(chunkRef) error { return nil }
		},
		"who takes the chunks": func(context.CancelFunc) (io.Reader, func(chunkRef) error) {
			n := 0
			return bytes.NewReader(data), func(chunkRef) error {
				if n++; n == 5 {
					return broken
				}
				return nil
			}
		},
		"the context": func(cancel context.CancelFunc) (io.Reader, func(chunkRef) error) {
			return bytes.NewReader(data), func(chunkRef) error { cancel(); return nil }
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		src, f := fail(cancel)
		c := newChunker(&r.keys.gear, r.chunking, make([]byte, 3*r.chunking.Max), src.Read)
		err := b.eachAhead(ctx, kindDataPack, c, f)
		if !errors.Is(err, broken) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s fails: %v", name, err)
		}
		cancel()
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }
