package requester

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sombra-backup/sombra/repository"
)

// since is what an entry says of a file of which only what changed was read, as
// the provider told it: AttrSince and AttrChanged. They go with AttrRead, from
// entry to entry: whoever takes over the content takes over all three.
type since struct {
	record string // since whose shadow copy; empty: the file was read whole
	ranges int64
	bytes  int64
}

func (s since) told() bool { return s.record != "" }

// sinceRecord is that of a file of which the ranges changed since a record's
// shadow copy.
func sinceRecord(rec *repository.Record, changed []repository.Range) since {
	s := since{record: rec.ID.String(), ranges: int64(len(changed))}
	for _, r := range changed {
		s.bytes += r.Length
	}
	return s
}

// sinceOf is what an entry of a record says. One that makes no sense says nothing.
func sinceOf(e *repository.Entry) (s since) {
	ranges, bytes, ok := strings.Cut(e.Attrs[AttrChanged], ":")
	n, err := strconv.ParseInt(ranges, 10, 64)
	b, berr := strconv.ParseInt(bytes, 10, 64)
	if !ok || err != nil || berr != nil || n < 0 || b < 0 {
		return since{}
	}
	return since{record: e.Attrs[AttrSince], ranges: n, bytes: b}
}

// tell writes it into an entry's attributes, which are its own.
func (s since) tell(e *repository.Entry) {
	if s.told() {
		e.Attrs[AttrSince], e.Attrs[AttrChanged] = s.record, fmt.Sprintf("%d:%d", s.ranges, s.bytes)
	}
}

// ReadSince tells of a file of which the record's own backup read only what had
// changed, as the provider told it: since which record, and how many ranges and
// bytes. ok is false for all others, and for content that an earlier backup read.
func ReadSince(rec *repository.Record, e *repository.Entry) (record string, ranges, bytes int64, ok bool) {
	s := sinceOf(e)
	if !s.told() || e.Attrs[AttrRead] != readMark(rec.Started) {
		return "", 0, 0, false
	}
	return s.record, s.ranges, s.bytes, true
}
