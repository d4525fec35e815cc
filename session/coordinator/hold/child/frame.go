package child

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxFrame bounds the content of one frame, in bytes.
const MaxFrame = 4 << 20

// ErrFrame is wrapped by errors about what came over a connection but is no
// frame, or too large a one. The connection cannot be used further.
var ErrFrame = errors.New("child: not a frame")

// WriteFrame writes v as JSON, preceded by its length as four bytes, most
// significant first, in one call of w.Write.
func WriteFrame(w io.Writer, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(content) > MaxFrame {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrFrame, len(content), MaxFrame)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(content)), uint32(len(content)))
	_, err = w.Write(append(frame, content...))
	return err
}

// ReadFrame reads one frame into v, and not one byte more. The error is io.EOF
// if the connection ended before the frame began.
func ReadFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return fmt.Errorf("%w: it would have %d bytes, the limit is %d", ErrFrame, n, MaxFrame)
	}
	content, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return err
	}
	if len(content) < int(n) {
		return io.ErrUnexpectedEOF
	}
	if err := json.Unmarshal(content, v); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return nil
}
