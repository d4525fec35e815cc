package mountfs

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
)

// These tests call the file system as go-fuse does. Those in mount_linux_test.go
// mount it.

// opened is a file system as the kernel would use it.
type opened struct {
	*FS
	t testing.TB
}

func open(t testing.TB, repo *repository.Repository, o Options) opened {
	t.Helper()
	f, err := New(t.Context(), repo, o)
	if err != nil {
		t.Fatal(err)
	}
	return opened{f, t}
}

func header(id uint64) fuse.InHeader { return fuse.InHeader{NodeId: id} }

// walk looks a path up name by name.
func (o opened) walk(path string) (fuse.EntryOut, fuse.Status) {
	out := fuse.EntryOut{NodeId: rootNode}
	for name := range strings.SplitSeq(path, "/") {
		h := header(out.NodeId)
		out = fuse.EntryOut{}
		if code := o.Lookup(nil, &h, name, &out); code != fuse.OK {
			return out, code
		}
		if out.NodeId == 0 {
			return out, fuse.ENOENT
		}
	}
	return out, fuse.OK
}

func (o opened) must(path string) fuse.EntryOut {
	o.t.Helper()
	out, code := o.walk(path)
	if code != fuse.OK {
		o.t.Fatalf("%q: %v", path, code)
	}
	return out
}

// list reads a directory with a buffer of the given size.
func (o opened) list(id uint64, buffer int) (names []string, outs []fuse.EntryOut) {
	o.t.Helper()
	offset := uint64(0)
	for range 100_000 {
		l := fuse.NewDirEntryList(make([]byte, buffer), offset)
		if code := o.ReadDirPlus(nil, &fuse.ReadIn{InHeader: header(id), Offset: offset}, l); code != fuse.OK {
			o.t.Fatalf("list %x from %d: %v", id, offset, code)
		}
		entries, attrs, err := fuse.ParseDirLookupEntries(l.Bytes())
		if err != nil {
			o.t.Fatal(err)
		}
		if len(entries) == 0 {
			return names, outs
		}
		for i, e := range entries {
			if offset = e.Off; e.Name != "." && e.Name != ".." {
				names, outs = append(names, e.Name), append(outs, attrs[i])
			}
		}
	}
	o.t.Fatal("a listing without end")
	return nil, nil
}

// open opens a file.
func (o opened) open(id uint64) (uint64, fuse.Status) {
	var out fuse.OpenOut
	code := o.Open(nil, &fuse.OpenIn{InHeader: header(id)}, &out)
	return out.Fh, code
}

// read reads once.
func (o opened) read(fh uint64, offset int64, size int) ([]byte, fuse.Status) {
	buf := make([]byte, size)
	r, code := o.Read(nil, &fuse.ReadIn{Fh: fh, Offset: uint64(offset), Size: uint32(size)}, buf)
	if code != fuse.OK {
		return nil, code
	}
	data, code := r.Bytes(buf)
	return slices.Clone(data), code
}

func (o opened) readAll(id uint64, step int) []byte {
	o.t.Helper()
	fh, code := o.open(id)
	if code != fuse.OK {
		o.t.Fatalf("open %x: %v", id, code)
	}
	defer o.Release(nil, &fuse.ReleaseIn{Fh: fh})
	var all []byte
	for {
		data, code := o.read(fh, int64(len(all)), step)
		if code != fuse.OK {
			o.t.Fatalf("read %x at %d: %v", id, len(all), code)
		}
		if len(data) == 0 {
			return all
		}
		all = append(all, data...)
	}
}

