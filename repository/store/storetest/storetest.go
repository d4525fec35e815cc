// Package storetest is the conformance suite for implementations of
// store.Store. Every implementation runs all of it.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// Run tests the stores that open gives. Each call of open must give an empty
// store.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, st store.Store)
	}{
		{"an object reads back as it was put", testRoundTrip},
		{"reads obey offset and length", testReadAt},
		{"nothing is replaced", testNoReplace},
		{"the data is not kept", testDataNotKept},
		{"what is absent is ErrNotExist", testNotExist},
		{"names that are not allowed are refused", testNames},
		{"listing by prefix", testList},
		{"an error ends a listing", testListError},
		{"a listing may change the store", testListWhileChanging},
		{"deleted objects are gone", testDelete},
		{"a cancelled context changes nothing", testCancelled},
		{"one of many concurrent puts of a name wins", testConcurrentPuts},
		{"objects seen while they are put are whole", testNeverPartial},
		{"sweeping leaves objects alone", testSweep},
		{"large objects are whole", testLarge},
		{"a listing has no end of pages", testManyObjects},
		{"names may be as long as allowed", testLongNames},
		{"a put that was cut off leaves all or nothing", testCutPut},
		{"a cancelled listing ends", testCancelledList},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func put(t *testing.T, st store.Store, name string, data []byte) {
	t.Helper()
	if err := st.Put(t.Context(), name, data); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

func get(t *testing.T, st store.Store, name string) []byte {
	t.Helper()
	info, err := st.Stat(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Name != name {
		t.Fatalf("stat %s: describes %q", name, info.Name)
	}
	p := make([]byte, info.Size)
	if n, err := st.ReadAt(t.Context(), name, p, 0); n != len(p) || (err != nil && err != io.EOF) {
		t.Fatalf("read %s: %d of %d bytes, %v", name, n, len(p), err)
	}
	return p
}

func names(t *testing.T, st store.Store, prefix string) []string {
	t.Helper()
	var got []string
	err := st.List(t.Context(), prefix, func(info store.Info) error {
		got = append(got, info.Name)
		return nil
	})
	if err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	slices.Sort(got)
	return got
}

// randomBytes gives the same n bytes for the same seed.
func randomBytes(n int, seed uint64) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(p)
	return p
}

func testRoundTrip(t *testing.T, st store.Store) {
	before := time.Now()
	for i, size := range []int{0, 1, 4095, 4096, 1 << 20, 17 << 20} {
		name := fmt.Sprintf("data/%02d/object-%d", i, size)
		data := randomBytes(size, uint64(i))
		put(t, st, name, data)
		if !bytes.Equal(get(t, st, name), data) {
			t.Errorf("%s: bytes read differ from those put", name)
		}
		info, err := st.Stat(t.Context(), name)
		if err != nil || info.Size != int64(size) {
			t.Errorf("stat %s: %d bytes, %v", name, info.Size, err)
		}
		if info.ModTime.Before(before.Add(-time.Hour)) || info.ModTime.After(time.Now().Add(time.Hour)) {
			t.Errorf("stat %s: time %v is not now", name, info.ModTime)
		}
	}
}

func testReadAt(t *testing.T, st store.Store) {
	data := randomBytes(1000, 1)
	put(t, st, "config", data)
	for _, c := range []struct {
		off, want, n int
		eof          bool // io.EOF is owed
	}{
		{0, 10, 10, false}, {990, 9, 9, false}, {990, 11, 10, true},
		{1000, 1, 0, true}, {5000, 1, 0, true}, {500, 0, 0, false}, {0, 1001, 1000, true},
	} {
		p := make([]byte, c.want)
		n, err := st.ReadAt(t.Context(), "config", p, int64(c.off))
		if n != c.n || (c.eof && err != io.EOF) || (!c.eof && err != nil) {
			t.Errorf("read %d bytes at %d: %d, %v", c.want, c.off, n, err)
			continue
		}
		if n > 0 && !bytes.Equal(p[:n], data[c.off:c.off+n]) {
			t.Errorf("read %d bytes at %d: wrong bytes", c.want, c.off)
		}
	}
	if _, err := st.ReadAt(t.Context(), "config", make([]byte, 1), -1); err == nil || err == io.EOF {
		t.Errorf("read at a negative offset: %v", err)
	}
}

func testNoReplace(t *testing.T, st store.Store) {
	put(t, st, "keys/one", []byte("first"))
	if err := st.Put(t.Context(), "keys/one", []byte("second")); !errors.Is(err, store.ErrExist) {
		t.Errorf("put a name that is taken: %v", err)
	}
	if got := get(t, st, "keys/one"); string(got) != "first" {
		t.Errorf("the object became %q", got)
	}
}

func testDataNotKept(t *testing.T, st store.Store) {
	data := []byte("as it was")
	put(t, st, "one", data)
	copy(data, "scribbled")
	if got := get(t, st, "one"); string(got) != "as it was" {
		t.Errorf("the object became %q", got)
	}
}

func testNotExist(t *testing.T, st store.Store) {
	ctx := t.Context()
	for range 2 {
		if _, err := st.Stat(ctx, "data/none"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("stat: %v", err)
		}
		if _, err := st.ReadAt(ctx, "data/none", make([]byte, 1), 0); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("read: %v", err)
		}
		if err := st.Delete(ctx, "data/none"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("delete: %v", err)
		}
		if got := names(t, st, "none/"); len(got) != 0 {
			t.Errorf("list: %v", got)
		}
		// Again with something beside and above it.
		if err := st.Put(ctx, "data/some", nil); err != nil && !errors.Is(err, store.ErrExist) {
			t.Fatal(err)
		}
	}
	if _, err := st.Stat(ctx, "data"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("stat of a mere prefix: %v", err)
	}
	if _, err := st.Stat(ctx, "data/some/below"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("stat below an object: %v", err)
	}
}

func testNames(t *testing.T, st store.Store) {
	ctx := t.Context()
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", ".a", "a/.b", "A", "a b", "a\\b", "a\x00", "ä", "a:b",
		strings.Repeat("a", store.MaxName+1),
	} {
		if err := st.Put(ctx, name, nil); !errors.Is(err, store.ErrInvalidName) {
			t.Errorf("put %q: %v", name, err)
		}
		if _, err := st.Stat(ctx, name); !errors.Is(err, store.ErrInvalidName) {
			t.Errorf("stat %q: %v", name, err)
		}
		if _, err := st.ReadAt(ctx, name, nil, 0); !errors.Is(err, store.ErrInvalidName) {
			t.Errorf("read %q: %v", name, err)
		}
		if err := st.Delete(ctx, name); !errors.Is(err, store.ErrInvalidName) {
			t.Errorf("delete %q: %v", name, err)
		}
	}
	if got := names(t, st, ""); len(got) != 0 {
		t.Errorf("something was stored: %v", got)
	}
	for _, name := range []string{"a", "a.b", "0/1/2/3", "x-y_z.w", strings.Repeat("a", 100) + "/" + strings.Repeat("b", 100)} {
		put(t, st, name+"/leaf", []byte(name))
		if got := get(t, st, name+"/leaf"); string(got) != name {
			t.Errorf("%q: %q", name, got)
		}
	}
}

