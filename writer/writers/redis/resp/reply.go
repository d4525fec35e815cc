package resp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Limits of what a server may send in one reply.
const (
	maxLine  = 64 << 10
	maxText  = 16 << 20
	maxItems = 64 << 10 // of all lists together
	maxDepth = 8
)

// Kind is the sort of a reply.
type Kind byte

// The kinds of replies.
const (
	KindStatus Kind = '+'
	KindError  Kind = '-'
	KindInt    Kind = ':'
	KindBulk   Kind = '$'
	KindList   Kind = '*'
)

// Reply is one reply. A null has its kind and Null set.
type Reply struct {
	Kind Kind
	Text string // of a status, an error and a bulk string
	Int  int64
	List []Reply
	Null bool
}

// Error is an error the server replied with, such as "NOAUTH Authentication
// required.".
type Error string

func (e Error) Error() string { return strconv.Quote(string(e)) }

// errMalformed says that what came is no reply.
var errMalformed = errors.New("malformed reply")

// reader reads one reply, and counts what it has read of it.
type reader struct {
	in    *bufio.Reader
	text  int
	items int
}

func readReply(in *bufio.Reader) (Reply, error) {
	r := reader{in: in}
	return r.reply(0)
}

func (r *reader) reply(depth int) (Reply, error) {
	line, err := r.line()
	if err != nil {
		return Reply{}, err
	}
	if len(line) == 0 {
		return Reply{}, fmt.Errorf("%w: an empty line", errMalformed)
	}
	reply := Reply{Kind: Kind(line[0])}
	rest := line[1:]
	switch reply.Kind {
	case KindStatus, KindError:
		reply.Text = rest
		return reply, nil
	case KindInt:
		reply.Int, err = strconv.ParseInt(rest, 10, 64)
		if err != nil {
			return Reply{}, fmt.Errorf("%w: number %.40q", errMalformed, rest)
		}
		return reply, nil
	case KindBulk, KindList:
	default:
		return Reply{}, fmt.Errorf("%w: it begins with %q", errMalformed, line[0])
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n < -1 {
		return Reply{}, fmt.Errorf("%w: length %.40q", errMalformed, rest)
	}
	if n < 0 {
		reply.Null = true
		return reply, nil
	}
	if reply.Kind == KindBulk {
		reply.Text, err = r.bulk(n)
	} else {
		reply.List, err = r.list(n, depth)
	}
	return reply, err
}

// line reads up to the end of a line.
func (r *reader) line() (string, error) {
	var line []byte
	for {
		part, err := r.in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return "", fmt.Errorf("%w: a line of more than %d bytes", errMalformed, maxLine)
		}
		line = append(line, part...)
		if err == nil {
			break
		}
		if err == io.EOF && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != bufio.ErrBufferFull {
			return "", err
		}
	}
	n := len(line) - 2
	if n < 0 || line[n] != '\r' {
		return "", fmt.Errorf("%w: a line without its end", errMalformed)
	}
	r.text += n
	if r.text > maxText {
		return "", fmt.Errorf("%w: more than %d bytes", errMalformed, maxText)
	}
	return string(line[:n]), nil
}

func (r *reader) bulk(n int) (string, error) {
	if n > maxText-r.text {
		return "", fmt.Errorf("%w: more than %d bytes", errMalformed, maxText)
	}
	r.text += n
	// It grows with what comes, not with what was announced.
	b := make([]byte, 0, min(n+2, 64<<10))
	for len(b) < n+2 {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		m, err := r.in.Read(b[len(b):min(cap(b), n+2)])
		b = b[:len(b)+m]
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", err
		}
	}
	if string(b[n:]) != "\r\n" {
		return "", fmt.Errorf("%w: a string without its end", errMalformed)
	}
	return string(b[:n]), nil
}

func (r *reader) list(n, depth int) ([]Reply, error) {
	if depth == maxDepth {
		return nil, fmt.Errorf("%w: lists nested deeper than %d", errMalformed, maxDepth)
	}
	if n > maxItems-r.items {
		return nil, fmt.Errorf("%w: more than %d items", errMalformed, maxItems)
	}
	r.items += n
	list := make([]Reply, 0, min(n, 1024))
	for range n {
		item, err := r.reply(depth + 1)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	return list, nil
}
