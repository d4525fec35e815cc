package extents

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/vss"
)

// TestFlagsThatLeaveDoubtAreRefused: each flag of FIEMAP, and one that no kernel
// has today.
func TestFlagsThatLeaveDoubtAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  uint32
		kind   kind
		refuse bool
	}{
		{"plain", flagLast | flagShared | flagMerged, data, false},
		{"delayed allocation", flagUnknown | flagDelalloc, 0, true},
		{"unknown place", flagUnknown, 0, true},
		{"encoded", flagEncoded, 0, true},
		{"encrypted", flagDataEncrypted | flagEncoded, 0, true},
		{"encrypted only", flagDataEncrypted, 0, true},
		{"inline", flagInline | flagNotAligned, opaque, false},
		{"inline and encoded", flagInline | flagEncoded, opaque, false},
		{"tail", flagTail, opaque, false},
		{"unwritten", flagUnwritten, zero, false},
		{"unwritten, delayed", flagUnwritten | flagDelalloc, 0, true},
		{"a flag of the future", 1 << 20, 0, true},
	} {
		e, err := fiemapPart(&fiemapExtent{logical: 4096, physical: 8192, length: 4096, flags: c.flags})
		if c.refuse != errors.Is(err, vss.ErrNotSupported) || !c.refuse && (err != nil || e.kind != c.kind) {
			t.Errorf("%s: %+v, %v", c.name, e, err)
		}
	}
}

// record makes a struct btrfs_file_extent_item.
func record(compression, encryption byte, other uint16, kind byte, disk, inner, length uint64) []byte {
	b := make([]byte, regularExtent)
	binary.LittleEndian.PutUint64(b[8:], length)
	b[16], b[17], b[20] = compression, encryption, kind
	binary.LittleEndian.PutUint16(b[18:], other)
	binary.LittleEndian.PutUint64(b[21:], disk)
	binary.LittleEndian.PutUint64(b[37:], inner)
	binary.LittleEndian.PutUint64(b[45:], length)
	return b
}

func TestRecordsThatLeaveDoubtAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		b      []byte
		want   extent
		hole   bool
		refuse bool
	}{
		{name: "plain", b: record(0, 0, 0, extentRegular, 1<<20, 4096, 8192), want: extent{offset: 512, length: 8192, place: 1<<20 + 4096}},
		{name: "compressed", b: record(3, 0, 0, extentRegular, 1<<20, 4096, 8192),
			want: extent{offset: 512, length: 8192, place: 1 << 20, inner: 4096, encoding: 3}},
		{name: "hole", b: record(0, 0, 0, extentRegular, 0, 0, 8192), hole: true},
		{name: "preallocated", b: record(0, 0, 0, extentPrealloc, 1<<20, 0, 8192), want: extent{offset: 512, length: 8192, kind: zero}},
		{name: "inline", b: record(0, 0, 0, extentInline, 0, 0, 100)[:inlineHeader], want: extent{offset: 512, length: 100, kind: opaque}},
		{name: "inline, huge", b: record(0, 0, 0, extentInline, 0, 0, 1<<40)[:inlineHeader], refuse: true},
		{name: "encrypted", b: record(0, 1, 0, extentRegular, 1<<20, 0, 8192), refuse: true},
		{name: "encoded", b: record(0, 0, 1, extentRegular, 1<<20, 0, 8192), refuse: true},
		{name: "another type", b: record(0, 0, 0, 7, 1<<20, 0, 8192), refuse: true},
		{name: "short", b: record(0, 0, 0, extentRegular, 1<<20, 0, 8192)[:50], refuse: true},
		{name: "empty", refuse: true},
	} {
		got, hole, err := btrfsPart(512, c.b)
		if c.refuse {
			if !errors.Is(err, vss.ErrNotSupported) {
				t.Errorf("%s: %+v, %v; want VSS_E_NOT_SUPPORTED", c.name, got, err)
			}
			continue
		}
		if err != nil || hole != c.hole || !hole && got != c.want {
			t.Errorf("%s: %+v, %v, %v; want %+v, %v", c.name, got, hole, err, c.want, c.hole)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(record(0, 0, 0, extentRegular, 1<<20, 4096, 8192))
	f.Add(record(1, 0, 0, extentInline, 0, 0, 100)[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, hole, err := btrfsPart(4096, b)
		if err != nil || hole {
			return
		}
		_, _ = compare(t.Context(), &list{[]extent{e}}, &list{[]extent{e}}, 1<<20, 1<<20, 10)
	})
}

// TestALiveFileHasNothingInDoubt: what is still to be written of it is, before
// its extents are listed (LINUX-MECHANISMS: without that, every change was
// missed).
func TestALiveFileHasNothingInDoubt(t *testing.T) {
	for _, fs := range []string{"btrfs", "xfs"} {
		voltest.Need(t, fs)
		v := voltest.Make(t, fs, 400<<20)
		name := filepath.Join(v.Root, "live")
		text := make([]byte, 4<<20)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		live, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer live.Close()
		base, err := os.Create(filepath.Join(v.Root, "base"))
		if err != nil {
			t.Fatal(err)
		}
		defer base.Close()
		if err := unix.IoctlFileClone(int(base.Fd()), int(live.Fd())); err != nil {
			t.Fatal(err)
		}
		for i := range int64(20) {
			if _, err := live.WriteAt([]byte("changed"), i*200_000); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Compare(t.Context(), base, live, Options{})
		if err != nil {
			t.Fatalf("%s: %v", fs, err)
		}
		for i := range uint64(20) {
			told := false
			for _, r := range got {
				told = told || r.Offset <= i*200_000 && r.End() >= i*200_000+7
			}
			if !told {
				t.Errorf("%s: the change at %d is not told", fs, i*200_000)
			}
		}
	}
}

func TestFilesThatCannotBeComparedAreRefused(t *testing.T) {
	voltest.Need(t, "btrfs", "xfs", "ext4")
	open := func(v *voltest.Volume) *os.File {
		f, err := os.Create(filepath.Join(v.Root, "file"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(voltest.XFS(t, 0)), open(voltest.XFS(t, 0))
	c, d := open(voltest.Btrfs(t, 0)), open(voltest.Btrfs(t, 0))
	e := open(voltest.Ext4(t, 0))
	dir, err := os.Open(filepath.Dir(a.Name()))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for name, pair := range map[string][2]*os.File{
		"two XFS": {a, b}, "two btrfs": {c, d}, "XFS and btrfs": {a, c}, "ext4": {e, e}, "a directory": {a, dir}, "from a directory": {dir, a},
	} {
		if got, err := Compare(t.Context(), pair[0], pair[1], Options{}); !errors.Is(err, vss.ErrNotSupported) {
			t.Errorf("%s: told %v, %v; want VSS_E_NOT_SUPPORTED", name, got, err)
		}
	}
	if _, err := Compare(t.Context(), a, a, Options{}); err != nil {
		t.Error(err)
	}
}
