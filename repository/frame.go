package repository

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// A frame is what is compressed and encrypted together: one large chunk, or
// many small ones. Inside its box it has a header of five bytes, the method
// and the length of its chunks together (little endian), and then the chunks,
// one after the other, as the method has it.

// The methods of frames.
const (
	methodRaw  = 0
	methodZstd = 1
)

// frameHeaderSize is the length of a frame's header.
const frameHeaderSize = 5

// appendFrame appends the frame of the chunks. Data that compression would not
// make shorter by a 32nd is kept as it is: it is cheaper to read.
func appendFrame(dst []byte, enc *zstd.Encoder, chunks []byte) []byte {
	start := len(dst)
	dst = append(dst, methodZstd)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(chunks)))
	dst = enc.EncodeAll(chunks, dst)
	if len(dst)-start-frameHeaderSize > len(chunks)-len(chunks)/32 {
		dst[start] = methodRaw
		dst = append(dst[:start+frameHeaderSize], chunks...)
	}
	return dst
}

// newEncoder gives an encoder for one goroutine.
func newEncoder(level zstd.EncoderLevel) *zstd.Encoder {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(maxChunk), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("zstd: " + err.Error())
	}
	return enc
}

// newDecoder gives the decoder for all goroutines. It never writes past the
// capacity it is given, which is the length the frame's header declared.
func newDecoder() *zstd.Decoder {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(maxChunk), zstd.WithDecoderMaxWindow(maxChunk))
	if err != nil {
		panic("zstd: " + err.Error())
	}
	return dec
}

// decodeFrame gives the chunks of a frame. The result may share its memory
// with the frame.
func decodeFrame(dec *zstd.Decoder, frame []byte) ([]byte, error) {
	return decodeFrameInto(dec, frame, nil)
}

// decodeFrameInto is decodeFrame with memory for the chunks, which is used if it
// is enough.
func decodeFrameInto(dec *zstd.Decoder, frame, memory []byte) ([]byte, error) {
	if len(frame) < frameHeaderSize {
		return nil, damagef("a frame of %d bytes", len(frame))
	}
	size := binary.LittleEndian.Uint32(frame[1:])
	body := frame[frameHeaderSize:]
	if size > maxChunk {
		return nil, damagef("a frame that declares %d bytes", size)
	}
	switch frame[0] {
	case methodRaw:
		if uint64(len(body)) != uint64(size) {
			return nil, damagef("a frame that declares %d bytes and has %d", size, len(body))
		}
		return body, nil
	case methodZstd:
		if uint64(cap(memory)) < uint64(size) {
			memory = make([]byte, 0, size)
		}
		chunks, err := dec.DecodeAll(body, memory[:0:size])
		if err != nil {
			return nil, damagef("a frame that does not decompress: %v", err)
		}
		if uint64(len(chunks)) != uint64(size) {
			return nil, damagef("a frame that declares %d bytes and decompresses to %d", size, len(chunks))
		}
		return chunks, nil
	}
	return nil, damagef("a frame of unknown method %d", frame[0])
}
