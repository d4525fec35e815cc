package coordinator

import (
	"sync"

	"github.com/sombra-backup/sombra/vss"
)

// maxSlots is how many sessions a service keeps state for at once, as the
// model's own writers do.
const maxSlots = 64

// Slots bounds the sessions a long-lived program has open at once. A session
// takes a slot when it gathers metadata and frees it with the last gathering of
// status, or when it is closed. The zero value is ready.
type Slots struct {
	mu   sync.Mutex
	used map[vss.GUID]bool
}

// take gives a slot to a session; VSS_E_WRITER_STATUS_NOT_AVAILABLE if none is
// left.
func (s *Slots) take(id vss.GUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used[id] {
		return nil
	}
	if len(s.used) >= maxSlots {
		return vss.Errorf(vss.ErrWriterStatusNotAvailable, "take", "session slot",
			"all %d are taken; a session frees its slot with GatherWriterStatus after BackupComplete, or with Close", maxSlots)
	}
	if s.used == nil {
		s.used = make(map[vss.GUID]bool)
	}
	s.used[id] = true
	return nil
}

func (s *Slots) free(id vss.GUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.used, id)
}

// Used is how many slots are taken.
func (s *Slots) Used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.used)
}
