//go:build !linux

package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

var errNotHere = fmt.Errorf("hold: processes are held on Linux only: %w", errors.ErrUnsupported)

// Keeper exists on Linux only.
type Keeper struct{}

// StartKeeper returns an error that wraps [errors.ErrUnsupported].
func StartKeeper(context.Context, Options) (*Keeper, error) { return nil, errNotHere }

// KeeperMain returns an error that wraps [errors.ErrUnsupported].
func KeeperMain(context.Context, net.Conn, map[string]Handler) error { return errNotHere }

// Inherited returns an error that wraps [errors.ErrUnsupported].
func Inherited() (net.Conn, error) { return nil, errNotHere }

// Recover returns an error that wraps [errors.ErrUnsupported].
func Recover(context.Context, json.RawMessage) error { return errNotHere }

// The methods are never called, since there is no Keeper to call them on.

// Note returns nothing.
func (*Keeper) Note() string { return "" }

// PID returns 0.
func (*Keeper) PID() int { return 0 }

// SetLease does nothing.
func (*Keeper) SetLease(time.Duration) {}

// Done returns nil.
func (*Keeper) Done() <-chan struct{} { return nil }

// Stop returns an error.
func (*Keeper) Stop(context.Context, []int) (Stopped, error) { return Stopped{}, errNotHere }

// Resume returns an error.
func (*Keeper) Resume(context.Context) error { return errNotHere }

// Assign returns an error.
func (*Keeper) Assign(context.Context, Duty) (uint64, error) { return 0, errNotHere }

// Discharge returns an error.
func (*Keeper) Discharge(context.Context, uint64) error { return errNotHere }

// Alive returns an error.
func (*Keeper) Alive(context.Context) error { return errNotHere }

// Close returns an error.
func (*Keeper) Close(context.Context) error { return errNotHere }
