package sftp

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// maxFolder bounds what a server may tell of one folder: its entries as they
// come over the connection, and what each takes in memory besides. A folder of a
// repository has some thousand; this is enough for some
// eighty thousand.
const maxFolder = 32 << 20

// entryCost is about what an entry takes in memory besides its bytes.
const entryCost = 200

// The packets of the protocol that listings are made of, and the longest head of
// one that is looked at: its length, its type, a number and a handle.
const (
	typeClose   = 4
	typeReaddir = 12
	typeName    = 104
	headSize    = 4 + 1 + 4 + 4 + 256
)

// names counts what a server tells of each folder while it is read. The library
// collects a folder whole, and asks on as long as the server has more to tell.
type names struct {
	most int64

	mu sync.Mutex
	// out and in are how far the two directions have come.
	out, in packets
	// asked are the handles of the requests that wait for an answer, told is
	// what was told so far of each handle.
	asked map[uint32]string
	told  map[string]int64
}

func newNames(most int64) *names {
	return &names{most: most, asked: map[uint32]string{}, told: map[string]int64{}}
}

// goes takes in what is sent.
func (n *names) goes(p []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.out.each(p, func(size int64, head []byte) {
		if len(head) < 13 || head[4] != typeReaddir && head[4] != typeClose {
			return
		}
		handle := head[13:min(len(head), 13+int(min(binary.BigEndian.Uint32(head[9:]), 256)))]
		if head[4] == typeClose {
			delete(n.told, string(handle))
			return
		}
		n.asked[binary.BigEndian.Uint32(head[5:])] = string(handle)
	})
}

// came takes in what has come, and gives an error if it is too much.
func (n *names) came(p []byte) (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.in.each(p, func(size int64, head []byte) {
		if len(head) < 9 || len(n.asked) == 0 {
			return
		}
		number := binary.BigEndian.Uint32(head[5:])
		handle, ok := n.asked[number]
		if !ok {
			return
		}
		delete(n.asked, number)
		if head[4] != typeName || len(head) < 13 {
			return
		}
		n.told[handle] += size + entryCost*int64(min(binary.BigEndian.Uint32(head[9:]), 1<<20))
		if n.told[handle] > n.most {
			err = fmt.Errorf("the server lists a folder of more than %d entries: none of a repository has so many", n.most/(2*entryCost))
		}
	})
	return err
}

// packets takes a stream of packets apart: each begins with its length.
type packets struct {
	head []byte
	left int64 // of the packet, after its head
	size int64
}

// each calls f for each packet as soon as its head is there.
func (s *packets) each(p []byte, f func(size int64, head []byte)) {
	for len(p) > 0 {
		if s.left > 0 {
			n := min(s.left, int64(len(p)))
			s.left -= n
			p = p[n:]
			continue
		}
		want := 4
		if len(s.head) >= 4 {
			s.size = 4 + int64(binary.BigEndian.Uint32(s.head))
			want = int(min(s.size, headSize))
		}
		n := min(max(want-len(s.head), 0), len(p))
		s.head = append(s.head, p[:n]...)
		p = p[n:]
		if len(s.head) < 4 {
			continue
		}
		s.size = 4 + int64(binary.BigEndian.Uint32(s.head))
		if int64(len(s.head)) < min(s.size, headSize) {
			continue
		}
		f(s.size, s.head)
		s.left = s.size - int64(len(s.head))
		s.head = s.head[:0]
	}
}
