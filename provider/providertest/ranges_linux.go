package providertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// rangesBlock is the most that a change of one byte may be told as, on top of
// what changed.
const rangesBlock = 64 << 10

// copyNow makes a finished copy.
func (f *fixture) copyNow(t *testing.T) (provider.Ref, provider.Copied) {
	t.Helper()
	req := f.request()
	m := f.prepared(t, req)
	return req.Ref, m.finish(t)
}

// teller gives the provider's comparison, nil where it has none: then nothing else
// is to be tested than that its capabilities do not say otherwise.
func (f *fixture) teller(t *testing.T) provider.RangeTeller {
	t.Helper()
	r, ok := f.p.(provider.RangeTeller)
	if f.caps.ChangedRanges && !ok {
		t.Fatal("the capabilities promise changed ranges, and the provider has no ChangedRanges")
	}
	if !f.caps.ChangedRanges {
		if ok {
			a, _ := f.copyNow(t)
			_, err := r.ChangedRanges(t.Context(), a, a, "data/plain")
			wantCode(t, "ChangedRanges without the capability", err, vss.ErrNotSupported)
		}
		return nil
	}
	return r
}

// differing compares two files byte for byte: the runs of blocks of the second
// that differ from the first or lie past its end.
func differing(t *testing.T, base, now string) (runs vss.Ranges, size uint64) {
	t.Helper()
	a, err := os.Open(base)
	must(t, err)
	defer a.Close()
	b, err := os.Open(now)
	must(t, err)
	defer b.Close()
	const block = 512
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, aerr := io.ReadFull(a, p)
		m, berr := io.ReadFull(b, q)
		for i, end := 0, 0; i < m; i = end {
			end = min(i+block, m)
			if i < n { // to the end of the first file exactly
				end = min(end, n)
			}
			if end <= n && bytes.Equal(p[i:end], q[i:end]) {
				continue
			}
			at := size + uint64(i)
			if k := len(runs); k > 0 && runs[k-1].End() == at {
				runs[k-1].Length += uint64(end - i)
			} else {
				runs = append(runs, vss.Range{Offset: at, Length: uint64(end - i)})
			}
		}
		size += uint64(m)
		if berr != nil {
			if berr != io.EOF && berr != io.ErrUnexpectedEOF {
				t.Fatal(berr)
			}
			return runs, size
		}
		if aerr != nil && aerr != io.EOF && aerr != io.ErrUnexpectedEOF {
			t.Fatal(aerr)
		}
	}
}

// covers fails the test for each run that the ranges told do not cover, and for
// ranges in no order or past the end.
func covers(t *testing.T, what string, told []vss.Range, want vss.Ranges, size uint64) (sum uint64) {
	t.Helper()
	end := uint64(0)
	for i, r := range told {
		if r.Length == 0 || r.End() > size || i > 0 && r.Offset <= end {
			t.Errorf("%s: range %d:%d of a file of %d bytes, after one that ends at %d", what, r.Offset, r.Length, size, end)
		}
		end = r.End()
		sum += r.Length
	}
	i, missed := 0, 0
	for _, w := range want {
		for i < len(told) && told[i].End() < w.End() && told[i].End() <= w.Offset {
			i++
		}
		for k, at := i, w.Offset; at < w.End(); k++ {
			if k == len(told) || told[k].Offset > at {
				if missed++; missed < 5 {
					t.Errorf("%s: the change at %d (%d bytes) is not told", what, at, w.Length)
				}
				break
			}
			at = max(at, told[k].End())
		}
	}
	if missed > 0 {
		t.Errorf("%s: %d changes are not told", what, missed)
	}
	return sum
}

// change is one way to change a file between two copies.
type change struct {
	name string
	// before makes something of the file before the first copy; nil leaves it as
	// [testRangesCover] made it.
	before func(t *testing.T, path string)
	after  func(t *testing.T, path string)
	// exact: the provider must answer, and tell no more than what changed and a
	// little around it.
	exact bool
	// same: nothing may be told at all.
	same bool
}

