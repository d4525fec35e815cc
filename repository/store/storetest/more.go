package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// RunTwo tests what two stores promise that keep their objects in the same
// place, as two programs on two machines have them. Each call of open must give
// two stores of one empty place.
func RunTwo(t *testing.T, open func(t *testing.T) (a, b store.Store)) {
	t.Run("what one puts the other sees", func(t *testing.T) {
		a, b := open(t)
		put(t, a, "data/00/x", []byte("from a"))
		if got := get(t, b, "data/00/x"); string(got) != "from a" {
			t.Errorf("the other reads %q", got)
		}
		if err := b.Put(t.Context(), "data/00/x", []byte("from b")); !errors.Is(err, store.ErrExist) {
			t.Errorf("the other puts the same name: %v", err)
		}
		if err := b.Delete(t.Context(), "data/00/x"); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Stat(t.Context(), "data/00/x"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("what the other deleted: %v", err)
		}
	})
	t.Run("one of two concurrent puts of a name wins", func(t *testing.T) {
		a, b := open(t)
		for round := range 10 {
			testRace(t, a, b, fmt.Sprintf("keys/%02d", round))
		}
	})
}

// testRace puts a name by both stores at once.
func testRace(t *testing.T, a, b store.Store, name string) {
	t.Helper()
	var wg sync.WaitGroup
	var errs [2]error
	start := make(chan struct{})
	for i, st := range []store.Store{a, b} {
		wg.Go(func() {
			<-start
			errs[i] = st.Put(t.Context(), name, bytes.Repeat([]byte{byte('a' + i)}, 5000))
		})
	}
	close(start)
	wg.Wait()
	winner := -1
	for i, err := range errs {
		if err == nil && winner >= 0 {
			t.Errorf("%s: both puts succeeded", name)
		} else if err == nil {
			winner = i
		} else if !errors.Is(err, store.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if winner < 0 {
		t.Errorf("%s: neither put succeeded", name)
	} else if got := get(t, b, name); !bytes.Equal(got, bytes.Repeat([]byte{byte('a' + winner)}, 5000)) {
		t.Errorf("%s: the object is not the winner's", name)
	}
}

// testLarge puts an object as large as the largest pack but one of a test's
// patience, and reads it in pieces.
func testLarge(t *testing.T, st store.Store) {
	const size = 40<<20 + 12345
	data := randomBytes(size, 9)
	put(t, st, "data/large", data)
	p := make([]byte, 7<<20)
	for off := int64(0); off < size; off += int64(len(p)) {
		n, err := st.ReadAt(t.Context(), "data/large", p, off)
		want := min(int64(len(p)), size-off)
		if int64(n) != want || (err != nil && err != io.EOF) || (n < len(p) && err != io.EOF) {
			t.Fatalf("read at %d: %d bytes, want %d: %v", off, n, want, err)
		}
		if !bytes.Equal(p[:n], data[off:off+want]) {
			t.Fatalf("read at %d: wrong bytes", off)
		}
	}
}

// testManyObjects lists more than fit into one answer of the services.
func testManyObjects(t *testing.T, st store.Store) {
	const objects = 1100
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < objects; i += 8 {
				if err := st.Put(t.Context(), fmt.Sprintf("index/%04d", i), []byte{byte(i)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := names(t, st, "index/"); len(got) != objects || got[0] != "index/0000" || got[objects-1] != fmt.Sprintf("index/%04d", objects-1) {
		t.Errorf("%d objects were listed, want %d", len(got), objects)
	}
	if got := names(t, st, "index/10"); len(got) != 100 {
		t.Errorf("%d objects begin with index/10, want 100", len(got))
	}
}

func testLongNames(t *testing.T, st store.Store) {
	for _, name := range []string{
		strings.Repeat("a/", 127) + "z", strings.Repeat("b", 120) + "/" + strings.Repeat("c", store.MaxName-121),
	} {
		if len(name) != store.MaxName {
			t.Fatalf("%d bytes", len(name))
		}
		put(t, st, name, []byte(name))
		if got := get(t, st, name); string(got) != name {
			t.Errorf("%q: %q", name, got)
		}
		if got := names(t, st, name[:len(name)-1]); len(got) != 1 || got[0] != name {
			t.Errorf("list %q: %q", name, got)
		}
		if err := st.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

// testCutPut cancels puts at many instants.
func testCutPut(t *testing.T, st store.Store) {
	data := randomBytes(4<<20, 3)
	begun := time.Now()
	put(t, st, "data/whole", data)
	step := max(time.Since(begun)/8, 100*time.Microsecond)
	for i := range 12 {
		name := fmt.Sprintf("data/cut-%02d", i)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*step)
		err := st.Put(ctx, name, data)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		_, serr := st.Stat(t.Context(), name)
		switch {
		case serr == nil:
			if !bytes.Equal(get(t, st, name), data) {
				t.Errorf("%s is there, but not whole", name)
			}
		case err == nil || !errors.Is(serr, store.ErrNotExist):
			t.Errorf("%s: put %v, stat %v", name, err, serr)
		}
		if err := st.Put(t.Context(), name, data); err != nil && !errors.Is(err, store.ErrExist) {
			t.Errorf("%s again: %v", name, err)
		}
		if !bytes.Equal(get(t, st, name), data) {
			t.Errorf("%s, put again, is not whole", name)
		}
	}
	err := st.List(t.Context(), "", func(info store.Info) error {
		if info.Size != int64(len(data)) {
			t.Errorf("%s is listed with %d bytes", info.Name, info.Size)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func testCancelledList(t *testing.T, st store.Store) {
	for i := range 5 {
		put(t, st, fmt.Sprintf("data/%d", i), nil)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	err := st.List(ctx, "", func(store.Info) error { calls++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || calls == 0 {
		t.Errorf("after %d objects: %v", calls, err)
	}
}
