package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

func TestEntriesAreFoundByNumber(t *testing.T) {
	r := newTestRepository(t, mem.New())
	entries := map[string]Entry{}
	for i := range 8000 { // more than one block holds, wherever blocks end
		e := plainEntry(fmt.Sprintf("d%02d/file with a long name, so that blocks are soon full %05d", i%30, i), Regular, 0o644)
		entries[e.Path] = e
	}
	rec := commitEntries(t, r, nil, entries)
	if rec.table.root.Level == 0 {
		t.Fatal("the table has one block only")
	}
	n := int64(0)
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got, err := rec.Table().At(t.Context(), n)
		if err != nil || got.Path != e.Path {
			t.Fatalf("number %d is %v, %v, want %q", n, got, err, e.Path)
		}
		for _, tt := range []struct {
			path string
			want int64
		}{{e.Path, n}, {e.Path + "\x00", n + 1}, {e.Path + "/x", n + 1}} {
			if at, err := rec.Table().Seek(t.Context(), "/", tt.path); err != nil || at != tt.want {
				t.Fatalf("%q is at %d, %v, want %d", tt.path, at, err, tt.want)
			}
		}
		n++
	}
	for _, n := range []int64{-1, n} {
		if _, err := rec.Table().At(t.Context(), n); !errors.Is(err, ErrNotFound) {
			t.Errorf("number %d: %v", n, err)
		}
	}
	for _, tt := range []struct {
		root, path string
		want       int64
	}{{"", "", 0}, {"/", "", 0}, {"/", "zz", n}, {"0", "", n}} {
		if at, err := rec.Table().Seek(t.Context(), tt.root, tt.path); err != nil || at != tt.want {
			t.Errorf("%q in %q is at %d, %v, want %d", tt.path, tt.root, at, err, tt.want)
		}
	}
}

func TestPiecesAndHolesOfAFile(t *testing.T) {
	r := newTestRepository(t, mem.New())
	b := begin(t, r, nil)
	data := make([]byte, 300_000)
	copy(data[50_000:], randomData(100_000, 1))
	copy(data[250_000:], randomData(20_000, 2))
	c, err := b.PutFile(t.Context(), Source{At: bytes.NewReader(data), Size: int64(len(data)), Data: []Range{{50_000, 100_000}, {250_000, 20_000}}})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, b, testInfo())
	f, err := r.OpenContent(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for at := int64(0); at < f.Size(); {
		// From the middle of a piece, too.
		p, err := f.PieceAt(t.Context(), at)
		if err != nil || p.Offset != at || p.Length == 0 {
			t.Fatalf("at %d: %+v, %v", at, p.Segment, err)
		}
		d, err := p.Data(t.Context())
		if err != nil || p.Hole != (d == nil) || d != nil && int64(len(d)) != p.Length {
			t.Fatalf("at %d: %d bytes of %+v, %v", at, len(d), p.Segment, err)
		}
		step := min(p.Length, 777)
		if d == nil {
			d = make([]byte, p.Length)
		}
		got = append(got, d[:step]...)
		at += step
	}
	if !bytes.Equal(got, data) {
		t.Error("the pieces are not the file")
	}
	if _, err := f.PieceAt(t.Context(), f.Size()); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for _, tt := range []struct{ from, data, hole int64 }{
		{0, 50_000, 0}, {49_999, 50_000, 49_999}, {50_000, 50_000, 150_000}, {149_999, 149_999, 150_000},
		{150_000, 250_000, 150_000}, {260_000, 260_000, 270_000}, {270_000, -1, 270_000}, {300_000, -1, -1},
	} {
		d, err := f.NextData(t.Context(), tt.from)
		if tt.data < 0 && err != io.EOF || tt.data >= 0 && (err != nil || d != tt.data) {
			t.Errorf("data from %d on: %d, %v, want %d", tt.from, d, err, tt.data)
		}
		h, err := f.NextHole(t.Context(), tt.from)
		if tt.hole < 0 && err != io.EOF || tt.hole >= 0 && (err != nil || h != tt.hole) {
			t.Errorf("hole from %d on: %d, %v, want %d", tt.from, h, err, tt.hole)
		}
	}
	if n, ok, err := f.Allocated(t.Context(), 100); n != 120_000 || !ok || err != nil {
		t.Errorf("allocated %d, %v, %v", n, ok, err)
	}
}
