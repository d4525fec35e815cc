package coordinator_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// meetingKind is a kind whose Discover waits for that of another.
type meetingKind struct {
	scriptKind
	name  string
	class vss.GUID
	met   chan struct{}
}

func (k meetingKind) Name() string    { return k.name }
func (k meetingKind) Class() vss.GUID { return k.class }

func (k meetingKind) Discover(ctx context.Context, d writer.Discovery) ([]writer.Spec, error) {
	select {
	case k.met <- struct{}{}:
	case <-k.met:
	case <-time.After(30 * time.Second):
		return nil, context.DeadlineExceeded
	}
	return k.scriptKind.Discover(ctx, d)
}

// TestKindsAreDiscoveredBesideEachOther: nobody waits for a kind that looks for long.
func TestKindsAreDiscoveredBesideEachOther(t *testing.T) {
	o := options(filepath.Join(scratch(t), "state"))
	met := make(chan struct{})
	other := scriptClass
	other[15]++
	o.Kinds = []writer.Kind{meetingKind{name: "one", class: scriptClass, met: met}, meetingKind{name: "two", class: other, met: met}}
	o.Options = session.Options{Paths: []string{scratch(t)}}
	s := open(t, o)
	t.Cleanup(func() { must(t, s.Close()) })
	must(t, s.InitializeForBackup(deadline(t), nil))
	must(t, s.GatherWriterMetadata(deadline(t), nil))
}