const rangesSize = 4 << 20

func fill(n int, seed uint64) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 77))
	for i := 0; i+8 <= n; i += 8 {
		v := rng.Uint64()
		for k := range 8 {
			b[i+k] = byte(v >> (8 * k))
		}
	}
	return b
}

// at changes an open file.
func at(fn func(t *testing.T, g *os.File)) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		g, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		defer g.Close()
		fn(t, g)
	}
}

func put(off int64, n int) func(*testing.T, string) {
	return at(func(t *testing.T, g *os.File) {
		_, err := g.WriteAt(fill(n, uint64(off)+1), off)
		must(t, err)
	})
}

func space(mode uint32, off, n int64) func(*testing.T, string) {
	return at(func(t *testing.T, g *os.File) {
		err := unix.Fallocate(int(g.Fd()), mode, off, n)
		if err != unix.EOPNOTSUPP {
			must(t, err)
		}
	})
}

func all(fns ...func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		for _, fn := range fns {
			fn(t, path)
		}
	}
}

func truncate(n int64) func(*testing.T, string) {
	return func(t *testing.T, path string) { t.Helper(); must(t, os.Truncate(path, n)) }
}

func synced(t *testing.T, path string) {
	t.Helper()
	at(func(t *testing.T, g *os.File) { must(t, g.Sync()) })(t, path)
}

// flagged makes the file anew with inode flags (chattr), where the file system
// has them.
func flagged(flags int, content []byte) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		must(t, os.Remove(path))
		g, err := os.Create(path)
		must(t, err)
		defer g.Close()
		_ = unix.IoctlSetPointerInt(int(g.Fd()), unix.FS_IOC_SETFLAGS, flags)
		_, err = g.Write(content)
		must(t, err)
		must(t, g.Sync())
	}
}

const (
	flagCompress = 0x4      // FS_COMPR_FL
	flagNoCow    = 0x800000 // FS_NOCOW_FL
)

// share has a part of a file share the blocks of another part (FICLONERANGE).
func share(from, n, to int64) func(*testing.T, string) {
	return at(func(t *testing.T, g *os.File) {
		must(t, unix.IoctlFileCloneRange(int(g.Fd()), &unix.FileCloneRange{
			Src_fd: int64(g.Fd()), Src_offset: uint64(from), Src_length: uint64(n), Dest_offset: uint64(to)}))
	})
}

func squeezable(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d of many that are much alike\n", i)
	}
	return b.Bytes()[:n]
}

// mapped stores through a memory mapping.
func mapped(off int, text string) func(*testing.T, string) {
	return at(func(t *testing.T, g *os.File) {
		b, err := unix.Mmap(int(g.Fd()), 0, rangesSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(t, err)
		copy(b[off:], text)
		must(t, unix.Msync(b, unix.MS_SYNC))
		must(t, unix.Munmap(b))
	})
}

func direct(off int64, n int) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(fd)
		b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		must(t, err)
		defer unix.Munmap(b)
		copy(b, fill(n, 5))
		_, err = unix.Pwrite(fd, b, off)
		must(t, err)
	}
}