func TestARecordIsShownWhole(t *testing.T) {
	s := newSample(t, mem.New())
	s.begin()
	s.fill()
	rec := s.commit(nil)
	o := open(t, s.repo, Options{})
	for _, buffer := range []int{512, 4096, 1 << 20} {
		seen := map[string]fuse.EntryOut{}
		inos := map[uint64]string{}
		var visit func(id uint64, path string)
		visit = func(id uint64, path string) {
			names, outs := o.list(id, buffer)
			for i, name := range names {
				p := strings.TrimPrefix(path+"/"+name, "/")
				if _, again := seen[p]; again {
					t.Fatalf("%q is listed twice", p)
				}
				seen[p] = outs[i]
				if looked := o.must("ids/" + rec.ID.Short() + "/" + p); looked.NodeId != outs[i].NodeId || looked.Attr != outs[i].Attr {
					t.Errorf("%q: listed as %+v, looked up as %+v", p, outs[i], looked)
				}
				if first, ok := inos[outs[i].Ino]; ok && !strings.Contains("d/one d.e/two d/large-group d/large-group2", first) {
					t.Errorf("%q and %q have one inode number", first, p)
				}
				inos[outs[i].Ino] = p
				if outs[i].Mode&syscall.S_IFMT == syscall.S_IFDIR {
					visit(outs[i].NodeId, p)
				}
			}
		}
		visit(o.must("ids/"+rec.ID.Short()).NodeId, "")
		n := 0
		for e, err := range rec.Table().All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Path == "" {
				continue
			}
			n++
			out, ok := seen[e.Path]
			if !ok {
				t.Errorf("buffer of %d: %q is not listed", buffer, e.Path)
				continue
			}
			if want := fileMode(e, "posix"); out.Mode != want || out.Uid != e.UID || out.Gid != e.GID ||
				out.Mtime != uint64(e.ModTime.Unix()) || out.Mtimensec != uint32(e.ModTime.Nanosecond()) {
				t.Errorf("%q is shown as %+v", e.Path, out.Attr)
			}
			if e.Type == repository.Regular && out.Size != uint64(e.Size) {
				t.Errorf("%q has size %d, not %d", e.Path, out.Size, e.Size)
			}
		}
		if implied := 3; len(seen) != n+implied+1 { // and "many"
			t.Errorf("buffer of %d: %d are shown, %d are in the record", buffer, len(seen), n)
		}
	}
	for p, want := range s.data {
		if got := o.readAll(o.must("ids/"+rec.ID.Short()+"/"+p).NodeId, 13_001); !bytes.Equal(got, want) {
			t.Errorf("%q: what is read differs", p)
		}
	}
	top := "ids/" + rec.ID.Short() + "/"
	one, two := o.must(top+"d/one"), o.must(top+"d.e/two")
	if one.Ino != two.Ino || one.Nlink != 2 {
		t.Errorf("names of one file: %+v, %+v", one.Attr, two.Attr)
	}
	if a, b := o.must(top+"d/large-group"), o.must(top+"d/large-group2"); a.Ino != b.Ino || a.Ino == one.Ino {
		t.Errorf("names of one file of a large number: %+v, %+v", a.Attr, b.Attr)
	}
	if sparse := o.must(top + "sparse"); sparse.Blocks < 105_000/512 || sparse.Blocks > 110_000/512 {
		t.Errorf("the sparse file has %d blocks", sparse.Blocks)
	}
	if null := o.must(top + "null"); null.Rdev != 1<<8|3 {
		t.Errorf("the device has number %x", null.Rdev)
	}
	h := header(o.must(top + "link").NodeId)
	if target, code := o.Readlink(nil, &h); string(target) != "d/big" || code != fuse.OK {
		t.Errorf("the link leads to %q, %v", target, code)
	}
	if _, code := o.open(o.must(top + "not saved").NodeId); code != fuse.EIO {
		t.Errorf("a file without its data opens: %v", code)
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	s := newSample(t, mem.New())
	s.begin()
	s.fill()
	rec := s.commit(nil)
	o := open(t, s.repo, Options{})
	id := o.must("ids/" + rec.ID.Short() + "/d/big").NodeId
	for _, flags := range []uint32{syscall.O_WRONLY, syscall.O_RDWR, syscall.O_RDONLY | syscall.O_TRUNC} {
		if code := o.Open(nil, &fuse.OpenIn{InHeader: header(id), Flags: flags}, &fuse.OpenOut{}); code != fuse.EROFS {
			t.Errorf("open with %#o: %v", flags, code)
		}
	}
	if code := o.SetAttr(nil, &fuse.SetAttrIn{}, &fuse.AttrOut{}); code == fuse.OK {
		t.Error("attributes can be set")
	}
	h := header(rootNode)
	if code := o.Unlink(nil, &h, "latest"); code == fuse.OK {
		t.Error("files can be removed")
	}
}

