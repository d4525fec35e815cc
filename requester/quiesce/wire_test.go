package quiesce

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestMessagesComeAsTheyWere(t *testing.T) {
	var b bytes.Buffer
	for _, a := range []Answer{{State: Held, PID: 7}, {State: Expired, Refusal: "a\nb \u2028 \x00"}} {
		if err := writeMessage(&b, a); err != nil {
			t.Fatal(err)
		}
	}
	r := bufio.NewReader(&b)
	for _, want := range []string{"", "a\nb \u2028 \x00"} {
		var a Answer
		if err := readMessage(r, maxMessage, &a); err != nil || a.Refusal != want {
			t.Errorf("%+v, %v; want refusal %q", a, err, want)
		}
	}
	if err := readMessage(r, maxMessage, new(Answer)); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %v, want EOF", err)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	long := `{"op":"` + strings.Repeat("x", maxRequest) + `"}` + "\n"
	if err := readMessage(bufio.NewReader(strings.NewReader(long)), maxRequest, new(request)); !errors.Is(err, errTooLong) {
		t.Errorf("a long one: %v, want errTooLong", err)
	}
	endless := io.MultiReader(strings.NewReader(`{"op":"`), zeros{})
	if err := readMessage(bufio.NewReader(endless), maxRequest, new(request)); !errors.Is(err, errTooLong) {
		t.Errorf("one without end: %v, want errTooLong", err)
	}
	if err := readMessage(bufio.NewReader(strings.NewReader(`{"op":"status"}`)), maxRequest, new(request)); !errors.Is(err, io.EOF) {
		t.Errorf("one cut short: %v, want EOF", err)
	}
}

// zeros is a reader without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// FuzzReadMessage: whatever comes, reading ends with a message or an error, and what
// was read is written the same.
func FuzzReadMessage(f *testing.F) {
	for _, seed := range []string{`{"op":"thaw"}`, `{"op":"status"}`, `{}`, `[]`, `{"op":1}`, "\x00\xff", `{"op":"` + strings.Repeat("a", 5000), ``} {
		f.Add([]byte(seed + "\n"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r request
		if readMessage(bufio.NewReader(bytes.NewReader(data)), maxRequest, &r) != nil {
			return
		}
		var b bytes.Buffer
		var again request
		if err := writeMessage(&b, r); err != nil {
			t.Fatal(err)
		}
		if err := readMessage(bufio.NewReader(&b), maxMessage, &again); err != nil || again != r {
			t.Fatalf("%+v, read again %+v, %v", r, again, err)
		}
	})
}