// changes are all the ways that could lead a comparison astray.
func changes() []change {
	return []change{
		{name: "nothing", after: func(*testing.T, string) {}, exact: true, same: true},
		{name: "a page", after: put(1<<20, 8192), exact: true},
		{name: "a byte", after: put(1<<20+77, 1), exact: true},
		{name: "unaligned", after: put(1<<20-5, 70_001), exact: true},
		{name: "the first byte", after: put(0, 1), exact: true},
		{name: "the last byte", after: put(rangesSize-1, 1), exact: true},
		{name: "synced", after: all(put(1<<20, 8192), synced), exact: true},
		{name: "append", after: put(rangesSize, 100_000), exact: true},
		{name: "append to a ragged end", before: truncate(rangesSize - 1000), after: put(rangesSize-1000, 100_000), exact: true},
		{name: "append after a hole", after: put(rangesSize+1<<20+5, 100), exact: true},
		{name: "shrink", after: truncate(1 << 20), exact: true, same: true},
		{name: "shrink to a ragged end", after: truncate(1<<20 - 777), exact: true},
		{name: "shrink to nothing", after: truncate(0), exact: true, same: true},
		{name: "shrink and grow", after: all(truncate(1<<20-777), truncate(rangesSize)), exact: true},
		{name: "shrink, grow and write", after: all(truncate(1<<20-777), truncate(rangesSize), put(2<<20, 100)), exact: true},
		{name: "grow", after: truncate(rangesSize + 1<<20), exact: true},
		{name: "grow from a ragged end", before: truncate(rangesSize - 5), after: truncate(rangesSize + 1<<20), exact: true},
		{name: "from nothing", before: truncate(0), after: put(0, 100_000), exact: true},
		{name: "from a few bytes", before: truncate(100), after: put(0, 50)},
		{name: "a few bytes to many", before: truncate(100), after: put(50, 1<<20)},
		{name: "punch a hole", after: space(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<20+5, 200_000), exact: true},
		{name: "write into a hole", before: space(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<20, 1<<20), after: put(1<<20+300_000, 4000), exact: true},
		{name: "zero a range", after: space(unix.FALLOC_FL_ZERO_RANGE, 1<<20+5, 200_000)},
		{name: "collapse a range", after: space(unix.FALLOC_FL_COLLAPSE_RANGE, 1<<20, 1<<20)},
		{name: "insert a range", after: space(unix.FALLOC_FL_INSERT_RANGE, 1<<20, 1<<20)},
		{name: "preallocate past the end", before: space(unix.FALLOC_FL_KEEP_SIZE, rangesSize, 1<<20), after: put(rangesSize+5000, 5000), exact: true},
		{name: "write into preallocated", before: all(truncate(0), space(0, 0, rangesSize), synced), after: put(1<<20+5, 8192), exact: true},
		{name: "preallocate over a hole", before: all(truncate(0), truncate(rangesSize)), after: space(0, 0, rangesSize), exact: true, same: true},
		{name: "preallocated to a hole", before: all(truncate(0), space(0, 0, rangesSize)), after: all(truncate(0), truncate(rangesSize)), exact: true, same: true},
		{name: "preallocated, written, preallocated again", before: all(truncate(0), space(0, 0, rangesSize), put(1<<20, 1<<20), synced),
			after: all(space(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, rangesSize), space(0, 0, rangesSize))},
		// A page in memory may be 2 MiB.
		{name: "through a mapping", after: mapped(3<<20-3, "stored")},
		{name: "past the page cache", after: direct(1<<20, 64<<10), exact: true},
		{name: "the same again", after: all(put(1<<20, 8192), put(1<<20, 8192)), before: put(1<<20, 8192), exact: true},
		{name: "share a part", after: share(0, 1<<20, 2<<20)},
		{name: "share back and forth", before: share(0, 1<<20, 2<<20), after: all(put(100_000, 9), share(2<<20, 1<<20, 0), put(2<<20+7, 9))},
		{name: "write to shared blocks", before: share(0, 1<<20, 2<<20), after: all(put(0, 4096), put(2<<20+8192, 4096)), exact: true},
		{name: "compressed", before: flagged(flagCompress, squeezable(rangesSize)), after: put(1<<20, 8192)},
		{name: "compressed, its blocks moved within", before: flagged(flagCompress, squeezable(rangesSize)),
			after: all(share(128<<10, 64<<10, 192<<10), share(64<<10, 64<<10, 0))},
		{name: "compressed, punched and shared", before: flagged(flagCompress, squeezable(rangesSize)),
			after: all(space(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 64<<10, 64<<10), share(0, 64<<10, 1<<20))},
		{name: "compressed and plain", before: flagged(flagCompress, squeezable(rangesSize)), after: flagged(0, squeezable(rangesSize))},
		{name: "not copied on write", before: flagged(flagNoCow, fill(rangesSize, 3)), after: put(1<<20, 8192), exact: true},
		{name: "not copied on write, twice over", before: flagged(flagNoCow, fill(rangesSize, 3)),
			after: all(put(1<<20, 8192), synced, put(1<<20+4096, 100), synced, put(3<<20, 1<<20)), exact: true},
		{name: "not copied on write, preallocated", before: all(flagged(flagNoCow, nil), space(0, 0, rangesSize), put(0, 1<<20), synced),
			after: all(put(1<<20, 8192), put(4096, 4096)), exact: true},
		{name: "another file of the name", after: func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".new", fill(rangesSize, 9), 0o600))
			must(t, os.Rename(path+".new", path))
		}},
		{name: "a clone with a change takes the name", after: func(t *testing.T, path string) {
			g, err := os.Create(path + ".new")
			must(t, err)
			h, err := os.Open(path)
			must(t, err)
			must(t, unix.IoctlFileClone(int(g.Fd()), int(h.Fd())))
			h.Close()
			_, err = g.WriteAt([]byte("changed in the clone"), 1<<20)
			must(t, err)
			must(t, g.Close())
			must(t, os.Rename(path+".new", path))
		}},
		{name: "removed and made again in its place", after: func(t *testing.T, path string) {
			must(t, os.Remove(path))
			syncAll(t, path)
			must(t, os.WriteFile(path, fill(rangesSize, 11), 0o600))
		}},
	}
}

