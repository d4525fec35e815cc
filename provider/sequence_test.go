package provider

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/sombra-backup/sombra/vss"
)

func nothing(context.Context) error { return nil }

func TestStepsComeInOrder(t *testing.T) {
	q := NewSequence("c", nothing, func() {})
	ctx := t.Context()
	if err := q.Do(ctx, StepCommit, nothing); !errors.Is(err, vss.ErrBadState) {
		t.Fatalf("Commit first: %v, want VSS_E_BAD_STATE", err)
	}
	for range 2 {
		if err := q.Estimate(ctx, nothing); err != nil {
			t.Fatal(err)
		}
	}
	for s := StepEndPrepare; s < stepDone; s++ {
		if err := q.Do(ctx, s, nothing); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if err := q.Do(ctx, s, nothing); !errors.Is(err, vss.ErrBadState) {
			t.Fatalf("%s again: %v, want VSS_E_BAD_STATE", s, err)
		}
		if err := q.Estimate(ctx, nothing); !errors.Is(err, vss.ErrBadState) {
			t.Fatalf("Estimate after %s: %v, want VSS_E_BAD_STATE", s, err)
		}
		if err := q.Refresh(ctx, nothing); (err == nil) != (s == StepEndPrepare) {
			t.Fatalf("Refresh after %s: %v", s, err)
		}
	}
}

func TestAfterAFailureOnlyAbortIsLeft(t *testing.T) {
	removed, released := 0, 0
	q := NewSequence("c", func(context.Context) error { removed++; return nil }, func() { released++ })
	ctx := t.Context()
	cause := errors.New("disk on fire")
	if err := q.Estimate(ctx, func(context.Context) error { return cause }); err != cause {
		t.Fatal(err)
	}
	if err := q.Do(ctx, StepEndPrepare, func(context.Context) error { return cause }); err != cause {
		t.Fatal(err)
	}
	if err := q.Do(ctx, StepPreCommit, nothing); !errors.Is(err, vss.ErrBadState) || !errors.Is(err, cause) {
		t.Fatalf("%v: want VSS_E_BAD_STATE with the cause", err)
	}
	for range 2 {
		if err := q.Abort(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if removed != 2 {
		t.Fatalf("removed %d times, want at each Abort", removed)
	}
	if released != 1 {
		t.Fatalf("released %d times, want once", released)
	}
	if err := q.Do(ctx, StepEndPrepare, nothing); !errors.Is(err, vss.ErrBadState) {
		t.Fatal(err)
	}
}

func TestAbortEndsTheRunningStep(t *testing.T) {
	q := NewSequence("c", nothing, func() {})
	running := make(chan struct{})
	result := make(chan error)
	go func() {
		result <- q.Do(t.Context(), StepEndPrepare, func(ctx context.Context) error {
			close(running)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-running
	if err := q.Do(t.Context(), StepEndPrepare, nothing); !errors.Is(err, vss.ErrBadState) {
		t.Fatalf("a second step beside the first: %v", err)
	}
	if err := q.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, vss.ErrBadState) {
		t.Fatalf("%v: want VSS_E_BAD_STATE", err)
	}
}

func TestAbortDoesNotWaitForAStepStuckInTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made, removed, released := false, 0, 0
		q := NewSequence("c", func(context.Context) error { made = false; removed++; return nil }, func() { released++ })
		stuck, result := make(chan struct{}), make(chan error)
		go func() {
			result <- q.Do(t.Context(), StepEndPrepare, func(context.Context) error {
				<-stuck // deaf to its context, as a process in D state is
				made = true
				return nil
			})
		}()
		synctest.Wait()
		if err := q.Abort(t.Context()); err != nil || removed != 1 || released != 0 {
			t.Fatalf("%v, removed %d times, released %d times beside the step", err, removed, released)
		}
		close(stuck)
		if err := <-result; !errors.Is(err, vss.ErrBadState) {
			t.Fatal(err)
		}
		if made || removed != 2 || released != 1 {
			t.Fatalf("what the stuck step made is still there: %v; removed %d times, released %d times", made, removed, released)
		}
	})
}
