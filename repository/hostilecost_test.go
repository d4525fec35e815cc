package repository

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// What a medium can cost whoever opens it, in time and memory.

// allocated gives the bytes f allocated, whatever became of them.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// addSlot puts a key slot with the header, whose box opens with no password.
func addSlot(t *testing.T, st store.Store, k *keyring, kdf KDF) {
	t.Helper()
	cheap := KDF{Time: 1, Memory: 8, Threads: 1}
	object, err := encodeSlot(k, []byte("another"), cheap, false, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := decodeSlot(object)
	if err != nil {
		t.Fatal(err)
	}
	s.Time, s.Memory, s.Threads = kdf.Time, kdf.Memory, kdf.Threads
	header := format.marshal(s.slotHeader)
	forged := append([]byte(magic(kindSlot)), byte(len(header)), byte(len(header)>>8), 0, 0)
	forged = append(append(forged, header...), s.box...)
	if err := st.Put(t.Context(), slotName(hashObject(forged)), forged); err != nil {
		t.Fatal(err)
	}
}

// TestAddedKeySlotsHoldNobodyUp: anybody who can write to the medium can add
// slots that cost much to try. They come after those that cost little.
func TestAddedKeySlotsHoldNobodyUp(t *testing.T) {
	_, st, _ := smallRepository(t)
	r, err := Open(t.Context(), st, testPassword, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		addSlot(t, st, r.keys, KDF{Time: 4, Memory: 1 << 20, Threads: 1})
		addSlot(t, st, r.keys, KDF{Time: 32, Memory: 1 << 20, Threads: 1})
	}
	begun := time.Now()
	if _, err := Open(t.Context(), st, testPassword, testOptions()); err != nil {
		t.Errorf("open: %v", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestTooManyKeySlotsAreSaid: the right one may be among those not looked at.
func TestTooManyKeySlotsAreSaid(t *testing.T) {
	r, st, _ := smallRepository(t)
	for range maxSlots {
		addSlot(t, st, r.keys, KDF{Time: 1, Memory: 8, Threads: 1})
	}
	_, err := Open(t.Context(), st, []byte("no password of it"), testOptions())
	if !errors.Is(err, ErrWrongPassword) || !strings.Contains(err.Error(), "more than 256 key slots") {
		t.Errorf("open: %v", err)
	}
}

func TestKeySlotsThatCostTooMuchAreRefused(t *testing.T) {
	for _, kdf := range []KDF{{Time: 33, Memory: 8, Threads: 1}, {Time: 1, Memory: 1<<20 + 1, Threads: 1}, {Time: 5, Memory: 1 << 20, Threads: 1}, {Time: 1 << 31, Memory: 1 << 31, Threads: 1}} {
		if kdf.valid() {
			t.Errorf("%+v is allowed", kdf)
		}
	}
}

// TestLengthsAreBoundBeforeMemoryIsTaken: an index line, or a pack's trailer,
// may claim anything that fits the pack's claimed length.
func TestLengthsAreBoundBeforeMemoryIsTaken(t *testing.T) {
	r, st, _ := smallRepository(t)
	header, _, err := r.keys.sealObject(kindDataPack)
	if err != nil {
		t.Fatal(err)
	}
	trailer := append([]byte{0, 0, 0, 15}, magic(kindDataPack)...) // 240 MiB
	long := &longStore{Store: st, name: packName(kindDataPack, ID{1}), head: header, tail: trailer, size: maxPack}
	r.store, r.index.store = long, long
	p := knownPack{kind: kindDataPack, id: ID{1}, size: maxPack}
	var failed error
	for what, f := range map[string]func(){
		"frame": func() {
			_, failed = r.frame(t.Context(), location{pack: p, offset: headerSize, size: 200 << 20, length: 1})
		},
		"directory": func() { _, failed = r.directory(t.Context(), p) },
	} {
		if n := allocated(f); n > 64<<20 {
			t.Errorf("%s: %d MiB were allocated", what, n>>20)
		}
		if !errors.Is(failed, ErrDamaged) {
			t.Errorf("%s: %v", what, failed)
		}
	}
}

// longStore has one object of a size that is only claimed: zeros between head
// and tail.
type longStore struct {
	store.Store
	name       string
	head, tail []byte
	size       int64
}

func (s *longStore) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	if name != s.name {
		return s.Store.ReadAt(ctx, name, p, offset)
	}
	for i := range p {
		switch at := offset + int64(i); {
		case at < int64(len(s.head)):
			p[i] = s.head[at]
		case at >= s.size-int64(len(s.tail)):
			p[i] = s.tail[at-(s.size-int64(len(s.tail)))]
		default:
			p[i] = 0
		}
	}
	return len(p), nil
}

// TestAFileWithoutEndCanBeStopped: a small list that claims an enormous file,
// all of it in caches, must leave its reader able to stop.
func TestAFileWithoutEndCanBeStopped(t *testing.T) {
	r := newTestRepository(t, mem.New())
	chunk := storeBlocks(t, r, []byte("x"))[0]
	node := wireNode{IDs: chunk[:], Lengths: []uint32{1}, Extents: []uint64{1, 1, 0}}
	span := uint64(1)
	for level := uint(1); level <= 6; level++ {
		block := format.marshal(node)
		id := storeBlocks(t, r, block)[0]
		node = wireNode{Level: level}
		for range 1000 {
			node.IDs, node.Lengths, node.Spans = append(node.IDs, id[:]...), append(node.Lengths, uint32(len(block))), append(node.Spans, span)
		}
		span *= 1000
	}
	content, err := (&wireContent{Size: span, Top: node}).content()
	if err != nil {
		t.Fatal(err)
	}
	for what, read := range map[string]func(context.Context) error{
		"verify": func(ctx context.Context) error { return r.Verify(ctx, content) },
		"segments": func(ctx context.Context) error {
			f, err := r.OpenContent(ctx, content)
			if err != nil {
				return err
			}
			for _, err := range f.Segments(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- read(ctx) }()
		select {
		case err := <-done:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s goes on long after its context has ended", what)
		}
		cancel()
	}
}

// TestLongExtentListsAreNotKeptInMemory: blocks of a list may have 4 MiB, and a
// reader keeps only what is bounded.
func TestLongExtentListsAreNotKeptInMemory(t *testing.T) {
	r := newTestRepository(t, mem.New())
	chunk := storeBlocks(t, r, []byte("x"))[0]
	top := wireNode{Level: 1}
	total := uint64(0)
	for range 20 {
		leaf := wireNode{IDs: chunk[:], Lengths: []uint32{1}}
		span := uint64(0)
		for range 200_000 {
			hole := 1 + rand.Uint64N(20)
			leaf.Extents = append(leaf.Extents, 1, 1, 0, hole, 0, 0)
			span += 1 + hole
		}
		block := format.marshal(leaf)
		if len(block) > maxBlock {
			t.Fatalf("a block of %d bytes", len(block))
		}
		id := storeBlocks(t, r, block)[0]
		top.IDs, top.Lengths, top.Spans = append(top.IDs, id[:]...), append(top.Lengths, uint32(len(block))), append(top.Spans, span)
		total += span
	}
	content, err := (&wireContent{Size: total, Top: top}).content()
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.OpenContent(t.Context(), content)
	if err != nil {
		t.Fatal(err)
	}
	inUse := func() uint64 {
		r.frames.clear()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	at := int64(0)
	for _, span := range top.Spans {
		if _, err := f.ReadAt(make([]byte, 100), at); err != nil {
			t.Fatal(err)
		}
		at += int64(span)
	}
	if after := inUse(); after > before+32<<20 {
		t.Errorf("%d MiB are kept", (after-before)>>20)
	}
	runtime.KeepAlive(f)
}

// TestBombsAreRefused: whatever a frame of zstd claims or expands to, no more
// memory is taken than the frame's header declares, and that is bounded.
func TestBombsAreRefused(t *testing.T) {
	const rle = 1 << 1
	block := func(kind, size uint32, last bool, content ...byte) []byte {
		h := kind | size<<3
		if last {
			h |= 1
		}
		return append([]byte{byte(h), byte(h >> 8), byte(h >> 16)}, content...)
	}
	magicNumber := []byte{0x28, 0xb5, 0x2f, 0xfd}
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	zeros := bytes.Repeat(block(rle, 128<<10, false, 0), 1000) // 128 MB
	frames := map[string][]byte{
		"a content of 2^62 bytes":   join(magicNumber, []byte{0xe0}, binary.LittleEndian.AppendUint64(nil, 1<<62), zeros, block(rle, 1, true, 0)),
		"a window of 1 TiB":         join(magicNumber, []byte{0x00, 30 << 3}, zeros, block(rle, 1, true, 0)),
		"many zeros":                join(magicNumber, []byte{0x00, 12 << 3}, zeros, block(rle, 1, true, 0)),
		"many frames of zeros":      bytes.Repeat(join(magicNumber, []byte{0x00, 7 << 3}, block(rle, 128<<10, true, 0)), 1000),
		"many frames of nothing":    bytes.Repeat(join(magicNumber, []byte{0x20, 0}, block(0, 0, true)), 100_000),
		"a dictionary nobody has":   join(magicNumber, []byte{0x21, 7, 1}, block(rle, 1, true, 0)),
		"a block of more than fits": join(magicNumber, []byte{0x00, 0}, block(rle, 1<<20, true, 0)),
	}
	dec := newDecoder()
	defer dec.Close()
	for what, body := range frames {
		for _, declared := range []uint32{1, 4096, maxChunk, maxChunk + 1, 1<<32 - 1} {
			frame := append(binary.LittleEndian.AppendUint32([]byte{methodZstd}, declared), body...)
			var err error
			if n := allocated(func() { _, err = decodeFrame(dec, frame) }); n > 4*maxChunk {
				t.Errorf("%s declared as %d bytes: %d MiB were allocated", what, declared, n>>20)
			}
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%s declared as %d bytes: %v", what, declared, err)
			}
		}
	}
}