// syncAll has the file system give back what was removed.
func syncAll(t *testing.T, path string) {
	t.Helper()
	d, err := os.Open(filepath.Dir(path))
	must(t, err)
	defer d.Close()
	must(t, unix.Syncfs(int(d.Fd())))
}

// testRangesCover makes each change to a file of its own and compares what the
// provider tells with what is read.
func testRangesCover(t *testing.T, f *fixture) {
	teller := f.teller(t)
	if teller == nil {
		return
	}
	list := changes()
	must(t, os.MkdirAll(f.path("data"), 0o755))
	name := func(c change) string { return "data/" + strings.ReplaceAll(c.name, " ", "-") }
	var kept []change
	for i, c := range list {
		must(t, os.WriteFile(f.path(name(c)), fill(rangesSize, uint64(i)), 0o644))
		if c.before != nil {
			c.before(t, f.path(name(c)))
		}
		kept = append(kept, c)
	}
	base, was := f.copyNow(t)
	for _, c := range kept {
		c.after(t, f.path(name(c)))
	}
	// Nothing is flushed: what is still to be written has no place yet.
	now, is := f.copyNow(t)
	for _, c := range kept {
		t.Run(c.name, func(t *testing.T) {
			told, err := teller.ChangedRanges(t.Context(), base, now, name(c))
			if errors.Is(err, vss.ErrNotSupported) && !c.exact {
				t.Logf("refused: %v", err)
				return
			}
			must(t, err)
			want, size := differing(t, filepath.Join(was.Root, name(c)), filepath.Join(is.Root, name(c)))
			sum := covers(t, c.name, told, want, size)
			differ := uint64(0)
			for _, w := range want {
				differ += w.Length
			}
			if c.exact && sum > differ+rangesBlock*uint64(len(want)+1) || c.same && sum > 0 {
				t.Errorf("%d bytes in %d ranges are told, %d differ in %d places", sum, len(told), differ, len(want))
			}
		})
	}
}