func TestExtendedAttributesAreShown(t *testing.T) {
	s := newSample(t, mem.New())
	s.begin()
	s.fill()
	rec := s.commit(nil)
	o := open(t, s.repo, Options{})
	h := header(o.must("ids/" + rec.ID.Short() + "/d.e/x").NodeId)
	size, code := o.ListXAttr(nil, &h, nil)
	if code != fuse.ERANGE {
		t.Errorf("the size of the list: %d, %v", size, code)
	}
	buf := make([]byte, size)
	if n, code := o.ListXAttr(nil, &h, buf); string(buf[:n]) != "user.a\x00user.empty\x00" || code != fuse.OK {
		t.Errorf("the list is %q, %v", buf[:n], code)
	}
	for name, want := range map[string]string{"user.a": "1", "user.empty": ""} {
		buf := make([]byte, 10)
		if n, code := o.GetXAttr(nil, &h, name, buf); string(buf[:n]) != want || code != fuse.OK {
			t.Errorf("%s is %q, %v", name, buf[:n], code)
		}
	}
	if _, code := o.GetXAttr(nil, &h, "user.none", nil); code != fuse.ENODATA {
		t.Errorf("an attribute that is not there: %v", code)
	}
}

func TestHolesAreFound(t *testing.T) {
	s := newSample(t, mem.New())
	s.begin()
	s.fill()
	rec := s.commit(nil)
	o := open(t, s.repo, Options{})
	fh, code := o.open(o.must("ids/" + rec.ID.Short() + "/sparse").NodeId)
	if code != fuse.OK {
		t.Fatal(code)
	}
	for _, tt := range []struct{ whence, from, want int64 }{
		{seekData, 0, 300_000}, {seekHole, 0, 0}, {seekData, 350_000, 350_000}, {seekHole, 350_000, 400_000},
		{seekHole, 902_000, 905_000}, {seekData, 905_000, -1}, {seekHole, 1_000_000, -1},
	} {
		var out fuse.LseekOut
		code := o.Lseek(nil, &fuse.LseekIn{Fh: fh, Offset: uint64(tt.from), Whence: uint32(tt.whence)}, &out)
		if tt.want < 0 && code != fuse.Status(syscall.ENXIO) || tt.want >= 0 && (code != fuse.OK || int64(out.Offset) != tt.want) {
			t.Errorf("whence %d from %d: %d, %v, want %d", tt.whence, tt.from, out.Offset, code, tt.want)
		}
	}
}

