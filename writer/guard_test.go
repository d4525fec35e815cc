package writer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// script is a writer that does what a test tells it to and notes its events.
type script struct {
	desc Description
	do   map[EventKind]func(ctx context.Context, e *Event) error

	mu  sync.Mutex
	got []string
}

func (s *script) event(ctx context.Context, k EventKind, e *Event) error {
	s.note(k.String())
	if f := s.do[k]; f != nil {
		return f(ctx, e)
	}
	return nil
}

func (s *script) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, text)
}

func (s *script) events() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

func (s *script) Describe() Description { return s.desc }
func (s *script) Identify(ctx context.Context) (*metadata.WriterMetadata, error) {
	if err := s.event(ctx, EventIdentify, nil); err != nil {
		return nil, err
	}
	return testDocument(), nil
}
func (s *script) Freeze(ctx context.Context, e *Event) error { return s.event(ctx, EventFreeze, e) }
func (s *script) Thaw(ctx context.Context, e *Event) error   { return s.event(ctx, EventThaw, e) }
func (s *script) Abort(ctx context.Context, e *Event) error  { return s.event(ctx, EventAbort, e) }
func (s *script) PrepareForBackup(ctx context.Context, e *Event) error {
	return s.event(ctx, EventPrepareForBackup, e)
}
func (s *script) PostSnapshot(ctx context.Context, e *Event) error {
	return s.event(ctx, EventPostSnapshot, e)
}
func (s *script) BackupShutdown(ctx context.Context, e *Event) error {
	return s.event(ctx, EventBackupShutdown, e)
}

func wantEvents(t *testing.T, s *script, want ...string) {
	t.Helper()
	if got := s.events(); !slices.Equal(got, want) {
		t.Errorf("events: got %v, want %v", got, want)
	}
}

func wantCode(t *testing.T, err error, want vss.Code) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

var (
	sessionA = vss.MustParseGUID("00000000-0000-4000-8000-00000000000a")
	sessionB = vss.MustParseGUID("00000000-0000-4000-8000-00000000000b")
)

func TestGuardReleasesAWriterFrozenPastItsLimit(t *testing.T) {
	for _, test := range []struct {
		name  string
		own   time.Duration // Description.FreezeTimeout
		limit time.Duration // Event.Limit
		want  time.Duration
	}{
		{"model's default", 0, 0, 60 * time.Second},
		{"own shorter limit", 20 * time.Second, 0, 20 * time.Second},
		{"own longer limit has no effect", 90 * time.Second, 0, 60 * time.Second},
		{"the service's limit", 0, time.Second, time.Second},
		{"the service's limit may be longer", 0, 5 * time.Minute, 5 * time.Minute},
		{"own limit before a longer one", 20 * time.Second, 5 * time.Minute, 20 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{desc: Description{FreezeTimeout: test.own}}
				g := NewGuard(s, quiet)
				e := &Event{SessionID: sessionA, Limit: test.limit}
				if err := g.Freeze(t.Context(), e); err != nil {
					t.Fatal(err)
				}
				time.Sleep(test.want - time.Nanosecond)
				synctest.Wait()
				wantEvents(t, s, "Freeze")
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				wantEvents(t, s, "Freeze", "Abort")

				wantCode(t, g.Thaw(t.Context(), e), vss.ErrWriterErrorTimeout)
				wantCode(t, g.PostSnapshot(t.Context(), e), vss.ErrWriterErrorTimeout)
				wantEvents(t, s, "Freeze", "Abort")

				// Another session starts clean.
				if err := g.Freeze(t.Context(), &Event{SessionID: sessionB}); err != nil {
					t.Fatal(err)
				}
				if err := g.Thaw(t.Context(), &Event{SessionID: sessionB}); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestGuardStopsTheClockOnThawAndAbort(t *testing.T) {
	for _, end := range []EventKind{EventThaw, EventAbort} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{}
			g := NewGuard(s, quiet)
			e := &Event{SessionID: sessionA}
			if err := g.Freeze(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if err := Notify(t.Context(), g, end, e); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			wantEvents(t, s, "Freeze", end.String())
		})
	}
}

func TestGuardAnswersWhenTheHandlerDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		s := &script{do: map[EventKind]func(context.Context, *Event) error{
			EventFreeze: func(context.Context, *Event) error { <-let; return nil },
		}}
		g := NewGuard(s, quiet)
		start := time.Now()
		err := g.Freeze(t.Context(), &Event{SessionID: sessionA, Limit: time.Second})
		wantCode(t, err, vss.ErrWriterErrorTimeout)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("Freeze answered after %v, its limit was 1 s", took)
		}
		synctest.Wait()
		wantEvents(t, s, "Freeze", "Abort")

		// The handler still has the turn: events wait for it, and say so.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = g.BackupShutdown(ctx, &Event{SessionID: sessionA})
		wantCode(t, err, vss.ErrWriterErrorTimeout)
		if !strings.Contains(err.Error(), "busy with Freeze") {
			t.Errorf("error %q does not say what the writer is busy with", err)
		}

		// A Freeze that succeeds after Abort has run is undone by another.
		close(let)
		synctest.Wait()
		wantEvents(t, s, "Freeze", "Abort", "Abort")
		if err := g.BackupShutdown(t.Context(), &Event{SessionID: sessionA}); err != nil {
			t.Error(err)
		}
	})
}

func TestGuardCancelsTheHandlerBeforeAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.do = map[EventKind]func(context.Context, *Event) error{
			EventPrepareForBackup: func(ctx context.Context, _ *Event) error {
				<-ctx.Done()
				s.note("prepare cancelled")
				return ctx.Err()
			},
		}
		g := NewGuard(s, quiet)
		e := &Event{SessionID: sessionA}
		prepared := make(chan error, 1)
		go func() { prepared <- g.PrepareForBackup(t.Context(), e) }()
		synctest.Wait()
		if err := g.Abort(t.Context(), &Event{SessionID: sessionA}); err != nil {
			t.Fatal(err)
		}
		if err := <-prepared; err == nil {
			t.Error("PrepareForBackup succeeded although it was cut short")
		}
		wantEvents(t, s, "PrepareForBackup", "prepare cancelled", "Abort")
	})
}

func TestGuardTurnsAPanicIntoAFailure(t *testing.T) {
	for _, kind := range EventKinds() {
		t.Run(kind.String(), func(t *testing.T) {
			s := &script{do: map[EventKind]func(context.Context, *Event) error{
				kind: func(context.Context, *Event) error { panic("boom") },
			}}
			g := NewGuard(s, quiet)
			e := &Event{SessionID: sessionA}
			if kind == EventThaw {
				if err := g.Freeze(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.Contains([]EventKind{EventPrepareForSnapshot, EventBackupComplete, EventPreRestore, EventPostRestore}, kind) {
				err := Notify(t.Context(), g, kind, e)
				wantCode(t, err, vss.ErrWriterErrorNonRetryable)
				if err != nil && !strings.Contains(err.Error(), "boom") {
					t.Errorf("error %q lacks the panic's text", err)
				}
			}
			// The writer can still be driven.
			delete(s.do, kind)
			for _, k := range []EventKind{EventAbort, EventBackupShutdown, EventPrepareForBackup, EventFreeze, EventThaw} {
				if err := Notify(t.Context(), g, k, e); err != nil {
					t.Errorf("%v after the panic: %v", k, err)
				}
			}
		})
	}
}

func TestGuardRunsOneHandlerAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		slow := func(context.Context, *Event) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}
		s := &script{do: map[EventKind]func(context.Context, *Event) error{
			EventIdentify: slow, EventPrepareForBackup: slow, EventPostSnapshot: slow, EventBackupShutdown: slow,
		}}
		g := NewGuard(s, quiet)
		var all sync.WaitGroup
		for _, k := range []EventKind{EventIdentify, EventPrepareForBackup, EventPostSnapshot, EventBackupShutdown} {
			all.Go(func() {
				if err := Notify(t.Context(), g, k, &Event{SessionID: sessionA}); err != nil {
					t.Errorf("%v: %v", k, err)
				}
			})
		}
		all.Wait()
		if most != 1 {
			t.Errorf("%d handlers ran at once", most)
		}
	})
}

