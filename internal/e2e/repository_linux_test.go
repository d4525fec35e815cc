package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store/local"
	"github.com/sombra-backup/sombra/requester"
)

// What the tests of the repository under real processes have in common: trees
// of files whose content is known, and a look into the repository that
// compares every file of a record with them.

// sourceName is the directory that is backed up; entries are known by it.
const sourceName = "sombra-e2e-source"

// sums gives each file's content by its path below the source, as a hash.
type sums map[string][sha256.Size]byte

// source is a directory tree that changes.
type source struct {
	t      *testing.T
	dir    string
	random *rand.Rand
	bytes  *rand.ChaCha8
	now    sums
	// written counts the bytes written since the last call of news.
	written int64
}

// newSource makes one with some small files.
func newSource(t *testing.T, below string, seed uint64) *source {
	t.Helper()
	s := &source{t: t, dir: filepath.Join(below, sourceName), random: rand.New(rand.NewPCG(seed, 1)),
		bytes: rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 7}), now: sums{}}
	for i := range 30 {
		s.file(fmt.Sprintf("d%d/f%d", i%4, i), 1+s.random.IntN(20_000))
	}
	return s
}

// file writes a file of random bytes.
func (s *source) file(name string, size int) {
	s.t.Helper()
	data := make([]byte, size)
	s.bytes.Read(data)
	write(s.t, filepath.Join(s.dir, name), string(data))
	s.now[name] = sha256.Sum256(data)
	s.written += int64(size)
}

// change rewrites a few files, makes one and removes one.
func (s *source) change(n int) {
	s.t.Helper()
	for range 3 {
		s.file(fmt.Sprintf("d%d/f%d", s.random.IntN(4), s.random.IntN(30)), 1+s.random.IntN(200_000))
	}
	s.file(fmt.Sprint("new", n), 100_000)
	s.remove(fmt.Sprint("new", n-2))
}

func (s *source) remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	delete(s.now, name)
}

// kept gives what is there now.
func (s *source) kept() sums { return maps.Clone(s.now) }

// news gives how many bytes were written since it was last asked.
func (s *source) news() int64 {
	n := s.written
	s.written = 0
	return n
}

// medium is a repository looked into by the library.
type medium struct {
	t    *testing.T
	dir  string
	repo *repository.Repository
}

// cheaply makes a machine whose repository costs little to open, so that many
// processes can be run.
func cheaply(t *testing.T, dir string) *machine {
	t.Helper()
	st, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repository.Create(t.Context(), st, []byte("e2e"), repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return bareMachine(t, dir)
}

// look opens a repository; done closes it.
func look(t *testing.T, dir string) (m *medium, done func()) {
	t.Helper()
	st, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repository.Open(t.Context(), st, []byte("e2e"), repository.Options{})
	if err != nil {
		t.Fatalf("open %s: %v", dir, err)
	}
	return &medium{t, dir, r}, func() { r.Close() }
}

// shows compares a record with what was backed up.
func (m *medium) shows(id string, want sums) error {
	ctx := context.Background()
	rec, err := m.repo.Record(ctx, id)
	if err != nil {
		return err
	}
	got := 0
	for e, err := range rec.Table().All(ctx) {
		if err != nil {
			return fmt.Errorf("record %s: %w", id, err)
		}
		_, name, ours := strings.Cut(e.Path, sourceName+"/")
		if e.Type != repository.Regular || !ours {
			continue
		}
		got++
		f, err := m.repo.OpenContent(ctx, e.Content)
		if err != nil {
			return fmt.Errorf("record %s: %s: %w", id, name, err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(f, 0, e.Size)); err != nil {
			return fmt.Errorf("record %s: %s: %w", id, name, err)
		}
		if sum, ok := want[name]; !ok || sum != [sha256.Size]byte(h.Sum(nil)) {
			return fmt.Errorf("record %s: %s differs from what was backed up", id, name)
		}
	}
	if got != len(want) {
		return fmt.Errorf("record %s has %d files of %d", id, got, len(want))
	}
	return nil
}

// whole says whether check finds nothing.
func (m *medium) whole(data bool) error {
	var problems []string
	_, err := m.repo.Check(context.Background(), repository.CheckOptions{ReadData: data}, func(p repository.Problem) {
		problems = append(problems, fmt.Sprint(p.Object, " ", p.Path, ": ", p.Err))
	})
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return fmt.Errorf("check: %s", strings.Join(problems, "; "))
	}
	return nil
}

// totals gives what a record says of its own making.
func (m *medium) totals(id string) repository.Totals {
	m.t.Helper()
	rec, err := m.repo.Record(context.Background(), id)
	if err != nil {
		m.t.Fatal(err)
	}
	return rec.Totals
}

// ids lists the records.
func (m *medium) ids() (list []string) {
	m.t.Helper()
	records, err := m.repo.Records(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, r := range records {
		list = append(list, r.ID.String())
	}
	return list
}

// filesBelow gives the sizes of the files below a part of a repository whose
// names have the prefix.
func filesBelow(t *testing.T, dir, prefix string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), prefix) {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all[p] = info.Size()
		}
		return nil // gone meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// packFiles are the data packs that are whole, with their sizes.
func packFiles(t *testing.T, repo string) map[string]int64 {
	t.Helper()
	all := filesBelow(t, filepath.Join(repo, "data"), "")
	maps.DeleteFunc(all, func(name string, _ int64) bool { return strings.HasPrefix(filepath.Base(name), ".") })
	return all
}

// remains are files of Puts that never ended.
func remains(t *testing.T, dir string) map[string]int64 { return filesBelow(t, dir, ".sombra-tmp-") }

// reported gives the record that a backup said it had made, whatever became of
// the process then, or "".
func (o *outcome) reported() string {
	for line := range strings.Lines(o.out) {
		if messageType(line) == "summary" && strings.HasSuffix(line, "\n") {
			var r requester.Result
			unmarshal(o.t, line, &r)
			return r.ID
		}
	}
	return ""
}
