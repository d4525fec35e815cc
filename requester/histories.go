package requester

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// Bounds on the records whose histories are read for one backup, and on their
// bytes. A component of which no full backup is found within them begins anew.
const (
	maxHistoryRecords = 1000
	maxHistoryBytes   = 64 << 20
)

// histories finds what the records of a repository tell of this host's
// components. They are read from the newest to the oldest, as far back as the
// components asked about need it.
type histories struct {
	open func(context.Context) (*repository.Repository, error)
	repo *repository.Repository
	host string
	// list are this host's records that may tell anything, newest first, and
	// read is how many of them were looked into.
	list []*PastRecord
	read int
	size int64 // of what was read of them
	// records are those of the repository, oldest first; none if the key cannot
	// read them. past finds the bases of copies too.
	records []*repository.Record
	past    *PastRecords
	lines   map[HistoryKey][]pastLine // newest first
	full    map[HistoryKey]int        // the record in list of the newest that counts as full
	// doubt says why a backup may have been missed that is newer than those found
	// from the record at doubtAt on. A writer that uses stamps is told which backup
	// is built upon; any other goes by what it remembers itself, which may then be
	// another one.
	doubt   string
	doubtAt int
	most    bool // there are more records than are read
}

// warning is what the user must hear of what was found.
func (h *histories) warning() string {
	switch {
	case h.doubt != "":
		return h.doubt + "; components whose writers use no stamps begin anew, as a newer backup of theirs may have been missed"
	case h.most:
		return fmt.Sprintf("no more than %d backups, or %d MiB of their histories, are looked into: components whose last full backup lies before begin anew",
			maxHistoryRecords, maxHistoryBytes>>20)
	}
	return ""
}

// pastLine is a line and the record it is in.
type pastLine struct {
	*HistoryLine
	in *PastRecord
}

// begin finds out which records there are.
func (h *histories) begin(ctx context.Context) (err error) {
	if h.past != nil {
		return nil
	}
	if h.repo, err = h.open(ctx); err != nil {
		return err
	}
	h.lines, h.full = map[HistoryKey][]pastLine{}, map[HistoryKey]int{}
	var list []*PastRecord
	if h.repo.WriteOnly() {
		list, h.doubt, err = knownRecords(ctx, h.repo)
	} else if h.records, err = h.repo.Records(ctx); errors.Is(err, repository.ErrDamaged) {
		h.doubt, err = fmt.Sprintf("a record cannot be read: %v", err), nil
	}
	if err != nil {
		return err
	}
	for _, rec := range h.records {
		list = append(list, newPast(ctx, rec))
	}
	h.past = NewPastRecords(list)
	for _, r := range slices.Backward(h.past.list) {
		if r.Host == h.host && h.host != "" && r.Type != vss.BackupTypeCopy.Word() {
			h.list = append(h.list, r)
		}
	}
	return nil
}

// of is what the records tell of a component; sure is false if a newer backup of
// it may have been missed.
func (h *histories) of(ctx context.Context, key HistoryKey) (_ ComponentHistory, sure bool, err error) {
	if err := h.begin(ctx); err != nil {
		return ComponentHistory{}, false, err
	}
	for h.read < len(h.list) {
		if _, found := h.full[key]; found {
			break
		}
		if h.read == maxHistoryRecords || h.size > maxHistoryBytes {
			h.list = h.list[:h.read]
			h.most = true
			break
		}
		if err := h.next(ctx); err != nil {
			return ComponentHistory{}, false, err
		}
	}
	at, found := h.full[key]
	return h.sum(key), h.doubt == "" || found && at < h.doubtAt, nil
}

// next looks into one more record.
func (h *histories) next(ctx context.Context) error {
	r := h.list[h.read]
	h.read++
	if r.Record != nil {
		doc := r.Record.Documents[DocHistory]
		h.size += doc.Size()
	}
	lines, err := r.all()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if h.doubt == "" {
			h.doubt, h.doubtAt = fmt.Sprintf("the history in backup %s cannot be read: %v", r.ID.Short(), err), h.read-1
		}
		return nil
	}
	for _, l := range lines {
		if l.Host != h.host || !l.Succeeded {
			continue
		}
		h.lines[l.HistoryKey] = append(h.lines[l.HistoryKey], pastLine{l, r})
		if _, found := h.full[l.HistoryKey]; !found && l.Counts == vss.BackupTypeFull.Word() {
			h.full[l.HistoryKey] = h.read - 1
		}
	}
	return nil
}

// sum puts together what was read of a component. Of each kind the newest
// counts, or none: one that is older than what the writer remembers is no base.
func (h *histories) sum(key HistoryKey) (out ComponentHistory) {
	lines := h.lines[key]
	first := func(kinds ...vss.BackupType) *Base {
		for i, l := range lines {
			if slices.ContainsFunc(kinds, func(t vss.BackupType) bool { return l.Counts == t.Word() }) {
				return h.base(lines[i:])
			}
		}
		return nil
	}
	out.Full = first(vss.BackupTypeFull)
	out.Incremental = first(vss.BackupTypeFull, vss.BackupTypeIncremental)
	out.Log = first(vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeLog)
	for _, l := range lines {
		if l.Counts == vss.BackupTypeFull.Word() {
			break
		}
		out.Incrementals = out.Incrementals || l.Type == vss.BackupTypeIncremental.Word()
		out.Differentials = out.Differentials || l.Type == vss.BackupTypeDifferential.Word()
	}
	return out
}

// base gives the first of the lines as something to build upon: nil if its chain
// down to what stands alone has a hole.
func (h *histories) base(lines []pastLine) *Base {
	top := lines[0]
	for l := top; l.Base != ""; {
		in := h.past.Base(l.in, l.HistoryLine)
		i := slices.IndexFunc(lines, func(x pastLine) bool { return x.in == in })
		if in == nil || i < 1 {
			return nil // it is not there, or is not older
		}
		lines = lines[i:]
		l = lines[0]
	}
	t, err := vss.ParseBackupType(top.Type)
	if err != nil {
		return nil
	}
	return &Base{Record: top.in.ID, Time: top.in.Time, Type: t, Stamp: top.BackupStamp, Added: top.Added}
}

// record gives a record that a base names; nil if its files cannot be read here.
func (h *histories) record(id repository.ID) *repository.Record {
	if h == nil || h.past == nil {
		return nil
	}
	if r := h.past.Find(id); r != nil {
		return r.Record
	}
	return nil
}

// all gives what a record says of components.
func (r *PastRecord) all() ([]*HistoryLine, error) {
	_, err := r.Line(HistoryKey{})
	return slices.Collect(maps.Values(r.lines)), err
}
