package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// Errors of this package. What comes from the keeper matches them with
// [errors.Is], though it has crossed a connection.
var (
	// ErrLeaseExpired is returned once, by the first Stop or Resume after a
	// stop was on for longer than its lease: the processes went on, and what
	// was copied since is not consistent.
	ErrLeaseExpired = errors.New("hold: the processes were let go, since they had been held for too long")
	// ErrContinued is returned by Resume if something else let a process go on
	// while it should have been held, which signals cannot prevent.
	ErrContinued = errors.New("hold: a held process was let go by someone else")
	// ErrNotStopped is wrapped by errors of Stop where a process did not stop
	// in time.
	ErrNotStopped = errors.New("did not stop in time")
	// ErrRefused is wrapped by errors of Stop where a process cannot or must
	// not be stopped.
	ErrRefused = errors.New("must not be stopped")
	// ErrKeeperLost is returned by all calls when the keeper has died.
	ErrKeeperLost = errors.New("hold: the keeper has died")
	// ErrClosed is returned by all calls after Close.
	ErrClosed = errors.New("hold: the keeper was dismissed")
)

// Method is how processes were stopped.
type Method string

// The methods. If not all processes were stopped in the same way it is the
// last of this list that was needed.
const (
	Ptrace  Method = "ptrace"  // ends with the keeper
	Freezer Method = "freezer" // outlives it
	Signal  Method = "signal"  // outlives it
)

// Stopped tells about a stop.
type Stopped struct {
	Method Method
	// PIDs are the processes held: those named and their descendants.
	PIDs []int
	// Tasks is how many threads they have in all.
	Tasks int
	// Gone are named processes that had ended already.
	Gone []int
	// Skipped are named processes that belong to ourselves.
	Skipped []int
	// Took is how long it took until all were seen stopped.
	Took time.Duration
}

// Duty is something that must be done if the process that assigned it dies.
type Duty struct {
	// Kind is the handler's name in KeeperMain.
	Kind string `json:"kind"`
	// Data is what the handler is given; at most 1 MiB.
	Data json.RawMessage `json:"data"`
	// After is how long the duty may stand: it is done then also if the process
	// that assigned it lives, which may hang. It must bear that it is done again,
	// and beside that process. Zero: no such time.
	After time.Duration `json:"after,omitempty"`
}

// Handler does a duty. It may be tried several times.
type Handler func(ctx context.Context, data json.RawMessage) error

// Options says how to start a keeper and how long it may take for what.
type Options struct {
	// Exe is the program, which must call KeeperMain when it gets Args; empty
	// means the program that is running.
	Exe  string
	Args []string
	// Env is its environment; nil means search path, language, time zone and
	// home directory of this process.
	Env []string
	// Stderr is where a keeper left alone reports what it could not do; nil
	// means nowhere.
	Stderr *os.File

	// Lease is how long processes stay stopped at most. Zero means 15 s.
	Lease time.Duration
	// StopLimit bounds Stop where its context does not. Zero means 2 s.
	StopLimit time.Duration
	// DutyLimit bounds each try of a duty, DutyTries says how often it is
	// tried. Zero means 30 s and 3.
	DutyLimit time.Duration
	DutyTries int

	// Journal, if not nil, is called before anything is stopped in a way that
	// outlives the keeper, with what Recover needs to undo it, and with nil
	// when it is undone. It must have stored it when it returns; if it returns
	// an error nothing is stopped. It must not call the Keeper.
	Journal func(undo json.RawMessage) error
}

func (o Options) withDefaults() Options {
	if o.Lease <= 0 {
		o.Lease = 15 * time.Second
	}
	if o.StopLimit <= 0 {
		o.StopLimit = 2 * time.Second
	}
	if o.DutyLimit <= 0 {
		o.DutyLimit = 30 * time.Second
	}
	if o.DutyTries <= 0 {
		o.DutyTries = 3
	}
	return o
}

// ProcessError is why a process was not stopped.
type ProcessError struct {
	PID, TID int
	Comm     string // its name
	Err      error
}

func (e *ProcessError) Error() string {
	task := ""
	if e.TID != e.PID && e.TID != 0 {
		task = fmt.Sprintf(" thread %d", e.TID)
	}
	return fmt.Sprintf("hold: process %d (%s)%s: %v", e.PID, e.Comm, task, e.Err)
}

func (e *ProcessError) Unwrap() error { return e.Err }
