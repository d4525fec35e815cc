package precopy

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// TestDifferenceMakesAnyTwoFilesEqual: whatever the older copy holds.
func TestDifferenceMakesAnyTwoFilesEqual(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(3, 4))
	fill := func(f *os.File) {
		must(t, f.Truncate(0))
		must(t, f.Truncate(int64(r.IntN(8<<20))))
		for range r.IntN(6) {
			b := bytes.Repeat([]byte{byte(r.IntN(3))}, 1+r.IntN(3<<20))
			_, err := f.WriteAt(b, int64(r.IntN(8<<20)))
			must(t, err)
		}
	}
	src, dst := create(t, filepath.Join(dir, "src")), create(t, filepath.Join(dir, "dst"))
	for round := range 60 {
		fill(src)
		fill(dst)
		info, err := src.Stat()
		must(t, err)
		c := &copier{ctx: t.Context(), src: src, dst: dst, size: info.Size()}
		_, err = c.difference()
		must(t, err)
		want, err := os.ReadFile(src.Name())
		must(t, err)
		got, err := os.ReadFile(dst.Name())
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Fatalf("round %d: %d bytes differ from %d", round, len(got), len(want))
		}
	}
}

func TestDifferenceWritesOnlyWhatDiffers(t *testing.T) {
	dir := t.TempDir()
	src, dst := create(t, filepath.Join(dir, "src")), create(t, filepath.Join(dir, "dst"))
	content := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
	for _, f := range []*os.File{src, dst} {
		for i := range 20 {
			_, err := f.WriteAt(content, int64(i*len(content)))
			must(t, err)
		}
	}
	_, err := src.WriteAt([]byte("x"), 33<<20)
	must(t, err)
	c := &copier{ctx: t.Context(), src: src, dst: dst, size: 80 << 20}
	if n, err := c.difference(); err != nil || n != blockSize {
		t.Errorf("%d bytes written, %v; want one block", n, err)
	}
}

func TestHolesStayHoles(t *testing.T) {
	v := voltest.Ext4(t, 0)
	src, dst := create(t, filepath.Join(v.Root, "src")), create(t, filepath.Join(v.Root, "dst"))
	const size = 10 << 30 // far more than there is room for
	must(t, src.Truncate(size))
	_, err := src.WriteAt([]byte("island"), size/2)
	must(t, err)
	for range 2 {
		c := &copier{ctx: t.Context(), src: src, dst: dst, size: size}
		if n, err := c.whole(); err != nil || n > 1<<16 {
			t.Fatalf("%d bytes copied, %v", n, err)
		}
		// An older copy with data where there is a hole now.
		_, err := dst.WriteAt(make([]byte, 4<<20), 1<<30)
		must(t, err)
		if n, err := c.difference(); err != nil {
			t.Fatalf("%d bytes written, %v", n, err)
		}
		var st unix.Stat_t
		must(t, unix.Fstat(int(dst.Fd()), &st))
		if st.Size != size || st.Blocks*512 > 1<<20 {
			t.Fatalf("the copy has %d bytes and takes %d", st.Size, st.Blocks*512)
		}
	}
}

// TestAFileThatGrowsForEverIsDone: only what was there at the beginning is
// copied; the rest is the next pass's.
func TestAFileThatGrowsForEverIsDone(t *testing.T) {
	dir := t.TempDir()
	src, dst := create(t, filepath.Join(dir, "src")), create(t, filepath.Join(dir, "dst"))
	_, err := src.Write(bytes.Repeat([]byte("x"), 3<<20))
	must(t, err)
	c := &copier{ctx: t.Context(), src: src, dst: dst, size: 1 << 20}
	_, err = c.whole()
	must(t, err)
	if info, err := dst.Stat(); err != nil || info.Size() != 1<<20 {
		t.Errorf("the copy has %d bytes, want those of the beginning", info.Size())
	}
	// And one that shrinks gives no more than it has.
	must(t, src.Truncate(1000))
	must(t, dst.Truncate(0))
	if _, err = c.whole(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(dst); err != nil || len(b) != 1000 {
		t.Errorf("the copy of a file that shrank has %d bytes, %v", len(b), err)
	}
}

func request(v *voltest.Volume, area string) provider.Request {
	return provider.Request{
		Ref: provider.Ref{SnapshotID: vss.NewGUID(), Area: area,
			Volume: provider.Volume{ID: v.UUID, Root: v.Root, FSType: v.FSType}},
		Scope:     provider.Scope{Claims: []provider.Claim{{Writer: "w", Files: []provider.FileSet{{Dir: ".", Pattern: "db*"}}}}},
		HoldLimit: 10 * time.Second,
	}
}

// TestRoomThatEndsWhileCopyingInTheHold: the room was checked, and then a file
// of the scope grew by more than is left.
func TestRoomThatEndsWhileCopyingInTheHold(t *testing.T) {
	v := voltest.Ext4(t, 256<<20)
	small := voltest.Ext4(t, voltest.SmallExt4)
	req := request(v, filepath.Join(small.Root, "area"))
	must(t, os.WriteFile(filepath.Join(v.Root, "db"), []byte("small"), 0o600))
	s, err := New().BeginPrepare(t.Context(), req)
	must(t, err)
	must(t, s.EndPrepare(t.Context()))
	must(t, os.WriteFile(filepath.Join(v.Root, "db"), bytes.Repeat([]byte("large "), 30<<20), 0o600))
	must(t, s.PreCommit(t.Context()))
	if err := s.Commit(t.Context()); !errors.Is(err, vss.ErrInsufficientStorage) {
		t.Errorf("%v, want VSS_E_INSUFFICIENT_STORAGE", err)
	}
	must(t, s.Abort(t.Context()))
	if _, err := os.Lstat(req.Ref.Area); !os.IsNotExist(err) {
		t.Errorf("the area is left: %v", err)
	}
}

func TestAFileSystemThatTellsLittleIsCopiedWholeInTheHold(t *testing.T) {
	v := voltest.Tmpfs(t, 64<<20)
	must(t, os.WriteFile(filepath.Join(v.Root, "db1"), []byte("one"), 0o600))
	must(t, os.WriteFile(filepath.Join(v.Root, "db2"), []byte("two"), 0o600))
	req := request(v, filepath.Join(t.TempDir(), "area"))
	caps, err := New().Supports(t.Context(), req.Ref.Volume, req.Ref.Area)
	if err != nil || !strings.Contains(caps.Note, "tmpfs") {
		t.Errorf("%+v, %v; want a note about tmpfs", caps, err)
	}
	s, err := New().BeginPrepare(t.Context(), req)
	must(t, err)
	defer s.Abort(t.Context())
	e, err := s.Estimate(t.Context())
	if err != nil || len(e.Notes) == 0 {
		t.Errorf("%+v, %v; want a note", e, err)
	}
	must(t, s.EndPrepare(t.Context()))
	must(t, s.PreCommit(t.Context()))
	must(t, s.Commit(t.Context()))
	if c, err := s.PostCommit(t.Context()); err != nil || c.Files != 2 {
		t.Errorf("%d files copied in the hold, %v; want both", c.Files, err)
	}
}
