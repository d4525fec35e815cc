package child

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestFramesComeAsTheyWere(t *testing.T) {
	var b bytes.Buffer
	for _, s := range []string{"", "text", strings.Repeat("x", 1<<20)} {
		if err := WriteFrame(&b, s); err != nil {
			t.Fatal(err)
		}
	}
	b.WriteString("rest")
	for _, want := range []string{"", "text", strings.Repeat("x", 1<<20)} {
		var got string
		if err := ReadFrame(&b, &got); err != nil || got != want {
			t.Fatalf("%d bytes, %v; want %d", len(got), err, len(want))
		}
	}
	if b.String() != "rest" {
		t.Errorf("%q is left, want what follows the frames", b.String())
	}
}

func TestFrameTooLargeIsRefused(t *testing.T) {
	var b bytes.Buffer
	if err := WriteFrame(&b, strings.Repeat("x", MaxFrame)); !errors.Is(err, ErrFrame) || b.Len() != 0 {
		t.Errorf("%v, %d bytes written; want %v and none", err, b.Len(), ErrFrame)
	}
	var v any
	if err := ReadFrame(strings.NewReader("\xff\xff\xff\xff{}"), &v); !errors.Is(err, ErrFrame) {
		t.Errorf("%v, want %v", err, ErrFrame)
	}
}

func TestFrameCutShort(t *testing.T) {
	whole := "\x00\x00\x00\x04null"
	for n := range len(whole) {
		var v any
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if err := ReadFrame(strings.NewReader(whole[:n]), &v); err != want {
			t.Errorf("%d bytes: %v, want %v", n, err, want)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, s := range []string{"", "\x00\x00\x00\x04null", "\x00\x00\x00\x02{}\x00", "\xff\xff\xff\xff", "\x00\x00\x00\x03{{{",
		"\x00\x00\x00\x01", "GET / HTTP/1.0\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v any
		r := bytes.NewReader(b)
		if err := ReadFrame(r, &v); err != nil {
			return
		}
		// What was read can be written and read again, and is the same.
		var out bytes.Buffer
		if err := WriteFrame(&out, v); err != nil {
			t.Fatal(err)
		}
		var again any
		if err := ReadFrame(&out, &again); err != nil {
			t.Fatal(err)
		}
	})
}
