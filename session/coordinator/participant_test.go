package coordinator

import (
	"context"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// early is a writer in another process whose clock ends the time for an event
// before ours does.
type early struct{ writer.Writer }

func (early) Freeze(context.Context, *writer.Event) error {
	return vss.Errorf(vss.ErrWriterNotResponding, "Freeze", "early", "no answer in time: %w", context.DeadlineExceeded)
}

// TestTimeLimitIsNamedWhoeversClockEndsIt: what a writer did not do in time is
// VSS_E_WRITERERROR_TIMEOUT also if its own process noticed first.
func TestTimeLimitIsNamedWhoeversClockEndsIt(t *testing.T) {
	p := &participant{w: early{}, instanceName: "early"}
	answered, err := p.send(t.Context(), writer.EventFreeze, &writer.Event{}, time.Minute)
	if answered || vss.CodeOf(err) != vss.ErrWriterErrorTimeout {
		t.Errorf("answered %v, %v", answered, err)
	}
}