// testRangesFuzz changes files at random over several copies, and compares each
// copy with each one before.
func testRangesFuzz(t *testing.T, f *fixture) {
	teller := f.teller(t)
	if teller == nil {
		return
	}
	must(t, os.MkdirAll(f.path("data"), 0o755))
	names := []string{"data/plain", "data/squeezed", "data/inplace", "data/small", "data/other"}
	must(t, os.WriteFile(f.path(names[0]), fill(rangesSize, 1), 0o644))
	for i, flags := range []int{flagCompress, flagNoCow} {
		must(t, os.WriteFile(f.path(names[i+1]), nil, 0o644))
		flagged(flags, squeezable(rangesSize))(t, f.path(names[i+1]))
	}
	must(t, os.WriteFile(f.path(names[3]), fill(1000, 1), 0o644))
	must(t, os.WriteFile(f.path(names[4]), fill(rangesSize, 2), 0o644))
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	seed := rng.Uint64()
	if s := os.Getenv("SOMBRA_RANGES_SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		must(t, err)
	}
	t.Logf("SOMBRA_RANGES_SEED=%d", seed)
	rng = rand.New(rand.NewPCG(seed, 0))
	type made struct {
		ref  provider.Ref
		root string
	}
	var copies []made
	for range 5 {
		ref, c := f.copyNow(t)
		for _, old := range copies {
			for _, name := range names {
				told, err := teller.ChangedRanges(t.Context(), old.ref, ref, name)
				if errors.Is(err, vss.ErrNotSupported) {
					continue
				}
				must(t, err)
				want, size := differing(t, filepath.Join(old.root, name), filepath.Join(c.Root, name))
				covers(t, name, told, want, size)
			}
		}
		copies = append(copies, made{ref, c.Root})
		for range 60 {
			mangle(t, rng, f.path(names[rng.IntN(len(names))]), f.path(names[rng.IntN(len(names))]))
		}
		if t.Failed() {
			t.Fatalf("with SOMBRA_RANGES_SEED=%d", seed)
		}
	}
}

// mangle does one thing to a file, perhaps with another. What the file system
// has no such thing as, or refuses for such files, is left undone.
func mangle(t *testing.T, rng *rand.Rand, path, other string) {
	t.Helper()
	g, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer g.Close()
	info, err := g.Stat()
	must(t, err)
	size := max(info.Size(), 1)
	off, n := rng.Int64N(size), 1+rng.Int64N(200_000)
	const block = 4096
	blockOff, blockN := off/block*block, (n+block-1)/block*block
	fd := int(g.Fd())
	switch rng.IntN(14) {
	case 0, 1, 2, 3, 4:
		if rng.IntN(2) == 0 {
			off, n = blockOff, block
		}
		_, err = g.WriteAt(fill(int(n), rng.Uint64N(50)), off)
		must(t, err)
	case 5:
		_, err = g.WriteAt(squeezable(int(n)), off)
		must(t, err)
	case 6:
		must(t, g.Truncate(min(size/2+rng.Int64N(size), rangesSize*2)))
	case 7:
		_ = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	case 8:
		_ = unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	case 9:
		_ = unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE*uint32(rng.IntN(2)), off, n)
	case 10:
		if size < rangesSize*2 {
			_ = unix.Fallocate(fd, []uint32{unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE}[rng.IntN(2)], blockOff, block)
		}
	case 11:
		h, err := os.Open(other)
		must(t, err)
		defer h.Close()
		_ = unix.IoctlFileCloneRange(fd, &unix.FileCloneRange{Src_fd: int64(h.Fd()), Src_offset: uint64(rng.Int64N(size) / block * block),
			Src_length: uint64(blockN), Dest_offset: uint64(blockOff)})
	case 12:
		must(t, g.Sync())
	case 13:
		if rng.IntN(4) == 0 {
			must(t, unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE))
		}
	}
}

