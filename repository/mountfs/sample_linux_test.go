package mountfs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
)

// smallOptions make everything small, so that little data has many pieces.
func smallOptions() repository.Options {
	return repository.Options{
		KDF:      repository.KDF{Time: 1, Memory: 64, Threads: 1},
		Chunking: repository.Chunking{Min: 4 << 10, Average: 16 << 10, Max: 64 << 10},
		PackSize: 256 << 10, Workers: 2,
	}
}

func random(n int, seed uint64) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1}).Read(p)
	return p
}

// sample makes records to look at.
type sample struct {
	t    testing.TB
	st   store.Store
	repo *repository.Repository
	b    *repository.Backup
	// data is what each file has.
	data map[string][]byte
}

func newSample(t testing.TB, st store.Store) *sample {
	t.Helper()
	repo, err := repository.Create(t.Context(), st, []byte("secret"), smallOptions())
	if err != nil {
		t.Fatal(err)
	}
	return &sample{t: t, st: st, repo: repo, data: map[string][]byte{}}
}

func (s *sample) begin() {
	s.t.Helper()
	var err error
	if s.b, err = s.repo.Begin(s.t.Context(), repository.BeginOptions{}); err != nil {
		s.t.Fatal(err)
	}
	b := s.b
	s.t.Cleanup(func() { b.Abort() })
}

func (s *sample) add(e repository.Entry) {
	s.t.Helper()
	if e.Root == "" {
		e.Root = "/"
	}
	if e.Type == repository.Symlink {
		e.Size = int64(len(e.LinkTarget))
	}
	if e.ModTime.IsZero() {
		e.ModTime = time.Unix(1_600_000_000, 123_456_789)
	}
	if err := s.b.Add(s.t.Context(), e); err != nil {
		s.t.Fatal(err)
	}
}

// file adds a file, whose ranges of data may be given.
func (s *sample) file(e repository.Entry, data []byte, ranges ...repository.Range) {
	s.t.Helper()
	src := repository.Source{At: bytes.NewReader(data), Size: int64(len(data))}
	if len(ranges) > 0 {
		src.Data = ranges
	}
	c, err := s.b.PutFile(s.t.Context(), src)
	if err != nil {
		s.t.Fatal(err)
	}
	e.Type, e.Size, e.Content = repository.Regular, int64(len(data)), c
	s.add(e)
	s.data[e.Path] = data
}

func (s *sample) commit(change func(*repository.RecordInfo)) *repository.Record {
	s.t.Helper()
	info := repository.RecordInfo{
		Time: time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC), State: repository.Complete,
		Host:  repository.Host{ID: "m", Name: "host", OS: "linux", PathStyle: "posix"},
		Roots: []repository.Root{{ID: "/", Path: "/"}},
	}
	if change != nil {
		change(&info)
	}
	rec, err := s.b.Commit(s.t.Context(), info)
	if err != nil {
		s.t.Fatal(err)
	}
	return rec
}

// fill adds one of everything.
func (s *sample) fill() {
	dir := func(path string, mode uint32) {
		s.add(repository.Entry{Path: path, Type: repository.Directory, Mode: mode, UID: 3, GID: 4})
	}
	dir("", 0o755)
	dir("d", 0o750)
	dir("d/empty", 0o700)
	dir("d.e", 0o1777)
	s.file(repository.Entry{Path: "d/big", Mode: 0o640, UID: 1000, GID: 1001}, random(1_500_000, 1))
	s.file(repository.Entry{Path: "d/none", Mode: 0o000}, nil)
	s.file(repository.Entry{Path: "d.e/x", Mode: 0o4755, Xattrs: map[string][]byte{"user.a": []byte("1"), "user.empty": {}}}, []byte("x"))
	linked := []byte("two names")
	for _, p := range []string{"d/one", "d.e/two"} {
		s.file(repository.Entry{Path: p, Mode: 0o600, HardLink: 1, Nlink: 2}, linked)
	}
	s.file(repository.Entry{Path: "d/large-group", Mode: 0o600, HardLink: 1 << 60, Nlink: 2}, linked)
	s.file(repository.Entry{Path: "d/large-group2", Mode: 0o600, HardLink: 1 << 60, Nlink: 2}, linked)
	sparse := make([]byte, 1_000_000)
	copy(sparse[300_000:], random(100_000, 2))
	copy(sparse[900_000:], random(5_000, 3))
	s.file(repository.Entry{Path: "sparse", Mode: 0o644}, sparse, repository.Range{Offset: 300_000, Length: 100_000}, repository.Range{Offset: 900_000, Length: 5_000})
	s.add(repository.Entry{Path: "link", Type: repository.Symlink, LinkTarget: "d/big"})
	s.add(repository.Entry{Path: "fifo", Type: repository.Fifo, Mode: 0o600})
	s.add(repository.Entry{Path: "socket", Type: repository.Socket, Mode: 0o600})
	s.add(repository.Entry{Path: "null", Type: repository.CharDevice, Mode: 0o666, Rdev: 1<<8 | 3})
	s.add(repository.Entry{Path: "disk", Type: repository.BlockDevice, Mode: 0o660, Rdev: 8 << 8})
	s.add(repository.Entry{Path: "not saved", Type: repository.Regular, Mode: 0o600, Size: 77})
	// Directories without an entry, and names of any bytes.
	s.file(repository.Entry{Path: "implied/deep/er/file", Mode: 0o644}, []byte("deep"))
	s.file(repository.Entry{Path: "implied/deep.txt", Mode: 0o644}, []byte("beside"))
	s.file(repository.Entry{Path: "\x1b[31m\xff\n ~`$(x)", Mode: 0o644}, []byte("odd"))
	s.file(repository.Entry{Path: strings.Repeat("n", 255), Mode: 0o644}, []byte("255"))
	for i := range 2000 {
		s.add(repository.Entry{Path: fmt.Sprintf("many/%04d", i), Type: repository.Fifo, Mode: 0o600})
	}
}