// TestHostileNamesStayNames: hosts, tags and roots of the medium's choosing
// give one directory each, and lead nowhere else.
func TestHostileNamesStayNames(t *testing.T) {
	s := newSample(t, mem.New())
	hostile := []string{"..", ".", "a/../../etc", "\x1b[2Jx\n", "100%", strings.Repeat("l", 255), strings.Repeat("/", 200), "latest"}
	s.begin()
	for _, id := range hostile {
		s.add(repository.Entry{Root: id, Path: "f", Type: repository.Fifo})
	}
	s.commit(func(info *repository.RecordInfo) {
		info.Host.Name, info.Tags, info.Roots = "../..", append(hostile, ""), nil
		for _, id := range hostile {
			info.Roots = append(info.Roots, repository.Root{ID: id})
		}
	})
	o := open(t, s.repo, Options{})
	for _, dir := range []string{"hosts", "tags", "ids"} {
		names, outs := o.list(o.must(dir).NodeId, 4096)
		if want := map[string]int{"hosts": 1, "tags": len(hostile) + 1, "ids": 1}[dir]; len(names) != want {
			t.Errorf("%s has %q, want %d names", dir, names, want)
		}
		for i, name := range names {
			if len(name) > 255 || strings.ContainsAny(name, "/\x00\x1b\n") || name == "." || name == ".." || name == "" {
				t.Errorf("%s has %q", dir, name)
			}
			if again := o.must(dir + "/" + name); again.NodeId != outs[i].NodeId {
				t.Errorf("%s/%s is another when it is looked up", dir, name)
			}
		}
	}
	target, _ := o.Readlink(nil, &fuse.InHeader{NodeId: o.must("latest").NodeId})
	roots, _ := o.list(o.must(string(target)).NodeId, 4096)
	if len(roots) != len(hostile) {
		t.Errorf("the roots are %q", roots)
	}
	for _, r := range roots {
		if names, _ := o.list(o.must(string(target)+"/"+r).NodeId, 4096); !slices.Equal(names, []string{"f"}) {
			t.Errorf("root %q has %q", r, names)
		}
	}
	for _, path := range []string{"hosts/..", "ids/.", "hosts/a/b", "nothing"} {
		if _, code := o.walk(path); code != fuse.ENOENT {
			t.Errorf("%q: %v", path, code)
		}
	}
	// Numbers that were never given.
	for _, id := range []uint64{0, 99, 500 << slotShift, 1<<slotShift | 77<<entryShift | isRoot, 1<<slotShift | maxEntry<<entryShift, 1<<slotShift | 3, ^uint64(0)} {
		if code := o.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(id)}, &fuse.AttrOut{}); code == fuse.OK {
			t.Errorf("node %x is there", id)
		}
		if code := o.Open(nil, &fuse.OpenIn{InHeader: header(id)}, &fuse.OpenOut{}); code == fuse.OK {
			t.Errorf("node %x opens", id)
		}
	}
}

func TestNewBackupsAppearAndNumbersStay(t *testing.T) {
	s := newSample(t, mem.New())
	s.begin()
	s.fill()
	first := s.commit(nil)
	o := open(t, s.repo, Options{Refresh: time.Nanosecond})
	before := o.must("ids/" + first.ID.Short() + "/d/big")
	for i := range 3 {
		s.begin()
		s.file(repository.Entry{Path: "new"}, []byte("new"))
		rec := s.commit(func(info *repository.RecordInfo) {
			if i == 2 {
				info.Time = info.Time.Add(time.Hour)
			}
		})
		if got := o.readAll(o.must("ids/"+rec.ID.Short()+"/new").NodeId, 100); string(got) != "new" {
			t.Errorf("read %q", got)
		}
		if i == 2 {
			h := header(o.must("hosts/host/latest").NodeId)
			if target, _ := o.Readlink(nil, &h); string(target) != "2026-11-22T02-02-03Z" {
				t.Errorf("the newest is %q", target)
			}
		}
	}
	names, _ := o.list(o.must("hosts/host").NodeId, 512)
	if len(names) != 5 {
		t.Errorf("the host has %q, want four backups and a link", names)
	}
	if after := o.must("ids/" + first.ID.Short() + "/d/big"); after.NodeId != before.NodeId || after.Ino != before.Ino {
		t.Error("a number changed")
	}
	// One that goes is listed no longer, and what is known of it ends well.
	if err := s.st.Delete(t.Context(), "records/"+first.ID.String()); err != nil {
		t.Fatal(err)
	}
	if _, code := o.walk("ids/" + first.ID.Short()); code != fuse.ENOENT {
		t.Errorf("a record that is gone: %v", code)
	}
	if names, _ := o.list(o.must("hosts/host").NodeId, 512); len(names) != 4 {
		t.Errorf("the host has %q", names)
	}
	if code := o.GetAttr(nil, &fuse.GetAttrIn{InHeader: header(before.NodeId)}, &fuse.AttrOut{}); code != fuse.OK {
		t.Errorf("a file known before: %v", code)
	}
}

// damagedStore flips a byte of one object wherever it is read.
type damagedStore struct {
	store.Store
	name atomic.Pointer[string]
	at   int64
}