func TestGuardRefusesWhatBreaksAFrozenWriter(t *testing.T) {
	s := &script{}
	g := NewGuard(s, quiet)
	e := &Event{SessionID: sessionA}
	wantCode(t, g.Thaw(t.Context(), e), vss.ErrBadState)
	if err := g.Freeze(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	for _, k := range []EventKind{EventFreeze, EventPrepareForBackup, EventPrepareForSnapshot, EventPostSnapshot, EventBackupComplete, EventPreRestore} {
		wantCode(t, Notify(t.Context(), g, k, e), vss.ErrBadState)
	}
	// BackupShutdown means that nobody will thaw: Abort comes first.
	if err := g.BackupShutdown(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, s, "Freeze", "Abort", "BackupShutdown")
}

func TestGuardDoesWhatIsOwedWhenAConnectionIsLost(t *testing.T) {
	for _, test := range []struct {
		name string
		sent []EventKind
		want []string // after what was sent
	}{
		{"nothing begun", nil, nil},
		{"identified", []EventKind{EventIdentify}, nil},
		{"prepared", []EventKind{EventPrepareForBackup}, []string{"Abort", "BackupShutdown"}},
		{"frozen", []EventKind{EventPrepareForBackup, EventFreeze}, []string{"Abort", "BackupShutdown"}},
		{"thawed", []EventKind{EventPrepareForBackup, EventFreeze, EventThaw}, []string{"Abort", "BackupShutdown"}},
		{"after PostSnapshot", []EventKind{EventPrepareForBackup, EventFreeze, EventThaw, EventPostSnapshot}, []string{"BackupShutdown"}},
		{"aborted", []EventKind{EventPrepareForBackup, EventFreeze, EventAbort}, []string{"BackupShutdown"}},
		{"shut down", []EventKind{EventPrepareForBackup, EventFreeze, EventThaw, EventPostSnapshot, EventBackupShutdown}, nil},
		{"in a restore", []EventKind{EventPreRestore}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &script{}
			g := NewGuard(s, quiet)
			o := new(owner)
			var want []string
			for _, k := range test.sent {
				if k == EventIdentify {
					if _, err := g.Identify(t.Context()); err != nil {
						t.Fatal(err)
					}
				} else if err := g.notify(t.Context(), o, k, &Event{SessionID: sessionA}); err != nil {
					t.Fatal(err)
				}
				if k != EventPreRestore {
					want = append(want, k.String())
				}
			}
			o.gone.Store(true)
			g.disconnect(o)
			wantEvents(t, s, append(want, test.want...)...)

			// What was on its way over the lost connection comes to nothing,
			// and another connection may begin.
			if err := g.notify(t.Context(), o, EventFreeze, &Event{SessionID: sessionA}); err == nil {
				t.Error("Freeze over a lost connection was taken")
			}
			if err := g.notify(t.Context(), new(owner), EventPrepareForBackup, &Event{SessionID: sessionB}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGuardTriesAbortAgainAndReportsAWriterThatCannotBeReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{do: map[EventKind]func(context.Context, *Event) error{
			EventAbort: func(context.Context, *Event) error { return errors.New("no") },
		}}
		g := NewGuard(s, quiet)
		var reported error
		g.stuck = func(err error) { reported = err }
		if err := g.Freeze(t.Context(), &Event{SessionID: sessionA, Limit: time.Second}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		wantEvents(t, s, "Freeze", "Abort", "Abort", "Abort")
		if reported == nil {
			t.Error("nobody was told that the writer cannot be released")
		}
	})
}

func TestGuardGivesTheWriterToOneSessionAtATime(t *testing.T) {
	s := &script{}
	g := NewGuard(s, quiet)
	a, b := new(owner), new(owner)
	if err := g.notify(t.Context(), a, EventPrepareForBackup, &Event{SessionID: sessionA}); err != nil {
		t.Fatal(err)
	}
	for _, k := range []EventKind{EventPrepareForBackup, EventFreeze, EventPreRestore, EventBackupShutdown} {
		wantCode(t, g.notify(t.Context(), b, k, &Event{SessionID: sessionB}), vss.ErrWriterErrorRetryable)
	}
	if _, err := g.Identify(t.Context()); err != nil {
		t.Errorf("Identify while another session has the writer: %v", err)
	}
	if err := g.notify(t.Context(), b, EventAbort, &Event{SessionID: sessionB}); err != nil {
		t.Errorf("Abort from elsewhere: %v", err)
	}
}

func TestFailureCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		want vss.Code
	}{
		{nil, vss.OK},
		{errors.New("x"), vss.ErrWriterErrorNonRetryable},
		{vss.Errorf(vss.ErrWriterErrorRetryable, "a", "b", ""), vss.ErrWriterErrorRetryable},
		{vss.ErrWriterErrorPartialFailure, vss.ErrWriterErrorPartialFailure},
		{vss.ErrBadState, vss.ErrWriterErrorNonRetryable},
		{vss.ErrWriterNotResponding, vss.ErrWriterNotResponding},
		{context.DeadlineExceeded, vss.ErrWriterErrorTimeout},
	} {
		if got := FailureCode(test.err); got != test.want {
			t.Errorf("FailureCode(%v) = %v, want %v", test.err, got, test.want)
		}
	}
}

// starved is a listener without descriptors for a while.
type starved struct {
	net.Listener
	left int
}

func (l *starved) Addr() net.Addr { return &net.UnixAddr{Name: "starved"} }
func (l *starved) Accept() (net.Conn, error) {
	if l.left--; l.left >= 0 {
		return nil, errors.New("too many open files")
	}
	return nil, net.ErrClosed
}

func TestServeOutlastsAShortageOfDescriptors(t *testing.T) {
	for left, want := range map[int]string{50: "closed", 100000: "too many open files"} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			l := &starved{left: left}
			err := (&Server{Log: quiet}).newHost(nil).accept(t.Context(), l)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if took := time.Since(start); took < min(time.Duration(left), acceptTries)*acceptPause {
				t.Errorf("it gave up after %v", took)
			}
		})
	}
}
