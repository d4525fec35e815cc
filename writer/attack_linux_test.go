package writer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sombra-backup/sombra/vss"

	writerv1 "github.com/sombra-backup/sombra/proto/sombra/writer/v1"
)

// preface begins an HTTP/2 connection: the magic line and empty settings.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// frame is an HTTP/2 frame with a header that may say anything.
func frame(length int, kind, flags byte, stream uint32, body []byte) []byte {
	b := []byte{byte(length >> 16), byte(length >> 8), byte(length), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), body...)
}

// works makes sure that a server still serves others, as soon as it is through
// with those that have gone.
func works(t *testing.T, path string) {
	t.Helper()
	await(t, 20*time.Second, "an answer to somebody else", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := net.Dial("unix", path)
		if err != nil {
			return false
		}
		c, err := Dial(ctx, conn)
		if err != nil {
			return false // too many are open
		}
		defer c.Close()
		ws, err := c.Writers(ctx)
		return err == nil && len(ws) == 1
	})
}

// TestBrokenFramesHarmNobody: whatever bytes a client sends, its connection ends
// or waits, no writer gets an event, and others are served.
func TestBrokenFramesHarmNobody(t *testing.T) {
	s := &script{}
	path := filepath.Join(t.TempDir(), "w.sock")
	serve(t, path, s)
	r := rand.New(rand.NewPCG(3, 5))
	texts := [][]byte{
		[]byte(preface), []byte(preface[:20]),
		append([]byte(preface), frame(1<<24-1, 0, 0, 1, nil)...),                            // a huge frame that never comes
		append([]byte(preface), frame(100, 1, 4, 1, []byte("half"))...),                     // half of a header
		append([]byte(preface), frame(4, 8, 0, 0, []byte{0xff, 0xff, 0xff, 0xff})...),       // a window too large
		append([]byte(preface), frame(0, 9, 0, 1, nil)...),                                  // a header that goes on without a beginning
		append([]byte(preface), frame(6, 4, 0, 0, []byte{0, 5, 0xff, 0xff, 0xff, 0xff})...), // frames too large
	}
	for range 300 {
		text := []byte(preface)
		for range 1 + r.IntN(5) {
			body := make([]byte, r.IntN(200))
			for i := range body {
				body[i] = byte(r.Uint32())
			}
			length := len(body)
			if r.IntN(4) == 0 {
				length = r.IntN(1 << 24)
			}
			text = append(text, frame(length, byte(r.IntN(12)), byte(r.Uint32()), r.Uint32()%8, body)...)
		}
		texts = append(texts, text)
	}
	for i, text := range texts {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		conn.Write(text)
		conn.Close()
		if i%10 == 0 {
			works(t, path)
		}
	}
	works(t, path)
	wantEvents(t, s)
}

// TestSlowClientsLoseTheirPlaces: connections that say nothing, or not all of
// what begins one, are given up, so that they cannot keep the service out.
func TestSlowClientsLoseTheirPlaces(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "w.sock")
	serve(t, path, &script{})
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	for i := range maxConns {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			continue // silent
		}
		g.Go(func() error { // a byte now and then
			for _, b := range []byte(preface) {
				if _, err := conn.Write([]byte{b}); err != nil || ctx.Err() != nil {
					return nil
				}
				time.Sleep(time.Second)
			}
			return nil
		})
	}
	await(t, handshakeTimeout+20*time.Second, "a place among the connections", func() bool {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return false
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c, err := Dial(ctx, conn)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	cancel()
	g.Wait()
}

// strange is a program whose every answer is what f makes of a call.
func strange(t *testing.T, f func(grpc.ServerStream) error) *Remote {
	t.Helper()
	conn, file := socketPair(t)
	other, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxSendMsgSize(4*MaxMessage), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return f(s) }))
	go server.Serve(&oneConn{conn: other, closed: make(chan struct{})})
	t.Cleanup(server.Stop)
	c, err := Dial(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &Remote{c: c}
}

// TestStrangeAnswers: an answer that comes twice, not at all, without end or with
// a mountain of text beside it is a failure of that writer, in time.
func TestStrangeAnswers(t *testing.T) {
	for name, f := range map[string]func(grpc.ServerStream) error{
		"twice": func(s grpc.ServerStream) error {
			return errors.Join(s.SendMsg(&writerv1.EventResponse{}), s.SendMsg(&writerv1.EventResponse{}))
		},
		"none":  func(grpc.ServerStream) error { return nil },
		"never": func(s grpc.ServerStream) error { <-s.Context().Done(); return nil },
		"without end": func(s grpc.ServerStream) error {
			for s.Context().Err() == nil {
				if err := s.SendMsg(&writerv1.EventResponse{}); err != nil {
					return err
				}
			}
			return nil
		},
		"a huge error": func(grpc.ServerStream) error { return errors.New(strings.Repeat("x", 4<<20)) },
		"huge headers": func(s grpc.ServerStream) error {
			for i := range 64 {
				s.SetHeader(metadata.Pairs(fmt.Sprint("h", i), strings.Repeat("x", 60_000)))
			}
			return s.SendMsg(&writerv1.EventResponse{})
		},
		"another message": func(s grpc.ServerStream) error {
			return s.SendMsg(&writerv1.ListResponse{Instances: []*writerv1.Instance{{InstanceName: "\xff"}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := strange(t, f)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			begun := time.Now()
			err := r.PrepareForBackup(ctx, &Event{})
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if err == nil || vss.CodeOf(err) == vss.ErrUnexpected || len(err.Error()) > 2*maxText {
				t.Errorf("an answer of %d bytes: %.300v", len(fmt.Sprint(err)), err)
			}
		})
	}
}

// TestDocumentsWithoutEndAreRefused: a program may have many writers and each a
// large document, but not so many that they fill the service's memory.
func TestDocumentsWithoutEndAreRefused(t *testing.T) {
	const size = MaxMessage - 1000
	blank := make([]byte, size) // no document: what counts is that it was not kept
	var underway, most atomic.Int64
	r := strange(t, func(s grpc.ServerStream) error {
		n := underway.Add(1)
		defer underway.Add(-1)
		for {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		if err := s.RecvMsg(&writerv1.IdentifyRequest{}); err != nil && err != io.EOF {
			return err
		}
		return s.SendMsg(&writerv1.IdentifyResponse{Document: blank})
	})
	var refused atomic.Int64
	var g errgroup.Group
	const writers = 2 * maxDocuments / size
	for i := range writers {
		g.Go(func() error {
			w := &Remote{c: r.c, handle: uint32(i)}
			_, err := w.Identify(t.Context())
			if err == nil {
				return errors.New("zeros were taken for a document")
			}
			if vss.CodeOf(err) == vss.ErrWriterErrorOutOfResources {
				refused.Add(1)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if n := refused.Load(); n < writers/2-1 {
		t.Errorf("%d of %d documents of %d MiB were refused", n, writers, size>>20)
	}
	if m := most.Load(); m > maxIdentifying+1 { // one may have sent and not ended yet
		t.Errorf("%d documents were on their way at the same time", m)
	}
	// One writer that identifies itself again and again uses up nothing.
	small := strange(t, func(s grpc.ServerStream) error {
		return s.SendMsg(&writerv1.IdentifyResponse{Document: testDocument().SaveAsXML()})
	})
	for range 10 {
		if _, err := small.Identify(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := small.c.documents.Load(); n != int64(len(testDocument().SaveAsXML())) {
		t.Errorf("%d bytes are counted for one document", n)
	}
}
