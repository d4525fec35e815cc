package resp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestReplies(t *testing.T) {
	for in, want := range map[string]Reply{
		"+OK\r\n":                           {Kind: KindStatus, Text: "OK"},
		"-ERR no\r\n":                       {Kind: KindError, Text: "ERR no"},
		":-12\r\n":                          {Kind: KindInt, Int: -12},
		"$5\r\na\r\nbc\r\n":                 {Kind: KindBulk, Text: "a\r\nbc"},
		"$0\r\n\r\n":                        {Kind: KindBulk},
		"$-1\r\n":                           {Kind: KindBulk, Null: true},
		"*-1\r\n":                           {Kind: KindList, Null: true},
		"*2\r\n$1\r\na\r\n*1\r\n:1\r\n":     {Kind: KindList, List: []Reply{{Kind: KindBulk, Text: "a"}, {Kind: KindList, List: []Reply{{Kind: KindInt, Int: 1}}}}},
		"*0\r\n":                            {Kind: KindList, List: []Reply{}},
		"$70000\r\n" + long(70000) + "\r\n": {Kind: KindBulk, Text: long(70000)},
	} {
		got, err := readReply(bufio.NewReader(strings.NewReader(in)))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.40q: %+v, %v", in, got, err)
		}
	}
}

func TestMalformedRepliesAreRefused(t *testing.T) {
	for _, in := range []string{
		"OK\r\n", "\r\n", "+OK\n", ":x\r\n", "$x\r\n", "$-2\r\n", "$3\r\nabcd\r\n", "*2\r\n:1\r\nx\r\n",
		"$99999999999\r\n", "$16777217\r\n", "*65537\r\n", "+" + long(maxLine) + "\r\n",
		strings.Repeat("*1\r\n", maxDepth+1) + ":1\r\n", "*40000\r\n*40000\r\n",
	} {
		if _, err := readReply(bufio.NewReader(strings.NewReader(in))); !errors.Is(err, errMalformed) {
			t.Errorf("%.40q: %v", in, err)
		}
	}
	for _, in := range []string{"+OK", "$3\r\nab", "*2\r\n:1\r\n", "$-"} {
		if _, err := readReply(bufio.NewReader(strings.NewReader(in))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%.40q: %v", in, err)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// TestLostConnectionStaysLost: a reply that came too late must not be taken for
// the next command's.
func TestLostConnectionStaysLost(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	go io.Copy(io.Discard, there)
	c := NewConn(here)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Do(ctx, "PING"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command without reply ended with %v", err)
	}
	if _, err := c.Do(t.Context(), "PING"); err == nil {
		t.Error("a command was sent over a connection that was given up")
	}
}

func TestErrorsNameNoArgument(t *testing.T) {
	here, there := net.Pipe()
	there.Close()
	c := NewConn(here)
	if _, err := c.Do(t.Context(), "AUTH", "sesame"); err == nil || strings.Contains(fmt.Sprint(err), "sesame") {
		t.Errorf("the error is %v", err)
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "-ERR\r\n", ":1\r\n", "$1\r\na\r\n", "*2\r\n:1\r\n$-1\r\n", "*1\r\n*1\r\n*-1\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bufio.NewReader(strings.NewReader(string(b)))
		for range 100 {
			if _, err := readReply(in); err != nil {
				return
			}
		}
	})
}