func testList(t *testing.T, st store.Store) {
	if got := names(t, st, ""); len(got) != 0 {
		t.Errorf("an empty store lists %v", got)
	}
	all := []string{"config", "data/aa/aa01", "data/aa/ab02", "data/ab/ab01", "datum/x", "index/1", "index/2"}
	for _, name := range all {
		put(t, st, name, []byte(name))
	}
	for prefix, want := range map[string][]string{
		"":            all,
		"data/":       all[1:4],
		"data":        all[1:4],
		"dat":         all[1:5],
		"data/aa/":    all[1:3],
		"data/aa/aa":  all[1:2],
		"index/1":     all[5:6],
		"index/1/":    nil,
		"config":      all[:1],
		"nothing/at/": nil,
	} {
		if got := names(t, st, prefix); !slices.Equal(got, want) {
			t.Errorf("list %q: %v, want %v", prefix, got, want)
		}
	}
	err := st.List(t.Context(), "data/", func(info store.Info) error {
		if info.Size != int64(len(info.Name)) || info.ModTime.IsZero() {
			t.Errorf("%s: size %d, time %v", info.Name, info.Size, info.ModTime)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func testListError(t *testing.T, st store.Store) {
	put(t, st, "a", nil)
	put(t, st, "b", nil)
	calls, stop := 0, errors.New("stop")
	if err := st.List(t.Context(), "", func(store.Info) error { calls++; return stop }); err != stop || calls != 1 {
		t.Errorf("after %d calls: %v", calls, err)
	}
}

func testListWhileChanging(t *testing.T, st store.Store) {
	for i := range 20 {
		put(t, st, fmt.Sprintf("data/%02d", i), nil)
	}
	err := st.List(t.Context(), "data/", func(info store.Info) error {
		if err := st.Put(t.Context(), "other/"+info.Name, nil); err != nil {
			return err
		}
		return st.Delete(t.Context(), info.Name)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, st, "data/"); len(got) != 0 {
		t.Errorf("not deleted: %v", got)
	}
	if got := names(t, st, "other/"); len(got) != 20 {
		t.Errorf("%d of 20 were listed", len(got))
	}
}

func testDelete(t *testing.T, st store.Store) {
	put(t, st, "data/x", []byte("1"))
	if err := st.Delete(t.Context(), "data/x"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Stat(t.Context(), "data/x"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
	put(t, st, "data/x", []byte("2"))
	if got := get(t, st, "data/x"); string(got) != "2" {
		t.Errorf("put again: %q", got)
	}
}

func testCancelled(t *testing.T, st store.Store) {
	put(t, st, "there", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := st.Put(ctx, "new", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if _, err := st.ReadAt(ctx, "there", make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	if _, err := st.Stat(ctx, "there"); !errors.Is(err, context.Canceled) {
		t.Errorf("stat: %v", err)
	}
	if err := st.List(ctx, "", func(store.Info) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
	if err := st.Delete(ctx, "there"); !errors.Is(err, context.Canceled) {
		t.Errorf("delete: %v", err)
	}
	if got := names(t, st, ""); !slices.Equal(got, []string{"there"}) {
		t.Errorf("the store holds %v", got)
	}
}

func testConcurrentPuts(t *testing.T, st store.Store) {
	const writers = 16
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() { errs[i] = st.Put(t.Context(), "data/same", bytes.Repeat([]byte{byte(i)}, 10000)) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case err == nil:
			t.Errorf("puts %d and %d both succeeded", winner, i)
		case !errors.Is(err, store.ErrExist):
			t.Errorf("put %d: %v", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("no put succeeded")
	}
	if got := get(t, st, "data/same"); !bytes.Equal(got, bytes.Repeat([]byte{byte(winner)}, 10000)) {
		t.Error("the object is not the winner's")
	}
}

func testNeverPartial(t *testing.T, st store.Store) {
	const objects, size = 30, 256 << 10
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for i := range objects {
			if err := st.Put(t.Context(), fmt.Sprintf("data/%02d", i), randomBytes(size, uint64(i))); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			err := st.List(t.Context(), "data/", func(info store.Info) error {
				if info.Size != size {
					t.Errorf("%s was listed with %d bytes", info.Name, info.Size)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if got := names(t, st, ""); len(got) != objects {
		t.Errorf("%d objects, want %d", len(got), objects)
	}
}

func testSweep(t *testing.T, st store.Store) {
	sw, ok := st.(store.Sweeper)
	if !ok {
		return // A store without remains has nothing to sweep.
	}
	put(t, st, "data/x", []byte("x"))
	if err := sw.Sweep(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got := get(t, st, "data/x"); string(got) != "x" {
		t.Errorf("the object became %q", got)
	}
}