// testRangesRefused asks for what nobody can vouch for.
func testRangesRefused(t *testing.T, f *fixture) {
	teller := f.teller(t)
	if teller == nil {
		return
	}
	must(t, os.MkdirAll(f.path("data/dir"), 0o755))
	for _, name := range []string{"data/file", "data/later-renamed", "data/tampered"} {
		must(t, os.WriteFile(f.path(name), fill(1<<20, 4), 0o644))
	}
	must(t, os.Symlink("file", f.path("data/link")))
	must(t, os.Symlink("dir", f.path("data/dirlink")))
	must(t, os.WriteFile(f.path("data/dir/file"), fill(1<<20, 4), 0o644))
	base, was := f.copyNow(t)
	must(t, os.Rename(f.path("data/later-renamed"), f.path("data/renamed")))
	must(t, os.WriteFile(f.path("data/new"), fill(1<<20, 4), 0o644))
	now, _ := f.copyNow(t)
	ask := func(what string, base, now provider.Ref, name string, ok bool) {
		t.Helper()
		ranges, err := teller.ChangedRanges(t.Context(), base, now, name)
		if ok && err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if !ok && !errors.Is(err, vss.ErrNotSupported) {
			t.Errorf("%s: %v, %v; want VSS_E_NOT_SUPPORTED", what, ranges, err)
		}
	}
	ask("a file in both", base, now, "data/file", true)
	ask("in a directory", base, now, "data/dir/file", true)
	ask("a copy with itself", base, base, "data/file", true)
	ask("the other way round", now, base, "data/file", true)
	ask("renamed: the new name", base, now, "data/renamed", false)
	ask("renamed: the old name", base, now, "data/later-renamed", false)
	ask("new", base, now, "data/new", false)
	ask("nowhere", base, now, "data/nowhere", false)
	ask("a directory", base, now, "data/dir", false)
	ask("a link", base, now, "data/link", false)
	ask("through a link", base, now, "data/dirlink/file", false)
	ask("out of the copy", base, now, "../../../../../../../etc/passwd", false)
	ask("absolute", base, now, "/etc/passwd", false)
	ask("a very long name", base, now, strings.Repeat("x", 10_000), false)
	unknown := base
	unknown.SnapshotID = vss.NewGUID()
	ask("a base that never was", unknown, now, "data/file", false)

	// What somebody changed in the copy since is not what was in it.
	if g, err := os.OpenFile(filepath.Join(was.Root, "data/tampered"), os.O_RDWR, 0); err == nil {
		_, err = g.WriteAt([]byte("tampered with"), 1000)
		must(t, err)
		must(t, g.Close())
		ask("changed in the base", base, now, "data/tampered", false)
		ask("beside what was changed", base, now, "data/file", true)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := teller.ChangedRanges(ctx, base, now, "data/file"); !errors.Is(err, ctx.Err()) {
		t.Errorf("with an ended context: %v", err)
	}

	// The base's blocks are given to others when it goes.
	must(t, f.p.Delete(t.Context(), base))
	ask("after the base was deleted", base, now, "data/file", false)
	must(t, f.h.New().Delete(t.Context(), now))
	ask("after both were deleted", base, now, "data/file", false)
}

// testHeld: a copy takes no space of its own until what it shares is removed.
func testHeld(t *testing.T, f *fixture) {
	const size = 8 << 20
	must(t, os.MkdirAll(f.path("data"), 0o755))
	must(t, os.WriteFile(f.path("data/large"), fill(size, 1), 0o644))
	sizer, ok := f.p.(provider.Sizer)
	if !ok {
		if f.caps.ChangedRanges {
			t.Error("copies are compared, and nobody tells what keeping them costs")
		}
		return
	}
	ref, _ := f.copyNow(t)
	must(t, os.WriteFile(f.path("data/other"), fill(size, 2), 0o644))
	if n, all, err := sizer.Held(t.Context(), ref); err != nil || !all || n > rangesBlock {
		t.Errorf("a new copy takes %d bytes (all: %v), %v", n, all, err)
	}
	must(t, os.Remove(f.path("data/large")))
	syncAll(t, f.path("data"))
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		n, all, err := sizer.Held(t.Context(), ref)
		if err == nil && all && n >= size && n < size+rangesBlock {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("when the file was removed it takes %d bytes (all: %v), %v; want %d", n, all, err, size)
		}
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, all, err := sizer.Held(ctx, ref); err != nil || all {
		t.Errorf("without time: all: %v, %v", all, err)
	}
}
