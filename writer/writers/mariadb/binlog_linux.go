package mariadb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// gtid is a global transaction ID.
type gtid struct {
	domain, server uint32
	seq            uint64
}

func (g gtid) String() string { return fmt.Sprintf("%d-%d-%d", g.domain, g.server, g.seq) }

// gtidState has the newest transaction of each domain.
type gtidState map[uint32]gtid

func (s gtidState) String() string {
	list := make([]string, 0, len(s))
	for _, g := range s {
		list = append(list, g.String())
	}
	if len(list) == 0 {
		return "none"
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// has reports whether the newest transaction of each domain wanted is the one wanted.
func (s gtidState) has(want gtidState) bool {
	for domain, g := range want {
		if s[domain] != g {
			return false
		}
	}
	return true
}

// passed reports whether a domain wanted has gone beyond the transaction wanted, or
// has another one in its place.
func (s gtidState) passed(want gtidState) bool {
	for domain, g := range want {
		if have, ok := s[domain]; ok && have != g && have.seq >= g.seq {
			return true
		}
	}
	return false
}

// lacks reports whether a domain wanted has not come to the transaction wanted.
func (s gtidState) lacks(want gtidState) bool {
	for domain, g := range want {
		if have, ok := s[domain]; !ok || have.seq < g.seq {
			return true
		}
	}
	return false
}

// parseState reads GTIDs, one for each domain. An empty text has none.
func parseState(text string) (gtidState, error) {
	s := make(gtidState)
	if text == "" {
		return s, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		parts := strings.Split(one, "-")
		if len(parts) != 3 {
			return nil, fmt.Errorf("%.200q is no GTID such as 0-1-42", text)
		}
		domain, err := strconv.ParseUint(parts[0], 10, 32)
		server, err2 := strconv.ParseUint(parts[1], 10, 32)
		seq, err3 := strconv.ParseUint(parts[2], 10, 64)
		if errors.Join(err, err2, err3) != nil {
			return nil, fmt.Errorf("%.200q is no GTID such as 0-1-42", text)
		}
		g := gtid{uint32(domain), uint32(server), seq}
		if _, twice := s[g.domain]; twice {
			return nil, fmt.Errorf("%.200q names two transactions of domain %d; a point has one newest of each", text, g.domain)
		}
		s[g.domain] = g
	}
	return s, nil
}

// What a binary log consists of, as far as a point in it is to be found.
const (
	logMagic        = "\xfebin"
	eventHeader     = 19 // time 4, type 1, server 4, length 4, end 4, flags 2
	eventFormat     = 15 // the first of each log
	flagInUse       = 1  // of that: the server has not closed the log
	eventGTID       = 162
	eventGTIDList   = 163
	eventEncryption = 164
	maxGTIDList     = 16 << 20 // bytes
)

// errTorn is the end of a log whose server was killed while it wrote.
var errTorn = errors.New("its server was killed, and its last event is not whole")

// walkEvents goes through a binary log. visit is called for each event with where it
// begins, and with its transaction if it begins one; state has then what was before.
// It ends early when visit returns false. The result is where it ended: the log comes
// from a medium, and what is no event is an error; that is errTorn, too, if the log ends
// within an event and was never closed.
func walkEvents(r io.Reader, state gtidState, visit func(at int64, begins *gtid) bool) (end int64, err error) {
	in := bufio.NewReaderSize(r, 256<<10)
	head, inUse := make([]byte, eventHeader), false
	defer func() {
		if inUse && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
			err = fmt.Errorf("%w: %w", errTorn, err)
		}
	}()
	if _, err := io.ReadFull(in, head[:logStart]); err != nil || string(head[:logStart]) != logMagic {
		return 0, errors.Join(errors.New("it does not begin as a binary log does"), err)
	}
	for at := int64(logStart); ; {
		if _, err := io.ReadFull(in, head); err == io.EOF {
			return at, nil
		} else if err != nil {
			return at, fmt.Errorf("the event at position %d: %w", at, err)
		}
		size := int64(binary.LittleEndian.Uint32(head[9:13]))
		body := size - eventHeader
		if body < 0 {
			return at, fmt.Errorf("the event at position %d has %d bytes, fewer than its header", at, size)
		}
		var begins *gtid
		switch kind := head[4]; kind {
		case eventFormat:
			inUse = binary.LittleEndian.Uint16(head[17:])&flagInUse != 0
		case eventEncryption:
			return at, errEncrypted
		case eventGTID, eventGTIDList:
			data, err := readBody(in, kind, body)
			if err != nil {
				return at, fmt.Errorf("the event at position %d: %w", at, err)
			}
			body -= int64(len(data))
			if kind == eventGTIDList {
				state.list(data)
				break
			}
			begins = &gtid{binary.LittleEndian.Uint32(data[8:12]), binary.LittleEndian.Uint32(head[5:9]), binary.LittleEndian.Uint64(data[:8])}
		}
		if !visit(at, begins) {
			return at, nil
		}
		if begins != nil {
			state[begins.domain] = *begins
		}
		if n, err := io.CopyN(io.Discard, in, body); err != nil {
			return at, fmt.Errorf("the event at position %d ends after %d bytes of its %d: %w", at, size-body+n, size, err)
		}
		at += size
	}
}

// readBody reads as much of an event as tells its transactions.
func readBody(in io.Reader, kind byte, size int64) ([]byte, error) {
	least := int64(12) // a transaction's number and domain
	if kind == eventGTIDList {
		least = 4
	}
	if size < least || size > maxGTIDList {
		return nil, fmt.Errorf("%d bytes cannot be of GTIDs", size)
	}
	if kind == eventGTID {
		size = least
	}
	data := make([]byte, size)
	_, err := io.ReadFull(in, data)
	return data, err
}

// list takes in the transactions that a log names at its beginning. The newest of a
// domain is the last one of that domain. What went before it in a log that is torn may
// have been rolled back.
func (s gtidState) list(data []byte) {
	clear(s)
	const each = 16 // domain 4, server 4, number 8
	n := int(binary.LittleEndian.Uint32(data) & (1<<28 - 1))
	for data = data[4:]; n > 0 && len(data) >= each; n, data = n-1, data[each:] {
		domain := binary.LittleEndian.Uint32(data)
		s[domain] = gtid{domain, binary.LittleEndian.Uint32(data[4:]), binary.LittleEndian.Uint64(data[8:])}
	}
}

// walkLog is walkEvents of a file.
func walkLog(path string, state gtidState, visit func(at int64, begins *gtid) bool) (int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	end, err := walkEvents(f, state, visit)
	if err != nil {
		err = fmt.Errorf("read binary log %s: %w; restore to another point, or with \"Target\"=\"instant\"", path, err)
	}
	return end, err
}

// point is a place in a row of logs.
type point struct {
	log   int // which of them
	pos   int64
	empty bool // there is no transaction before it that the restored data lacks
}

// findGTID finds the first point at which the transactions wanted are the newest of
// their domains. The restored data has what is before start in the first log.
//
// mariadb-binlog itself would leave out the transactions of all other domains, and
// take any server's for the one wanted.
func findGTID(paths []string, start int64, want gtidState) (p point, err error) {
	state := make(gtidState)
	var first gtidState // of the restored data
	p.empty = true
	for i, path := range paths {
		found := false
		end, err := walkLog(path, state, func(at int64, begins *gtid) bool {
			if begins == nil || i == 0 && at < start {
				return true
			}
			if first == nil {
				first = maps.Clone(state)
			}
			if p.pos, found = at, state.has(want); found {
				return false
			}
			p.empty = false
			return true
		})
		p.log = i
		if errors.Is(err, errTorn) && i < len(paths)-1 {
			continue // the next log begins with what the server found after it
		}
		if err != nil || found {
			return p, err
		}
		if p.pos = end; state.has(want) {
			return p, nil
		}
	}
	if first == nil {
		first = state
	}
	words := fmt.Sprintf("GTID %v cannot be reached: what can be replayed begins after GTID %v and ends with GTID %v", want, first, state)
	if first.passed(want) {
		return p, errors.New(words + "; restore an earlier backup")
	}
	if state.lacks(want) {
		return p, errors.New(words + "; restore a later log backup, or to the end with \"Target\"=\"end\"")
	}
	return p, errors.New(words + ", and nowhere in between is that the newest of its domain; give a transaction that is in the logs, a position, or \"Target\"=\"end\"")
}

// checkPosition makes sure that a position is one at which an event of a log begins
// or the log ends. last says that no log follows.
func checkPosition(path string, t target, last bool) error {
	var before int64
	at := int64(t.pos)
	end, err := walkLog(path, make(gtidState), func(here int64, _ *gtid) bool {
		if here <= at {
			before = here
		}
		return here < at
	})
	switch {
	case end == at || err == nil && before == at:
		return nil
	case err != nil:
		return err
	case end > at:
		return fmt.Errorf("%v lies within an event, which begins at %d and ends at %d; give one of these", t, before, end)
	case last:
		return fmt.Errorf("%v lies after the end of the logs, %s:%d; restore a later log backup, or to the end with \"Target\"=\"end\"", t, t.file, end)
	}
	return fmt.Errorf("%v lies after the end of that log, which is %d; give that, or a position in the log that follows", t, end)
}
