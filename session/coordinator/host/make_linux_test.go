package host

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Servers that do not answer are waited for together: one after the other they would
// take all of the host's time, and with it the writers of those that do.
func TestWritersAreMadeAtTheSameTime(t *testing.T) {
	var specs []writer.Spec
	for i := range party {
		specs = append(specs, spec("fickle", fmt.Sprintf("w%02d", i), me(), "meet"))
	}
	h := start(t, specs...)
	for i, err := range h.Errors() {
		if err != nil {
			t.Fatalf("%s: %v", specs[i].Name, err)
		}
	}
	for i, w := range h.Writers() {
		if w.Spec.Name != specs[i].Name {
			t.Errorf("writer %d is %s, want the order of the specifications", i, w.Spec.Name)
		}
	}
	if n := len(h.Writers()); n != party {
		t.Errorf("%d writers of %d", n, party)
	}
}

// gate is a kind whose New does as its function says.
type gate struct {
	locks
	do func(ctx context.Context, name string) error
}

func (gate) Name() string { return "gate" }

func (g gate) New(ctx context.Context, s writer.Spec) (writer.Writer, error) {
	if err := g.do(ctx, s.Name); err != nil {
		return nil, err
	}
	return &lockWriter{name: s.Name}, nil
}

func gated(n int) (specs []writer.Spec) {
	for i := range n {
		specs = append(specs, writer.Spec{Kind: "gate", Name: fmt.Sprintf("w%03d", i)})
	}
	return specs
}

// What is not made in time costs itself and no other writer.
func TestWriterThatIsNeverMadeTakesNoOtherWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		defer close(stop)
		kind := gate{do: func(ctx context.Context, name string) error {
			switch name {
			case "w001":
				<-stop
			case "w002":
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		}}
		specs := gated(4)
		begun := time.Now()
		writers, r := makeAll(t.Context(), []writer.Kind{kind}, specs, makeLimit)
		if took := time.Since(begun); took > (Options{}).withDefaults().StartLimit*3/4 {
			t.Errorf("it took %v", took)
		}
		if len(writers) != 2 || writers[0].(*lockWriter).name != "w000" || writers[1].(*lockWriter).name != "w003" {
			t.Errorf("%d writers, want the first and the last", len(writers))
		}
		for i, want := range []string{"", "does not stop trying", "not made within 20s", ""} {
			if (want == "") != r[i].Served || !strings.Contains(r[i].Text, want) {
				t.Errorf("%s: %+v, want %q", specs[i].Name, r[i], want)
			}
			if want != "" && r[i].Code != vss.ErrUnexpected {
				t.Errorf("%s: code %v", specs[i].Name, r[i].Code)
			}
		}
	})
}

// However many there are, no more than so many are made at once. Each gets its turn
// if there is time, and those that do not are told of.
func TestWritersMadeAtOnceAreBounded(t *testing.T) {
	for takes, wantAll := range map[time.Duration]bool{5 * time.Second: true, time.Hour: false} {
		synctest.Test(t, func(t *testing.T) {
			var most, now atomic.Int32
			kind := gate{do: func(ctx context.Context, name string) error {
				defer now.Add(-1)
				for n, m := now.Add(1), int32(0); n > m; m = most.Load() {
					most.CompareAndSwap(m, n)
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(takes):
					return nil
				}
			}}
			specs := gated(3 * makeAtOnce)
			writers, r := makeAll(t.Context(), []writer.Kind{kind}, specs, makeLimit)
			synctest.Wait()
			if m := most.Load(); m > makeAtOnce || now.Load() != 0 {
				t.Errorf("%d were made at once, want %d at most; %d are left", m, makeAtOnce, now.Load())
			}
			for i := range r {
				if r[i].Served != wantAll || (r[i].Text == "") != wantAll || len(writers) != 0 != wantAll {
					t.Fatalf("each takes %v: %s: %+v; %d writers", takes, specs[i].Name, r[i], len(writers))
				}
			}
		})
	}
}