func (s *damagedStore) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	n, err := s.Store.ReadAt(ctx, name, p, off)
	if bad := s.name.Load(); bad != nil && name == *bad && off <= s.at && s.at < off+int64(n) {
		p[s.at-off] ^= 1
	}
	return n, err
}

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

// largestPack finds the largest object below a prefix.
func largestPack(t testing.TB, st store.Store, prefix string) (name string, size int64) {
	t.Helper()
	err := st.List(t.Context(), prefix, func(info store.Info) error {
		if info.Size > size {
			name, size = info.Name, info.Size
		}
		return nil
	})
	if err != nil || name == "" {
		t.Fatalf("no pack: %v", err)
	}
	return name, size
}

func TestDamageIsAnErrorOfItsRangeAndIsNamed(t *testing.T) {
	st := &damagedStore{Store: mem.New()}
	s := newSample(t, st)
	s.begin()
	s.file(repository.Entry{Path: "big", Mode: 0o600}, random(4_000_000, 9))
	s.file(repository.Entry{Path: "other", Mode: 0o600}, []byte("unharmed"))
	rec := s.commit(nil)
	repo, err := repository.Open(t.Context(), st, []byte("secret"), smallOptions())
	if err != nil {
		t.Fatal(err)
	}
	name, size := largestPack(t, st, "data/")
	st.at = size / 2
	st.name.Store(&name)
	var log lockedBuffer
	o := open(t, repo, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	top := "ids/" + rec.ID.Short()
	fh, code := o.open(o.must(top + "/big").NodeId)
	if code != fuse.OK {
		t.Fatal(code)
	}
	const page = 4096
	good, bad := 0, 0
	for at := 0; at < len(s.data["big"]); at += page {
		want := s.data["big"][at:min(at+page, len(s.data["big"]))]
		switch data, code := o.read(fh, int64(at), page); {
		case code == fuse.EIO:
			bad += len(want)
		case code != fuse.OK || !bytes.Equal(data, want):
			t.Fatalf("at %d: %d bytes, %v", at, len(data), code)
		default:
			good += len(want)
		}
	}
	// A frame is up to about a megabyte.
	if bad == 0 || good < 1_500_000 {
		t.Errorf("%d bytes are read, %d are errors", good, bad)
	}
	// A longer read that touches it fails as a whole: a short answer would pass
	// for the file's end.
	whole := 0
	for at := 0; at < len(s.data["big"]); at += 128 << 10 {
		data, code := o.read(fh, int64(at), 128<<10)
		if code == fuse.OK && len(data) != min(128<<10, len(s.data["big"])-at) {
			t.Errorf("a short answer at %d: %d bytes", at, len(data))
		}
		if code == fuse.EIO {
			whole++
		}
	}
	if whole == 0 {
		t.Error("no long read failed")
	}
	if text := log.text(); !strings.Contains(text, name) || strings.Count(text, "\n") > 10 {
		t.Errorf("the log has\n%s", text)
	}
	if got := o.readAll(o.must(top+"/other").NodeId, 100); string(got) != "unharmed" {
		t.Errorf("read %q", got)
	}
}

func TestManyReadersAtOnce(t *testing.T) {
	s := newSample(t, mem.New())
	s.begin()
	s.fill()
	rec := s.commit(nil)
	o := open(t, s.repo, Options{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for _, p := range []string{"d/big", "sparse"} {
				want := s.data[p]
				out, _ := o.walk("ids/" + rec.ID.Short() + "/" + p)
				fh, code := o.open(out.NodeId)
				if code != fuse.OK {
					t.Errorf("open: %v", code)
					return
				}
				for range 200 {
					at, n := rng.IntN(len(want)), 1+rng.IntN(200_000)
					got, code := o.read(fh, int64(at), n)
					if code != fuse.OK || !bytes.Equal(got, want[at:min(at+n, len(want))]) {
						t.Errorf("%s at %d: %d bytes, %v", p, at, len(got), code)
						return
					}
				}
				o.Release(nil, &fuse.ReleaseIn{Fh: fh})
			}
		})
	}
	wg.Wait()
	if n := len(o.files.handles); n != 0 {
		t.Errorf("%d files are still open", n)
	}
}

