package repository

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store/local"
)

// update makes testdata/v1 anew. What a released version wrote is never made
// anew: a new version gets a folder of its own.
var update = flag.Bool("update", false, "write testdata/v1 again")

const goldenDir = "testdata/v1"

// goldenFiles is what the repository in testdata holds. Package secondreader
// has the same description.
func goldenFiles() map[string][]byte {
	files := map[string][]byte{"empty": nil, "small": []byte("a small file\n"), "large": randomData(30_000, 42)}
	for i := range 400 {
		files[fmt.Sprintf("many/%03d", i)] = []byte(fmt.Sprintf("file %d", i))
	}
	changed := bytes.Clone(files["large"])
	copy(changed[5000:], "changed in place")
	copy(changed[20_000:], "and here")
	files["changed"] = changed
	sparse := make([]byte, 120_000)
	for at := 0; at < len(sparse); at += 400 {
		copy(sparse[at:at+100], fmt.Sprintf("%0100d", at))
	}
	files["sparse"] = sparse
	return files
}

func writeGolden(t *testing.T) {
	ctx := t.Context()
	if err := os.RemoveAll(goldenDir); err != nil {
		t.Fatal(err)
	}
	st, err := local.Open(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Create(ctx, st, testPassword, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	files := goldenFiles()
	b := begin(t, r, nil)
	large := addFile(t, b, "large", files["large"])
	first := commit(t, b, testInfo())

	b = begin(t, r, first)
	add := func(path string, c Content) {
		e := Entry{
			Root: "/", Path: path, Type: Regular, Mode: 0o640, Size: c.Size(), Content: c,
			ModTime: time.Unix(1_600_000_000, 5), Attrs: map[string]string{"for": path, "long": strings.Repeat("x", 500)},
		}
		if err := b.Add(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	for path, data := range files {
		switch path {
		case "large":
			add(path, large)
		case "changed":
			c, err := b.PutRanges(ctx, large, source(data), []Range{{5000, 16}, {20_000, 8}})
			if err != nil {
				t.Fatal(err)
			}
			add(path, c)
		case "sparse":
			src := source(data)
			for at := int64(0); at < src.Size; at += 400 {
				src.Data = append(src.Data, Range{at, 100})
			}
			c, err := b.PutFile(ctx, src)
			if err != nil {
				t.Fatal(err)
			}
			add(path, c)
		default:
			add(path, putFile(t, b, data))
		}
	}
	for _, e := range []Entry{{Root: "/", Path: "", Type: Directory, Mode: 0o755}, {Root: "/", Path: "many", Type: Directory}, {Root: "/", Path: "link", Type: Symlink, LinkTarget: "small"}} {
		if err := b.Add(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := b.PutBytes(ctx, []byte("<document/>"))
	if err != nil {
		t.Fatal(err)
	}
	info := testInfo()
	info.Time = info.Time.Add(time.Hour)
	info.Documents = map[string]Content{"bcd.xml": doc}
	rec := commit(t, b, info)
	if _, err := r.AddNote(ctx, rec.ID, Note{Time: info.Time, Kind: "outcome", Body: []byte("noted")}); err != nil {
		t.Fatal(err)
	}
	// Work of the second reader: all kinds of nodes and blocks.
	e, err := rec.Table().Lookup(ctx, "/", "sparse")
	if err != nil || e.Content.top.level == 0 || rec.table.root.Level == 0 {
		t.Fatalf("the repository lacks upper levels: %v, %d", err, rec.table.root.Level)
	}
}

// What version 1 wrote is read for ever.
func TestTheRepositoryOfVersion1IsRead(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	if _, err := os.Stat(filepath.Join(goldenDir, configName)); err != nil {
		t.Fatalf("the repository kept for this test is not there: %v", err)
	}
	st, err := local.Open(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	r := reopen(t, st)
	rec, err := r.Record(t.Context(), "latest")
	if err != nil {
		t.Fatal(err)
	}
	want, got := goldenFiles(), readTree(t, rec)
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for path, data := range want {
		if got[path] != string(data) {
			t.Errorf("%s differs", path)
		}
	}
	if _, problems := check(t, r, CheckOptions{ReadData: true}); len(problems) != 0 {
		t.Errorf("check says %+v", problems)
	}
}
