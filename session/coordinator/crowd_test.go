package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// crowdedKind is scriptKind that also finds very many, of two users; who is not root
// can start none of those of others. It notes what it was asked to look for.
type crowdedKind struct {
	scriptKind
	asked *writer.Discovery
}

func (k crowdedKind) Discover(ctx context.Context, d writer.Discovery) ([]writer.Spec, error) {
	list, err := k.scriptKind.Discover(ctx, d)
	if k.asked != nil {
		*k.asked = d
	}
	for i := range 2000 {
		list = append(list, writer.Spec{Kind: "script", Name: fmt.Sprint("decoy ", i), Config: []byte(`{"dir": 1}`), Discovered: true,
			Owner: writer.Owner{UID: 12345, GID: 12345, Groups: []uint32{12345}}})
	}
	return list, err
}

// TestACrowdOfServersIsLeftOutByOneLine: a user can start any number of processes
// that look like servers. A limited number is looked at, what is configured takes
// part as ever, and one line says so.
func TestACrowdOfServersIsLeftOutByOneLine(t *testing.T) {
	r := hostedRig(t, scriptConfig{})
	var asked writer.Discovery
	r.o.Kinds = []writer.Kind{crowdedKind{asked: &asked}}
	r.o.Options.Paths, r.o.Options.Running = []string{r.dir}, true
	if list := gathered(t, r); len(list) != 1 || list[0].Discovered {
		t.Errorf("writers %+v, want the configured one", list)
	}
	if !asked.Everywhere() || len(asked.Paths) != 1 {
		t.Errorf("the kind was asked for %+v; servers that run are wanted wherever they are", asked)
	}
	must(t, r.s.GatherWriterStatus(deadline(t), nil))
	list, err := r.s.WriterStatus(deadline(t))
	must(t, err)
	var said []session.WriterStatus
	decoys := 0
	for _, st := range list {
		switch {
		case strings.HasPrefix(st.InstanceName, "decoy"):
			decoys++
		case st.State == vss.WriterFailedAtIdentify:
			said = append(said, st)
		}
	}
	if decoys != 64 {
		t.Errorf("%d of the decoys were looked at, want 64", decoys)
	}
	if len(said) != 1 || !strings.Contains(said[0].Message, "1936 are left out, of user id 12345") {
		t.Errorf("%d lines say that some are left out: %+v", len(said), said)
	}
}

// TestAWriterThatDoesNotStartIsLostAlone: a backup can do without it, unless it is
// required, and its status says why it is not there.
func TestAWriterThatDoesNotStartIsLostAlone(t *testing.T) {
	r := hostedRig(t, scriptConfig{})
	r.o.Options.Writers = append(r.o.Options.Writers, session.WriterConfig{Kind: "script", Name: "broken", Config: []byte(`{"dir": 1}`)})
	if list := gathered(t, r); len(list) != 1 {
		t.Errorf("%d writers, want the one that has started", len(list))
	}
	must(t, r.s.GatherWriterStatus(deadline(t), nil))
	list, err := r.s.WriterStatus(deadline(t))
	must(t, err)
	i := slices.IndexFunc(list, func(st session.WriterStatus) bool { return st.InstanceName == "broken" })
	if i < 0 || list[i].State != vss.WriterFailedAtIdentify || list[i].Failure != vss.ErrWriterInfrastructure || list[i].Message == "" {
		t.Errorf("the status is %+v", list)
	}
	must(t, r.s.Close())

	r.s, r.o.Options.Writers[1].Required = nil, true
	if err := r.to("GatherWriterMetadata"); !errors.Is(err, vss.ErrWriterInfrastructure) || !strings.Contains(err.Error(), "broken") {
		t.Errorf("required: %v", err)
	}
}
