// Package pipe carries a session over a byte stream: [Serve] answers for a
// session on one side, [Connect] is a session on the other, and every call,
// argument and result in between is serialised.
//
// It proves that nothing in the interface leans on sharing a process: the suite
// in sessiontest runs through it. It carries calls as they are, with their
// cancellation, progress and error codes, and trees, files and targets as
// handles. Both ends must be of the same version; a protocol between hosts of
// different ones is another package's business.
package pipe

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"sync"
)

// maxFrame bounds one frame: a document of 64 MiB and what goes with it.
const maxFrame = 80 << 20

// maxIO bounds the bytes of one read or write.
const maxIO = 8 << 20

// frame kinds.
type kind uint8

const (
	kindCall     kind = iota + 1 // client to server: a call
	kindCancel                   // client to server: give the call up
	kindResult                   // server to client: how it ended
	kindProgress                 // server to client: a step of a long call
	kindEntry                    // server to client: one entry of a directory
	kindMore                     // client to server: more entries may come
)

// window is how many entries of a directory are on their way at once: the reader
// of a directory may be slow, and may make other calls meanwhile. Each kindMore
// allows half of it again.
const window = 512

// frame is what goes over the wire.
type frame struct {
	Kind   kind
	Call   uint64 // which call
	Object uint64 // on which object; 0 is the session
	Method string
	Data   []byte // arguments or results, gob
	Err    *wireError
}

// wire writes and reads frames: four bytes of length, big-endian, then gob.
type wire struct {
	rw io.ReadWriteCloser
	mu sync.Mutex // writes
}

func (w *wire) send(f *frame) error {
	var b bytes.Buffer
	b.Write(make([]byte, 4))
	if err := gob.NewEncoder(&b).Encode(f); err != nil {
		return fmt.Errorf("pipe: encode %s: %w", f.Method, err)
	}
	n := b.Len() - 4
	if n > maxFrame {
		return fmt.Errorf("pipe: %s: %d bytes are more than one call may carry", f.Method, n)
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(n))
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.rw.Write(b.Bytes())
	return err
}

func (w *wire) receive() (*frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(w.rw, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("pipe: a frame of %d bytes is more than the other side may send", n)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, w.rw, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	f := new(frame)
	if err := gob.NewDecoder(&b).Decode(f); err != nil {
		return nil, fmt.Errorf("pipe: decode: %w", err)
	}
	return f, nil
}

// pack encodes values one after another.
func pack(values ...any) ([]byte, error) {
	var b bytes.Buffer
	enc := gob.NewEncoder(&b)
	for _, v := range values {
		if err := enc.Encode(v); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// unpack decodes values in the order they were packed.
func unpack(data []byte, into ...any) error {
	dec := gob.NewDecoder(bytes.NewReader(data))
	for _, v := range into {
		if err := dec.Decode(v); err != nil {
			return err
		}
	}
	return nil
}
