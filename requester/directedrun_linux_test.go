package requester_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// bytesOf is content that tells where it is from.
func bytesOf(word string, size int) string {
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "%s %d\n", word, b.Len())
	}
	return b.String()[:size]
}

// directWorld has a writer with the files data/a, data/b and data/sub/c.
func directWorld(t *testing.T) (*world, *docWriter) {
	t.Helper()
	w := newWorld(t)
	w.write("data/a", bytesOf("a", 3_000_000))
	w.write("data/b", bytesOf("b", 1000))
	w.write("data/sub/c", bytesOf("c", 1000))
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "main", true), files(m, "", "main", w.path("data"), "*", true)}
	})
	w.writers = []*docWriter{d}
	return w, d
}

// direct makes the writer's next instance direct ranges in PreRestore.
func (w *world) direct(d *docWriter, targets ...metadata.DirectedTarget) *docWriter {
	d = d.again()
	d.on = maps.Clone(d.on)
	d.on[writer.EventPreRestore] = func(e *writer.Event) error {
		c := e.Components.Components()[0]
		for _, t := range targets {
			if err := c.AddDirectedTarget(t); err != nil {
				return err
			}
		}
		return c.SetRestoreTarget(vss.RestoreTargetDirected)
	}
	w.writers = []*docWriter{d}
	return d
}

// to directs ranges of one file of the world to another.
func (w *world) to(source, ranges, dest, destRanges string) metadata.DirectedTarget {
	return metadata.DirectedTarget{
		SourcePath: filepath.Dir(w.path(source)), SourceName: filepath.Base(source), SourceRanges: ranges,
		DestinationPath: filepath.Dir(w.path(dest)), DestinationName: filepath.Base(dest), DestinationRanges: destRanges,
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Error(err)
	}
	return string(data)
}

func TestDirectedTargetsOfTheWholeFileR_RES_24(t *testing.T) {
	w, d := directWorld(t)
	when := time.Unix(1_700_000_000, 0)
	if err := os.Chtimes(w.path("data/a"), when, when); err != nil {
		t.Fatal(err)
	}
	a := w.read("data/a")
	res := w.backup(w.paths())
	w.wipe()
	d = w.direct(d, w.to("data/a", "0:3000000", "other/place/renamed", "0:3000000"), w.to("data/sub/c", "0:0x3e8", "data/sub/c", "0:1000"))
	back := w.restore(res.Record, requester.RestoreRequest{})
	if w.read("other/place/renamed") != a || w.read("data/sub/c") != bytesOf("c", 1000) {
		t.Error("the bytes are others")
	}
	if i, err := os.Stat(w.path("other/place/renamed")); err != nil || !i.ModTime().Equal(when) || i.Mode().Perm() != 0o644 {
		t.Errorf("the file has not the attributes of what it was: %v, %v", i, err)
	}
	for _, name := range []string{"data/a", "data/b"} {
		if _, err := os.Lstat(w.path(name)); err == nil {
			t.Errorf("%s was restored to its own place, too", name)
		}
	}
	// R-RES-26: what is directed nowhere is left out and named.
	if out := leftOut(back.LeftOut); back.Outcome != requester.Incomplete || !strings.Contains(out, w.path("data/b")) || back.LeftOuts != 1 {
		t.Errorf("outcome %v, left out %s", back.Outcome, out)
	}
	if d.status["main"] != vss.FileRestoreStatusAll {
		t.Errorf("status %v", d.status["main"])
	}
}

