package requester_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// rangesFileWorld is a record with a partial file whose ranges are in a file, which
// its writer takes away in BackupComplete.
func rangesFileWorld(t *testing.T, req func(w *world) requester.Request, ranges func(w *world) string) (*world, *docWriter, *repository.Record) {
	t.Helper()
	w, d := directWorld(t)
	list := vss.AppendRangesFile(nil, []vss.Range{{Offset: 10, Length: 20}, {Offset: 500, Length: 1}})
	d.on[writer.EventPostSnapshot] = func(e *writer.Event) error {
		if err := os.WriteFile(ranges(w), list, 0o640); err != nil {
			return err
		}
		c := e.Components.Components()[0]
		for _, name := range []string{"a", "b"} {
			if err := c.AddPartialFile(metadata.PartialFile{Path: w.path("data"), Name: name, Ranges: "File=" + ranges(w)}); err != nil {
				return err
			}
		}
		return nil
	}
	d.on[writer.EventBackupComplete] = func(*writer.Event) error { return os.Remove(ranges(w)) }
	r := req(w)
	r.Type = vss.BackupTypeFull
	res := w.backup(r)
	if res.Outcome != requester.Complete {
		t.Fatalf("backup: %v, %+v, %s", res.Outcome, res.Failures, leftOut(res.LeftOut))
	}
	return w, d, res.Record
}

// seen makes the writer's next instance keep what PostRestore shows it of the
// ranges file.
func (w *world) seesRanges(d *docWriter) (path *string, data *[]byte) {
	d = d.again()
	path, data = new(string), new([]byte)
	d.on = map[writer.EventKind]func(*writer.Event) error{writer.EventPostRestore: func(e *writer.Event) error {
		_, file, err := e.Components.Components()[0].PartialFiles()[1].ReadRanges()
		if err != nil {
			return err
		}
		*path = file
		*data, err = os.ReadFile(file)
		return err
	}}
	w.writers = []*docWriter{d}
	return path, data
}

func TestRangesFileIsPutBackWhereItWasR_SET_40(t *testing.T) {
	place := func(w *world) string { return w.path("app/ranges.bin") }
	w, d, rec := rangesFileWorld(t, func(w *world) requester.Request { w.mkdir("app"); return w.paths() }, place)
	w.wipe()
	path, data := w.seesRanges(d)
	back := w.restore(rec, requester.RestoreRequest{})
	if back.Outcome != requester.Complete || *path != place(w) || len(*data) != 8+2*16 {
		t.Errorf("outcome %v, %q has %d bytes; %+v %s %q", back.Outcome, *path, len(*data), back.Failures, leftOut(back.LeftOut), back.Warnings)
	}
	if i, err := os.Stat(place(w)); err != nil || i.Mode() != 0o640 {
		t.Errorf("the ranges file: %v, %v", i, err)
	}
	if got := w.read("data/b"); got[10:30] != bytesOf("b", 1000)[10:30] {
		t.Errorf("the range is %q", got[10:30])
	}
}

func TestRangesFileElsewhereIsToldR_RES_27(t *testing.T) {
	outside := scratch(t)
	for _, tt := range []struct {
		name  string
		place func(w *world) string
		make  func(w *world)
	}{
		{"outside of all the record is of", func(*world) string { return filepath.Join(outside, "ranges.bin") }, func(*world) {}},
		{"a directory in its place", func(w *world) string { return w.path("data/sub/r") }, func(w *world) { w.mkdir("data/sub/r/x") }},
	} {
		w, d, rec := rangesFileWorld(t, func(w *world) requester.Request { return requester.Request{Paths: []string{w.path("data")}} }, tt.place)
		w.wipe()
		tt.make(w)
		path, data := w.seesRanges(d)
		back := w.restore(rec, requester.RestoreRequest{})
		want := vss.AppendRangesFile(nil, []vss.Range{{Offset: 10, Length: 20}, {Offset: 500, Length: 1}})
		if back.Outcome != requester.Complete || *path == tt.place(w) || !strings.HasPrefix(*path, w.path("data")) || !bytes.Equal(*data, want) {
			t.Errorf("%s: outcome %v, %q has %x; %+v %s", tt.name, back.Outcome, *path, *data, back.Failures, leftOut(back.LeftOut))
		}
		if list, _ := os.ReadDir(outside); len(list) > 0 {
			t.Errorf("%s: %v was written", tt.name, list)
		}
		filepath.WalkDir(w.dir, func(p string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(p, ".sombra-ranges") {
				t.Errorf("%s: %s is left", tt.name, p)
			}
			return err
		})
	}
}
