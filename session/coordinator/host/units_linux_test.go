package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/session/coordinator/hold/child"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// noted is a unit that notes what is asked of it.
type noted struct {
	name string
	mu   sync.Mutex
	log  []string
	stop func(context.Context) error
}

func (n *noted) note(op string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, op)
}

func (n *noted) said() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.log, " ")
}

func (n *noted) Name() string { return n.name }
func (n *noted) Stop(ctx context.Context) error {
	n.note("stop")
	return n.stop(ctx)
}
func (n *noted) Start(context.Context) error          { n.note("start"); return nil }
func (n *noted) Hold(context.Context) error           { n.note("hold"); return nil }
func (n *noted) Thaw(context.Context) error           { n.note("thaw"); return nil }
func (n *noted) Freeze(context.Context) error         { n.note("freeze"); return nil }
func (n *noted) LetGo(context.Context) (bool, error)  { n.note("let go"); return true, nil }
func (n *noted) Release(context.Context) error        { n.note("release"); return nil }
func (n *noted) Active(context.Context) (bool, error) { n.note("active"); return true, nil }

// asks is a kind whose writers do with their units what their names say, while
// they are made; its error is what became of that.
type asks struct{ locks }

func (asks) Name() string { return "asks" }

func (asks) New(_ context.Context, s writer.Spec) (writer.Writer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if s.Service == nil {
		return nil, errors.New("no service")
	}
	switch s.Name {
	case "all":
		up, err := s.Service.Active(ctx)
		h := s.Service.(writer.ServiceHolder)
		starting, lerr := h.LetGo(ctx)
		return nil, fmt.Errorf("%s is up: %v, starting: %v; %w", s.Service.Name(), up, starting,
			errors.Join(err, lerr, h.Freeze(ctx), h.Hold(ctx), h.Thaw(ctx), h.Release(ctx), h.Start(ctx), h.Stop(ctx), errors.New("done")))
	case "short":
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		return nil, s.Service.Stop(ctx)
	case "dies":
		go s.Service.Stop(ctx)
		time.Sleep(100 * time.Millisecond)
		os.Exit(3)
	}
	return nil, hostile(s.Service.(unitOf).calls, s.Name)
}

// hostile sends what it likes to the service's process, and gives its answer.
func hostile(c *unitCaller, what string) error {
	answer := make(chan unitAnswer, 1)
	c.mu.Lock()
	c.calls[7] = answer
	c.mu.Unlock()
	var err error
	switch what {
	case "huge":
		_, err = c.conn.Write(binary.BigEndian.AppendUint32(nil, 1<<31))
	case "nonsense":
		_, err = c.conn.Write(append(binary.BigEndian.AppendUint32(nil, 4), "{{{{"...))
	default:
		err = child.WriteFrame(c.conn, madeUp(what))
	}
	if err != nil {
		return err
	}
	select {
	case a := <-answer:
		return fmt.Errorf("answer: %w", errors.Join(a.error(), errors.New("end")))
	case <-c.gone:
		return errors.New("cut off")
	case <-time.After(20 * time.Second):
		return errors.New("no answer")
	}
}

// madeUp is a request as a host may make it up, with all that it could name a unit by.
func madeUp(what string) any {
	m := map[string]any{"id": 7, "op": "stop", "writer": 0, "unit": "ssh.service", "name": "ssh.service"}
	switch what {
	case "another's":
		m["writer"] = 1
	case "none":
		m["writer"] = 1 << 30
	case "negative":
		m["writer"] = -1
	case "other":
		m["op"] = "mask"
	}
	return m
}

// ask starts a host for one writer with a unit and one without, and gives what the
// first said.
func ask(t *testing.T, what string, u *noted) error {
	t.Helper()
	u.name = "app.service"
	if u.stop == nil {
		u.stop = func(context.Context) error { return vss.Errorf(vss.ErrAccessDenied, "stop service", u.name, "not now") }
	}
	self := writer.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	a, b := spec("asks", what, self, ""), spec("asks", "without", self, "")
	a.Unit = u.name
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	h, err := Start(ctx, Options{Args: []string{"host"}, Stderr: os.Stderr, Service: func(s writer.Spec) writer.ServiceHolder {
		if s.Unit != u.name {
			t.Errorf("the unit of %q is asked for", s.Unit)
		}
		return u
	}}, []writer.Spec{a, b})
	if err != nil {
		return err
	}
	t.Cleanup(func() { h.Close(context.Background()) })
	if err := h.Errors()[1]; err == nil || err.Error() != "no service" {
		t.Errorf("the writer without unit: %v", err)
	}
	return h.Errors()[0]
}

func TestHostAsksForItsWritersUnit(t *testing.T) {
	var u noted
	err := ask(t, "all", &u)
	if err == nil || !strings.Contains(err.Error(), "app.service is up: true, starting: true") || !strings.HasSuffix(err.Error(), "done") ||
		!strings.Contains(err.Error(), "not now") || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("it says %v", err)
	}
	if u.said() != "active let go freeze hold thaw release start stop" {
		t.Errorf("asked for: %s", u.said())
	}
}

// TestHostileHostReachesNoOtherUnit: a host that speaks with the service's process
// by itself has nothing done but with the unit of its own specification.
func TestHostileHostReachesNoOtherUnit(t *testing.T) {
	for what, want := range map[string]string{
		"another's": "has no unit", "none": "has no unit", "negative": "has no unit", "other": "cannot be asked",
		"huge": "cut off", "nonsense": "cut off",
	} {
		t.Run(what, func(t *testing.T) {
			var u noted
			if err := ask(t, what, &u); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			if u.said() != "" {
				t.Errorf("it got %s", u.said())
			}
		})
	}
}

// TestUnitCallEndsWithItsTime: what was asked for is ended, too.
func TestUnitCallEndsWithItsTime(t *testing.T) {
	ended := make(chan error, 1)
	u := noted{stop: func(ctx context.Context) error {
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return context.Cause(ctx)
	}}
	if err := ask(t, "short", &u); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
		t.Errorf("%v", err)
	}
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Errorf("the stop ended with %v", err)
	}
}

// TestUnitCallEndsWithItsHost: a host that dies keeps nothing busy.
func TestUnitCallEndsWithItsHost(t *testing.T) {
	ended := make(chan error, 1)
	u := noted{stop: func(ctx context.Context) error {
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return context.Cause(ctx)
	}}
	if err := ask(t, "dies", &u); err == nil {
		t.Error("the host has started")
	}
	select {
	case err := <-ended:
		if !errors.Is(err, errHostGone) {
			t.Errorf("the stop ended with %v, want that the host is gone", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the stop goes on")
	}
}