func TestDirectedTargetsOfRangesR_RES_23(t *testing.T) {
	w, d := directWorld(t)
	a, b := w.read("data/a"), w.read("data/b")
	res := w.backup(w.paths())
	old := bytesOf("old", 2_500_000)
	w.write("data/a", old) // source and destination are the same file
	w.write("data/b", "b of today")
	d = w.direct(d,
		w.to("data/a", "0:100,2000000:600000", "data/a", "5:100,2400000:600000"),
		w.to("data/b", "10:90", "data/a", "200:90"),
		w.to("data/a", "1000000:1048577", "new/file", "1000:1048577"), w.to("data/b", "0:1000", "new/file", "0:1000"))
	back := w.restore(res.Record, requester.RestoreRequest{})
	want := []byte(old[:2_400_000] + a[2_000_000:2_600_000])
	copy(want[5:], a[:100])
	copy(want[200:], b[10:100])
	if got := w.read("data/a"); got != string(want) {
		t.Error("the file that is there has other bytes than directed")
	}
	if w.read("new/file") != b+a[1_000_000:2_048_577] {
		t.Error("the new file has other bytes than directed")
	}
	if w.read("data/b") != "b of today" {
		t.Error("a file that is only a source was written")
	}
	if d.status["main"] != vss.FileRestoreStatusAll {
		t.Errorf("status %v, %+v", d.status["main"], back.Failures)
	}
	if n, _ := unix.Llistxattr(w.path("data/a"), make([]byte, 100)); n > 0 {
		t.Error("the file is still marked as half written")
	}
	// Run again it finds all in place.
	w.direct(d, w.to("data/a", "0:100", "data/a", "5:100"), w.to("data/b", "0:999", "new/file", "0:999"))
	before := tree(t, w.dir)
	if back = w.restore(res.Record, requester.RestoreRequest{}); back.Totals.Unchanged != 2 {
		t.Errorf("totals %+v", back.Totals)
	}
	diffTrees(t, tree(t, w.dir), before)
}

func TestDirectedTargetsThatAreNotSoundWriteNothing(t *testing.T) {
	w, d := directWorld(t)
	w.write("beside", "unclaimed")
	res := w.backup(w.paths())
	before := tree(t, w.dir)
	sound := w.to("data/a", "0:10", "data/b", "0:10")
	for _, tt := range []struct {
		bad  metadata.DirectedTarget
		want string
	}{
		{w.to("data/a", "2999999:2", "data/b", "0:2"), "of a file of 3000000"},
		{w.to("data/a", "0:1", "data/b", "1001:1"), "nothing would be between"},
		{w.to("data/b", "0:1", "data/b", "9:1"), "overlap"},
		{w.to("beside", "0:1", "data/b", "100:1"), "under no file set"},
		{w.to("data/none", "0:1", "data/b", "100:1"), "no file of the component"},
		{w.to("data/a", "0:1", "beside", "0:1"), "no writer, too"},
		{w.to("data/a", "0:1", "data/sub", "0:1"), "not a file"},
	} {
		d = w.direct(d, sound, tt.bad)
		back := w.restore(res.Record, requester.RestoreRequest{})
		if out := leftOut(back.LeftOut); back.Outcome != requester.Incomplete || !strings.Contains(out, tt.want) {
			t.Errorf("outcome %v, left out %s, want %q", back.Outcome, out, tt.want)
		}
		if d.status["main"] != vss.FileRestoreStatusNone {
			t.Errorf("status %v", d.status["main"])
		}
		diffTrees(t, tree(t, w.dir), before)
	}
	link := filepath.Join(w.dir, "data/b2")
	if err := os.Link(w.path("data/b"), link); err != nil {
		t.Fatal(err)
	}
	w.direct(d, sound)
	if out := leftOut(w.restore(res.Record, requester.RestoreRequest{}).LeftOut); !strings.Contains(out, "has 2 names") {
		t.Errorf("a file with a name the backup does not know: %s", out)
	}
}

