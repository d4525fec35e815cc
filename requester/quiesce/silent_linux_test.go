package quiesce

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// socketOf listens in a state directory as a holder does.
func socketOf(t *testing.T) (*socket, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, dir
}

func impatient(t *testing.T, silent, sign time.Duration) {
	t.Helper()
	s, g := silence, signTime
	t.Cleanup(func() { silence, signTime = s, g })
	silence, signTime = silent, sign
}

// TestWhoHoldsAndIsStoppedIsNotWaitedFor: the kernel takes connections and requests
// for a process that is stopped. Whoever asks is told which it is, and what becomes of
// the hold.
func TestWhoHoldsAndIsStoppedIsNotWaitedFor(t *testing.T) {
	impatient(t, 200*time.Millisecond, time.Hour)
	_, dir := socketOf(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for what, ask := range map[string]func(context.Context, string) (Answer, error){"thaw": Thaw, "status": Status} {
		_, err := ask(ctx, dir)
		if !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), fmt.Sprintf("process %d ", os.Getpid())) || !strings.Contains(err.Error(), "lease") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestASlowAnswerIsWaitedFor: while writers thaw, which may take minutes, the holder
// gives signs of life.
func TestASlowAnswerIsWaitedFor(t *testing.T) {
	impatient(t, 2*time.Second, 50*time.Millisecond)
	s, dir := socketOf(t)
	h := &holder{socket: s, asked: make(chan *asking, 1)}
	go h.accept()
	go func() {
		q := <-h.asked
		time.Sleep(3 * time.Second)
		q.say(Answer{State: Thawed, PID: 7})
		q.conn.Close()
	}()
	if a, err := Thaw(t.Context(), dir); err != nil || a.State != Thawed || a.PID != 7 {
		t.Errorf("%+v, %v", a, err)
	}
	if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
