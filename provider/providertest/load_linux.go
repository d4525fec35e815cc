package providertest

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// testStopped: whatever a program did, once it is stopped the copy shows
// exactly its files, buffered writes and stores through mappings included.
func testStopped(t *testing.T, f *fixture) {
	must(t, os.MkdirAll(f.path("data"), 0o755))
	w := start(t, "churn", f.path("data"))
	for round := range 8 {
		w.progress(200)
		req := f.request()
		m := f.prepared(t, req)
		if round%2 == 0 {
			m.must(t, "Refresh")
		}
		w.progress(50)
		w.stop()
		m.must(t, "PreCommit", "Commit")
		want := capture(t, f.v.Root, req.Scope, false)
		w.resume()
		w.progress(100)
		m.must(t, "PostCommit")
		for p, s := range want {
			s.data = "" // buffered data has no place yet
			want[p] = s
		}
		got := shown(t, m.copied, req.Scope, false)
		for p, s := range got {
			s.data = ""
			got[p] = s
		}
		sameState(t, got, want)
		if len(m.copied.Moved) != 0 {
			t.Errorf("says that %q moved, though the writer was stopped", m.copied.Moved)
		}
		must(t, f.p.Delete(t.Context(), req.Ref))
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	w.kill()
	f.nothingLeft(t, "at the end")
}

// testOrdered: a program that makes one write durable before it begins the
// next finds both in that order. It need not be stopped for a provider that is
// atomic.
func testOrdered(t *testing.T, f *fixture) {
	must(t, os.MkdirAll(f.path("data"), 0o755))
	w := start(t, "ordered", f.path("data"))
	for range 25 {
		w.progress(5)
		req := f.request()
		m := f.prepared(t, req)
		w.progress(2)
		m.must(t, "PreCommit")
		if !f.caps.Atomic {
			w.stop()
		}
		acknowledged := w.count()
		m.must(t, "Commit")
		limit := w.count() + 1 // the one under way may be in the copy
		if !f.caps.Atomic {
			w.resume()
		}
		m.must(t, "PostCommit")
		first, second := number(t, m.copied.Root, "first"), number(t, m.copied.Root, "second")
		if first < second || first > second+1 {
			t.Errorf("the copy has %d in the first file and %d in the second", first, second)
		}
		if second < acknowledged || first > limit {
			t.Errorf("%d was acknowledged before Commit and at most %d begun after it; the copy has %d and %d",
				acknowledged, limit, first, second)
		}
		must(t, f.p.Delete(t.Context(), req.Ref))
	}
}

func number(t *testing.T, root, name string) uint64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "data", name))
	if err != nil || len(b) != 8 {
		t.Fatalf("%s in the copy holds %x, %v", name, b, err)
	}
	return binary.LittleEndian.Uint64(b)
}

// testBeside makes several copies of one volume at the same time.
func testBeside(t *testing.T, f *fixture) {
	f.populate(t)
	const n = 4
	want := capture(t, f.v.Root, scope(), false)
	t.Run("group", func(t *testing.T) {
		for range n {
			t.Run("copy", func(t *testing.T) {
				t.Parallel()
				for range 3 {
					req := f.request()
					m := f.prepared(t, req)
					c := m.finish(t)
					sameState(t, shown(t, c, req.Scope, false), want)
					time.Sleep(time.Millisecond)
					must(t, f.p.Delete(t.Context(), req.Ref))
				}
			})
		}
	})
	f.nothingLeft(t, "after the last Delete")
}