// partialRecord is a record like another, of another type, in which a file of the
// component main has ranges of new content and nothing else.
func partialRecord(t *testing.T, w *world, like *repository.Record, kind, name, content, ranges string) *repository.Record {
	t.Helper()
	b, err := w.repo.Begin(t.Context(), repository.BeginOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	for e, err := range like.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n := e.Clone()
		if "/"+e.Path == w.path(name) {
			rs, err := vss.ParseRanges(ranges)
			if err != nil {
				t.Fatal(err)
			}
			src := repository.Source{At: strings.NewReader(content), Size: int64(len(content)), Data: []repository.Range{}}
			for _, r := range rs.Clip(uint64(len(content))) {
				src.Data = append(src.Data, repository.Range{Offset: int64(r.Offset), Length: int64(r.Length)})
			}
			if n.Content, err = b.PutFile(t.Context(), src); err != nil {
				t.Fatal(err)
			}
			n.Size, n.ModTime = src.Size, time.Unix(1_700_000_000, 0)
			n.Attrs[requester.AttrPartial], n.Attrs[requester.AttrMatched], n.Attrs[requester.AttrRanges] = "only", "partial", ranges
		}
		if err := b.Add(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	info := repository.RecordInfo{Time: time.Now(), Started: time.Now(), Type: kind, Host: like.Host, Summary: like.Summary,
		Roots: like.Roots, State: repository.Complete, Documents: map[string]repository.Content{}}
	for doc := range like.Documents {
		data, err := like.Document(t.Context(), doc, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if doc == requester.DocHistory {
			continue
		}
		if info.Documents[doc], err = b.PutBytes(t.Context(), data); err != nil {
			t.Fatal(err)
		}
	}
	rec, err := b.Commit(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestPartialFileIsWrittenIntoTheOneThatIsThereR_RES_27(t *testing.T) {
	w, d := directWorld(t)
	a := []byte(w.read("data/a"))
	res := w.backup(w.paths())
	now := bytesOf("now", 3_100_000)
	rec := partialRecord(t, w, res.Record, "incremental", "data/a", now, "0:5,2000000:0x100,2999000:101000")
	inode := func() uint64 {
		var st unix.Stat_t
		if err := unix.Lstat(w.path("data/a"), &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	was := inode()
	d = d.again()
	w.writers = []*docWriter{d}
	back := w.restore(rec, requester.RestoreRequest{})
	if back.Outcome != requester.Complete || d.status["main"] != vss.FileRestoreStatusAll {
		t.Fatalf("outcome %v, status %v, %+v, %s", back.Outcome, d.status["main"], back.Failures, leftOut(back.LeftOut))
	}
	want := append(bytes.Clone(a), make([]byte, 100_000)...)
	copy(want, now[:5])
	copy(want[2_000_000:], now[2_000_000:2_000_256])
	copy(want[2_999_000:], now[2_999_000:])
	if w.read("data/a") != string(want) {
		t.Error("the file has other bytes")
	}
	if inode() != was {
		t.Error("the file was replaced and not written in place")
	}
	if i, _ := os.Stat(w.path("data/a")); !i.ModTime().Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("its time is %v", i.ModTime())
	}
	w.writers = []*docWriter{d.again()}
	if back = w.restore(rec, requester.RestoreRequest{}); back.Totals.Unchanged == 0 || w.read("data/a") != string(want) {
		t.Errorf("run again: totals %+v", back.Totals)
	}
}

func TestPartialFileWithoutTheFileR_RES_27(t *testing.T) {
	for _, tt := range []struct {
		kind, ranges string
		there        int // bytes of the file that is there; -1: none
		want         string
	}{
		{"incremental", "0:10", -1, "there is none"},
		{"differential", "0:10", 999, "what was at 999 is in neither"},
		{"incremental", "0:10,999:5", 999, ""},
		{"incremental", "0:1000", -1, ""},
		{"full", "0:10", -1, ""},
		{"copy", "5:10", 3, ""},
	} {
		w, d := directWorld(t)
		res := w.backup(w.paths())
		content := bytesOf("now", 1000)
		rec := partialRecord(t, w, res.Record, tt.kind, "data/b", content, tt.ranges)
		w.wipe()
		if tt.there >= 0 {
			w.write("data/b", bytesOf("there", tt.there))
		}
		before := tree(t, w.dir)
		d = d.again()
		w.writers = []*docWriter{d}
		back := w.restore(rec, requester.RestoreRequest{})
		if tt.want != "" {
			if out := leftOut(back.LeftOut); back.Outcome != requester.Incomplete || !strings.Contains(out, tt.want) || d.status["main"] != vss.FileRestoreStatusNone {
				t.Errorf("%+v: outcome %v, status %v, left out %s", tt, back.Outcome, d.status["main"], out)
			}
			diffTrees(t, tree(t, w.dir), before)
			continue
		}
		if back.Outcome != requester.Complete {
			t.Errorf("%+v: outcome %v, %+v, %s", tt, back.Outcome, back.Failures, leftOut(back.LeftOut))
			continue
		}
		got := w.read("data/b")
		rs, _ := vss.ParseRanges(tt.ranges)
		for _, r := range rs.Clip(1000) {
			if got[r.Offset:r.End()] != content[r.Offset:r.End()] {
				t.Errorf("%+v: range %v is %q", tt, r, got[r.Offset:r.End()])
			}
		}
		if len(got) != 1000 {
			t.Errorf("%+v: %d bytes", tt, len(got))
		}
	}
}

// A file that a restore left half written says so to the next.
func TestHalfWrittenFileIsToldOfAndWrittenAgain(t *testing.T) {
	w, d := directWorld(t)
	a := []byte(w.read("data/a"))
	res := w.backup(w.paths())
	now := bytesOf("now", len(a))
	rec := partialRecord(t, w, res.Record, "incremental", "data/a", now, "0:5,2000000:1000000")
	// What a kill after the first range leaves.
	copy(a, now[:5])
	w.write("data/a", string(a))
	if err := unix.Setxattr(w.path("data/a"), "user.sombra.half-restored", []byte("0123abcd"), 0); err != nil {
		t.Fatal(err)
	}
	w.writers = []*docWriter{d.again()}
	back := w.restore(rec, requester.RestoreRequest{})
	if text := strings.Join(back.Warnings, "\n"); !strings.Contains(text, "half written by a restore of backup 0123abcd") || back.Outcome != requester.Complete {
		t.Errorf("outcome %v, warnings %q", back.Outcome, text)
	}
	copy(a[2_000_000:], now[2_000_000:])
	if w.read("data/a") != string(a) {
		t.Error("the file has other bytes")
	}
	if n, _ := unix.Llistxattr(w.path("data/a"), make([]byte, 100)); n > 0 {
		t.Error("the file is still marked")
	}
}

// Where files go is said by the writer that runs and by the user, and never by
// the document of a record.
func TestStoredDocumentCannotDirectARestore(t *testing.T) {
	w, d := directWorld(t)
	res := w.backup(w.paths())
	data, err := res.Record.Document(t.Context(), requester.DocBCD, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := metadata.ParseBackupComponents(data)
	if err != nil {
		t.Fatal(err)
	}
	c := doc.Writers()[0].Components()[0]
	evil := filepath.Join(scratch(t), "evil")
	target := w.to("data/b", "0:1000", "data/b", "0:1000")
	target.DestinationPath, target.DestinationName = filepath.Dir(evil), filepath.Base(evil)
	if err := c.AddDirectedTarget(target); err != nil {
		t.Fatal(err)
	}
	if err := c.SetRestoreTarget(vss.RestoreTargetDirected); err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	for name := range res.Record.Documents {
		data, err := res.Record.Document(t.Context(), name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		docs[name] = string(data)
	}
	docs[requester.DocBCD] = string(doc.SaveAsXML())
	rec := handmade(t, w, docs, repository.Entry{Path: strings.TrimPrefix(w.path("data/b"), "/"), Type: repository.Regular, Mode: 0o644,
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		Attrs: map[string]string{requester.AttrWriter: "app", requester.AttrWriterClass: d.class.String(),
			requester.AttrComponentSet: "main", requester.AttrComponent: "main"}})
	w.wipe()
	w.writers = []*docWriter{d.again()}
	back := w.restore(rec, requester.RestoreRequest{})
	if _, err := os.Lstat(evil); err == nil || back.Outcome != requester.Complete || w.read("data/b") != "evil" {
		t.Errorf("outcome %v, %s, %v", back.Outcome, leftOut(back.LeftOut), err)
	}
}
