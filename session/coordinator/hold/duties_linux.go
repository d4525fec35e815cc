package hold

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// doDuties does what is due, the latest first: what was begun last depends on
// what was begun before. One that cannot be done does not keep the others from
// being done.
func (k *keeper) doDuties(ctx context.Context) error {
	var first error
	for {
		k.mu.Lock()
		n := len(k.duties)
		if n == 0 {
			k.mu.Unlock()
			return first
		}
		d := k.duties[n-1]
		k.mu.Unlock()
		if err := k.do(ctx, d.Duty); err != nil {
			err = fmt.Errorf("hold: duty %q: %w", d.Kind, err)
			fmt.Fprintln(os.Stderr, "sombra keeper:", err)
			if first == nil {
				first = err
			}
		}
		k.mu.Lock()
		k.duties = k.duties[:n-1]
		k.mu.Unlock()
	}
}

// do does one duty, with several tries.
func (k *keeper) do(ctx context.Context, d Duty) error {
	pause := 200 * time.Millisecond
	for try := 1; ; try++ {
		err := k.try(ctx, d)
		if err == nil || try >= k.hello.DutyTries {
			return err
		}
		time.Sleep(pause)
		pause *= 2
	}
}

// try calls a handler and does not wait for it longer than allowed, nor fall
// with it.
func (k *keeper) try(ctx context.Context, d Duty) error {
	ctx, cancel := context.WithTimeout(ctx, k.hello.DutyLimit)
	defer cancel()
	result := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				result <- fmt.Errorf("panic: %v", v)
			}
		}()
		result <- k.handlers[d.Kind](ctx, d.Data)
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-result:
		return err
	case <-time.After(250 * time.Millisecond):
		return errors.New("it takes longer than " + k.hello.DutyLimit.String())
	}
}
