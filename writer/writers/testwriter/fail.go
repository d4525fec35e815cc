package testwriter

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// failures does what the elements FailEvent say. The numbers of failures are
// counted for as long as the writer lives.
type failures struct {
	mu     sync.Mutex
	events []FailEvent
}

// retryable are the codes after which the whole operation may be tried again.
var retryable = []vss.Code{vss.ErrWriterErrorRetryable, vss.ErrWriterErrorTimeout, vss.ErrWriterErrorOutOfResources}

// at lets an event fail or hang. A hanging one takes no notice of its context,
// as a writer that hangs would not.
func (f *failures) at(kind writer.EventKind, j *journal) error {
	for _, e := range f.due(kind) {
		if e.Hang > 0 {
			j.event("%v: hangs for %v, as configured", kind, e.Hang)
			time.Sleep(e.Hang)
			continue
		}
		code := vss.ErrWriterErrorNonRetryable
		if e.Retryable {
			code = retryable[rand.IntN(len(retryable))]
		}
		j.event("%v: fails with %v, as configured", kind, code)
		return vss.Errorf(code, kind.String(), "test writer", "it fails, as configured")
	}
	return nil
}

// due gives the elements that apply to an event now, and counts them.
func (f *failures) due(kind writer.EventKind) []FailEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	var due []FailEvent
	for i := range f.events {
		e := &f.events[i]
		if e.Event != kind || e.Count == 0 {
			continue
		}
		if e.Count > 0 {
			e.Count--
		}
		due = append(due, *e)
		if e.Hang == 0 {
			break // it fails: those after it wait for the next time
		}
	}
	return due
}
