package requester

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// docKnown is the document in which a machine whose key cannot read the
// repository keeps what the records before told of components: it reads it from
// the local state of its last backup.
const docKnown = "known.json"

// maxKnown bounds it. What does not fit is not known any more, so that the
// components begin anew.
const maxKnown = 8 << 20

// knownRecord is a record and what it tells of components.
type knownRecord struct {
	ID   string    `json:"id"`
	Host string    `json:"host"`
	Time time.Time `json:"time"`
	Type string    `json:"type"`
	// Parents are those of its parents that are known.
	Parents []string      `json:"parents,omitempty"`
	Lines   []HistoryLine `json:"lines"`
}

// knownRecords are the records that the local states of this machine tell of, as
// far as they are in the repository. doubt says that a state could not be read.
func knownRecords(ctx context.Context, repo *repository.Repository) (list []*PastRecord, doubt string, err error) {
	names, err := repo.LocalStates(ctx)
	if err != nil {
		return nil, "", err
	}
	there, err := repo.RecordIDs(ctx)
	if err != nil {
		return nil, "", err
	}
	found := map[repository.ID]*PastRecord{}
	for i, name := range names { // those made last first
		records, err := readKnown(ctx, repo, name)
		switch {
		case ctx.Err() != nil:
			return nil, "", ctx.Err()
		case errors.Is(err, repository.ErrNotFound):
			if i == 0 { // nobody else knows what was made last
				doubt = fmt.Sprintf("the backup that this machine made last is not in the repository any more (%v)", err)
			}
			continue
		case err != nil:
			doubt = fmt.Sprintf("what the local state knows of earlier backups cannot be read: %v", err)
		}
		for _, r := range records {
			if slices.Contains(there, r.ID) {
				found[r.ID] = r
			}
		}
	}
	return slices.Collect(maps.Values(found)), doubt, nil
}

// readKnown reads what one local state tells.
func readKnown(ctx context.Context, repo *repository.Repository, name string) (list []*PastRecord, err error) {
	rec, err := repo.LocalRecordOf(ctx, name)
	if err != nil {
		return nil, err
	}
	lines, err := ReadHistory(ctx, rec)
	if err != nil {
		return nil, err
	}
	list = append(list, NewPastRecord(PastRecord{ID: rec.ID, Host: rec.Host.ID, Time: rec.Time, Type: rec.Type, Parents: rec.Parents}, lines))
	if _, ok := rec.Documents[docKnown]; !ok {
		return list, nil
	}
	data, err := rec.Document(ctx, docKnown, maxKnown)
	if err != nil {
		return list, fmt.Errorf("document %s: %w", docKnown, err)
	}
	more, err := parseKnown(data)
	if err != nil {
		return list, fmt.Errorf("document %s: %w", docKnown, err)
	}
	return append(list, more...), nil
}

// parseKnown reads the document [docKnown].
func parseKnown(data []byte) (list []*PastRecord, err error) {
	records, err := readList[knownRecord](data, maxHistoryRecords)
	if err != nil {
		return nil, err
	}
	for i, k := range records {
		id, err := repository.ParseID(k.ID)
		if err == nil {
			err = checkLines(k.Lines)
		}
		var parents []repository.ID
		for _, p := range k.Parents {
			parent, perr := repository.ParseID(p)
			err = errors.Join(err, perr)
			parents = append(parents, parent)
		}
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i+1, err)
		}
		list = append(list, NewPastRecord(PastRecord{ID: id, Host: k.Host, Time: k.Time, Type: k.Type, Parents: parents}, k.Lines))
	}
	return list, nil
}

// known is what is to be kept for later backups, beside the lines of this one:
// of each component what was made since its last full backup, and that.
func (h *histories) known(now []HistoryLine) ([]byte, error) {
	begun := map[HistoryKey]bool{} // a full backup of it is among them
	for _, l := range now {
		begun[l.HistoryKey] = l.Succeeded && l.Counts == vss.BackupTypeFull.Word()
	}
	var out []knownRecord
	for _, r := range h.list {
		lines, err := r.all()
		if err != nil {
			continue // which has been said
		}
		k := knownRecord{ID: r.ID.String(), Host: r.Host, Time: r.Time, Type: r.Type}
		for _, l := range lines {
			if !begun[l.HistoryKey] && l.Succeeded {
				k.Lines = append(k.Lines, *l)
				begun[l.HistoryKey] = l.Counts == vss.BackupTypeFull.Word()
			}
		}
		for _, p := range r.Parents {
			if h.past.Find(p) != nil {
				k.Parents = append(k.Parents, p.String())
			}
		}
		if len(k.Lines) > 0 {
			out = append(out, k)
		}
	}
	out = out[:min(len(out), maxHistoryRecords)]
	for {
		data, err := json.Marshal(out)
		if err != nil || len(data) <= maxKnown {
			return data, err
		}
		out = out[:len(out)/2]
	}
}
