package postgres

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// stamp is what the writer knows a backup by: how far the backup goes.
type stamp struct {
	// System, Timeline and LSN say where the log goes on that a next log backup
	// must begin with.
	System   uint64 `json:"system,string"`
	Timeline uint32 `json:"timeline"`
	LSN      string `json:"lsn"`
	// Slot is the replication slot that keeps the log from there; empty if none
	// does. Its name is made anew for each chain, and no restore brings a slot
	// back: so a stamp of another life of the cluster never finds its own.
	Slot string `json:"slot,omitempty"`
	// Base is the last backup with the cluster's files that the logs follow.
	Base instant `json:"base"`
}

// instant bounds the moment of a copy: not before what is first, not after what
// is last.
type instant struct {
	FirstLSN string    `json:"first_lsn,omitempty"`
	LastLSN  string    `json:"last_lsn,omitempty"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// maxStamp bounds what is read: a stamp comes back from a medium.
const maxStamp = 4096

// slotName is what names of slots of ours are made of.
var slotName = regexp.MustCompile(`^sombra_[0-9a-f]{16}$`)

func (s *stamp) encode() vss.BackupStamp {
	b, _ := json.Marshal(s) // numbers, text and times only
	return vss.BackupStamp(b)
}

// parseStamp reads a stamp.
func parseStamp(text vss.BackupStamp) (stamp, error) {
	var s stamp
	if len(text) > maxStamp {
		return s, fmt.Errorf("the previous backup's stamp has %d bytes", len(text))
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("the previous backup's stamp %.60q: %w", string(text), err)
	}
	if _, err := parseLSN(s.LSN); err != nil {
		return s, fmt.Errorf("the previous backup's stamp: %w", err)
	}
	if s.Slot != "" && !slotName.MatchString(s.Slot) {
		return s, fmt.Errorf("the previous backup's stamp names the slot %.80q", s.Slot)
	}
	return s, nil
}

// position gives where the log goes on.
func (s *stamp) position() lsn {
	l, _ := parseLSN(s.LSN) // checked when it was read, or made here
	return l
}

// notes is what the writer keeps with a backup (SetBackupMetadata).
type notes struct {
	System   uint64 `json:"system,string"`
	Timeline uint32 `json:"timeline"`
	// Base is the moment of the cluster's files, of this backup or of the one
	// that its logs follow.
	Base instant `json:"base"`
	// End is how far the logs of a log backup go; zero without.
	End *logEnd `json:"end,omitempty"`
	// Label and Map are what pg_backup_stop gave.
	Label string `json:"label,omitempty"`
	Map   string `json:"tablespace_map,omitempty"`
}

// logEnd is where a log backup ends: what was committed before Time is in it.
type logEnd struct {
	LSN  string    `json:"lsn"`
	Time time.Time `json:"time"`
}

// maxNotes bounds what is read of a medium.
const maxNotes = 1 << 20

func (n *notes) encode() string {
	b, _ := json.Marshal(n)
	return string(b)
}

func parseNotes(text string) (notes, error) {
	var n notes
	if len(text) > maxNotes {
		return n, fmt.Errorf("the backup's metadata has %d bytes", len(text))
	}
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return n, fmt.Errorf("the backup's metadata %.60q: %w", text, err)
	}
	return n, nil
}
