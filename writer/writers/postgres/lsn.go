package postgres

import (
	"fmt"
	"strconv"
	"strings"
)

// lsn is a position in the write-ahead log.
type lsn uint64

// String gives the form that PostgreSQL prints, as "16/B374D848".
func (l lsn) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// parseLSN reads what String gives.
func parseLSN(s string) (lsn, error) {
	high, low, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%.40q is no position in the log, such as 16/B374D848", s)
	}
	return lsn(h<<32 | l), nil
}

// The log consists of pages. Each begins with a header, that of a segment's first page
// is the longest.
const (
	logPage   = 8192
	logHeader = 40
)

// behindHeader gives a position that no record lies before on its page: the server
// calls the end of a full page the beginning of the next one (pg_current_wal_lsn), and
// a backup that ends there ends behind the header.
func (l lsn) behindHeader() lsn {
	if l%logPage == 0 {
		return l + logHeader
	}
	return l
}

// segmentOf gives the number of the segment that a position lies in.
func segmentOf(l lsn, size uint64) uint64 { return uint64(l) / size }

// segmentName is the name of a segment's file.
func segmentName(timeline uint32, number, size uint64) string {
	per := (uint64(1) << 32) / size
	return fmt.Sprintf("%08X%08X%08X", timeline, number/per, number%per)
}

// timelineOf gives the timeline of a segment by its file's name.
func timelineOf(name string) (uint32, error) {
	if len(name) < 8 {
		return 0, fmt.Errorf("%.40q is no name of a log segment", name)
	}
	t, err := strconv.ParseUint(name[:8], 16, 32)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no name of a log segment", name)
	}
	return uint32(t), nil
}