// TestASeriesOfReadsDecodesEachPieceOnce: with reading ahead, and several
// requests of the kernel at once.
func TestASeriesOfReadsDecodesEachPieceOnce(t *testing.T) {
	st := &countingStore{Store: mem.New()}
	s := newSample(t, st)
	s.begin()
	s.file(repository.Entry{Path: "big"}, random(12_000_000, 5))
	rec := s.commit(nil)
	repo, err := repository.Open(t.Context(), st, []byte("secret"), smallOptions())
	if err != nil {
		t.Fatal(err)
	}
	o := open(t, repo, Options{})
	id := o.must("ids/" + rec.ID.Short() + "/big").NodeId
	st.bytes.Store(0)
	if got := o.readAll(id, 128<<10); !bytes.Equal(got, s.data["big"]) {
		t.Fatal("what is read differs")
	}
	if n := st.bytes.Load(); n > 12_000_000*5/4 {
		t.Errorf("%d bytes were fetched for 12 000 000", n)
	}
}

// TestDataThatWasPutElsewhereIsFound: while the mount lasts others prune. What
// the index said when it began is then no longer so.
func TestDataThatWasPutElsewhereIsFound(t *testing.T) {
	st := mem.New()
	s := newSample(t, st)
	s.begin()
	s.file(repository.Entry{Path: "f"}, random(100_000, 6))
	rec := s.commit(nil)
	options := smallOptions()
	options.CacheBytes = 1
	reader, err := repository.Open(t.Context(), st, []byte("secret"), options)
	if err != nil {
		t.Fatal(err)
	}
	o := open(t, reader, Options{Refresh: time.Hour})
	id := o.must("ids/" + rec.ID.Short() + "/f").NodeId
	for round := range 2 {
		// The pack goes, and another backup puts the data elsewhere.
		pack, _ := largestPack(t, st, "data/")
		if err := st.Delete(t.Context(), pack); err != nil {
			t.Fatal(err)
		}
		if s.repo, err = repository.Open(t.Context(), st, []byte("secret"), smallOptions()); err != nil {
			t.Fatal(err)
		}
		s.begin()
		s.file(repository.Entry{Path: fmt.Sprint(round)}, s.data["f"])
		s.commit(nil)
		if again, _ := largestPack(t, st, "data/"); again == pack {
			t.Fatal("the data is where it was")
		}
		if got := o.readAll(id, 10_000); !bytes.Equal(got, s.data["f"]) {
			t.Errorf("round %d: what is read differs", round)
		}
	}
}

// countingStore counts what is read of data.
type countingStore struct {
	store.Store
	bytes atomic.Int64
}

func (s *countingStore) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if strings.HasPrefix(name, "data/") {
		s.bytes.Add(int64(len(p)))
	}
	return s.Store.ReadAt(ctx, name, p, off)
}

func TestOptionsChooseBackups(t *testing.T) {
	s := newSample(t, mem.New())
	for _, host := range []string{"a", "b"} {
		s.begin()
		s.commit(func(info *repository.RecordInfo) { info.Host.Name = host })
	}
	o := open(t, s.repo, Options{Show: func(r *repository.Record) bool { return r.Host.Name == "b" }})
	if names, _ := o.list(o.must("hosts").NodeId, 4096); !slices.Equal(names, []string{"b"}) {
		t.Errorf("hosts are %q", names)
	}
}

func FuzzFileName(f *testing.F) {
	for _, seed := range []string{"", ".", "..", "a/b", "%", "\x00", strings.Repeat("x", 300), "plain"} {
		f.Add(seed, "other")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		name := fileName(a)
		if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00\x1b\n") {
			t.Errorf("%q became %q", a, name)
		}
		if a != b && len(a) < 80 && name == fileName(b) {
			t.Errorf("%q and %q became %q", a, b, name)
		}
	})
}
