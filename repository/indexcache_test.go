package repository

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// nearRepository has three records in a store that is far away, one index object
// too large to be read at once, and a state directory.
func nearRepository(t *testing.T) (r *Repository, origin *mem.Store, state string) {
	t.Helper()
	origin = mem.New()
	r = newTestRepository(t, origin)
	for i := range 3 {
		b := begin(t, r, nil)
		addFile(t, b, "file", randomData(9000, uint64(i)))
		commit(t, b, testInfo())
	}
	object, _ := largeIndex(t, r)
	if err := origin.Put(t.Context(), indexName(hashObject(object)), object); err != nil {
		t.Fatal(err)
	}
	state = filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	return r, origin, state
}

// openNear opens the repository with the state directory, and reads all files.
func openNear(t *testing.T, origin store.Store, state string) (r *Repository, st *distantStore) {
	t.Helper()
	st = newDistantStore(origin)
	o := testOptions()
	o.StateDir = state
	r, err := Open(t.Context(), st, testPassword, o)
	if err != nil {
		t.Fatal(err)
	}
	records, err := r.Records(t.Context())
	if err != nil || len(records) != 3 || r.Damage() != nil {
		t.Fatalf("%d records, %v, %v", len(records), err, r.Damage())
	}
	seen := map[string]bool{}
	for _, rec := range records {
		seen[readTree(t, rec)["file"]] = true
	}
	for i := range 3 {
		if !seen[string(randomData(9000, uint64(i)))] {
			t.Errorf("file %d differs", i)
		}
	}
	return r, st
}

func copies(t *testing.T, state string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(state, "index"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Opened again, the repository asks a store that is far away for nothing of the
// index but its names.
func TestASecondOpeningReadsTheIndexFromTheStateDirectory(t *testing.T) {
	_, origin, state := nearRepository(t)
	_, st := openNear(t, origin, state)
	if st.reads[prefixIndex] < 4 {
		t.Fatalf("the first opening read the index with %d requests", st.reads[prefixIndex])
	}
	names := copies(t, state)
	if len(names) != 4 {
		t.Fatalf("copies: %q", names)
	}
	for _, name := range names {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := readObject(t.Context(), origin, prefixIndex+filepath.Base(name), maxIndex)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what is in the store: %v", name, err)
		}
	}
	r, st := openNear(t, origin, state)
	if st.reads[prefixIndex] != 0 {
		t.Errorf("the second opening read the index with %d requests", st.reads[prefixIndex])
	}
	// A backup finds what it knows with what is at home.
	b := begin(t, r, nil)
	addFile(t, b, "file", randomData(9000, 1))
	if rec := commit(t, b, testInfo()); rec.Totals.BytesAdded > 1000 {
		t.Errorf("it stored again what was there: %+v", rec.Totals)
	}
	if st.reads[prefixIndex] != 0 {
		t.Errorf("a backup read the index with %d requests", st.reads[prefixIndex])
	}
}

// Nothing that lies in the state directory is believed.
func TestAWrongCopyOfTheIndexIsReadFromTheStore(t *testing.T) {
	_, origin, state := nearRepository(t)
	openNear(t, origin, state)
	names := copies(t, state)
	for _, name := range names {
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(names[0])
		if name == names[0] {
			other, err = os.ReadFile(names[1])
		}
		if err != nil {
			t.Fatal(err)
		}
		n := len(whole)
		wrong := map[string][]byte{"empty": nil, "cut": whole[:n-1], "half": whole[:n/2], "another": other}
		for _, at := range []int{0, 30, 100, n / 2, n - 30, n - 10, n - 1} {
			wrong["flipped"] = bytes.Clone(whole)
			wrong["flipped"][at] ^= 1
			for how, b := range wrong {
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
				_, st := openNear(t, origin, state)
				if st.reads[prefixIndex] == 0 {
					t.Fatalf("%s (%d): the store was not asked", how, at)
				}
				if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, whole) {
					t.Fatalf("%s (%d): the copy was not mended: %v", how, at, err)
				}
			}
			if n > indexStroke {
				break // it takes long, and there is a test of its reading
			}
			clear(wrong)
		}
	}
	// One that goes wrong while the repository is open.
	r, st := openNear(t, origin, state)
	for _, name := range names {
		if err := os.WriteFile(name, make([]byte, 50_000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.index.pages.clear()
	records, err := r.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.frames.clear()
	readTree(t, records[0])
	if st.reads[prefixIndex] == 0 {
		t.Error("pages of a wrong copy were not read from the store")
	}
}

// Check, prune and repair look at the store, whatever copies there are.
func TestCheckSeesTheStoreAndNotTheCopies(t *testing.T) {
	_, origin, state := nearRepository(t)
	r, st := openNear(t, origin, state)
	var name string
	for n := range objects(t, origin) {
		if strings.HasPrefix(n, prefixIndex) {
			name = n
		}
	}
	object, err := readObject(t.Context(), origin, name, maxIndex)
	if err != nil {
		t.Fatal(err)
	}
	object[len(object)/2] ^= 1
	if err := origin.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := origin.Put(t.Context(), name, object); err != nil {
		t.Fatal(err)
	}
	_, problems := check(t, r, CheckOptions{})
	found := false
	for _, p := range problems {
		found = found || p.Object == name && errors.Is(p.Err, ErrDamaged)
	}
	if !found || st.reads[prefixIndex] == 0 {
		t.Errorf("check says %+v", problems)
	}
	if report, err := r.Prune(t.Context(), PruneOptions{Grace: -1}, nil); err != nil || !errors.Is(report.Stopped, ErrDamaged) {
		t.Errorf("prune: %+v, %v", report, err)
	}
	if report, err := r.Repair(t.Context(), RepairOptions{}, nil); err != nil || report.Indexed == 0 {
		t.Errorf("repair: %+v, %v", report, err)
	}
	if _, err := origin.Stat(t.Context(), name); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("the damaged index object is left: %v", err)
	}
}

// Copies of what is no more go; a store that is near has none; and nothing is
// kept where others could see it.
func TestCopiesOfTheIndexAreKeptWhereTheyBelong(t *testing.T) {
	_, origin, state := nearRepository(t)
	r, _ := openNear(t, origin, state)
	gone := copies(t, state)[0]
	stray := filepath.Join(filepath.Dir(gone), testPack(1).String())
	if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := begin(t, r, nil)
	addFile(t, b, "more", randomData(9000, 77))
	commit(t, b, testInfo())
	o := testOptions()
	o.StateDir = state
	r, err := Open(t.Context(), newDistantStore(origin), testPassword, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names := copies(t, state); len(names) != 5 {
		t.Errorf("copies: %q", names)
	}
	if _, err := os.Stat(stray); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a copy of nothing is left: %v", err)
	}

	near := filepath.Join(t.TempDir(), "near")
	o.StateDir = near
	if r, err = Open(t.Context(), origin, testPassword, o); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context()); err != nil || len(copies(t, near)) != 0 {
		t.Errorf("copies of what is near: %q, %v", copies(t, near), err)
	}

	if runtime.GOOS == "windows" {
		return // there the directory's rights are those of what it lies in
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(open, "index"), 0o755); err != nil {
		t.Fatal(err)
	}
	o.StateDir = open
	if r, err = Open(t.Context(), newDistantStore(origin), testPassword, o); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context()); err != nil || len(copies(t, open)) != 0 {
		t.Errorf("copies where others can see them: %q, %v", copies(t, open), err)
	}
}
