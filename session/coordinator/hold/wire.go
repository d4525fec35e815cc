package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// maxDuty bounds the data of one duty, maxDuties their number, maxPIDs the
// processes named in one stop.
const (
	maxDuty   = 1 << 20
	maxDuties = 4096
	maxPIDs   = 1 << 16
)

// message is one frame between a Keeper and its process. Requests go both ways
// and are numbered by the side that sends them; the answer has the number and
// no Op.
type message struct {
	ID   uint64          `json:"id"`
	Op   op              `json:"op,omitempty"`
	Body json.RawMessage `json:"body,omitempty"`
	// Code and Text are an answer's error. Code is one of codes or empty.
	Code string `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
}

// op is what a request asks for.
type op string

const (
	// to the keeper
	opHello     op = "hello" // first, answered with welcome
	opStop      op = "stop"
	opResume    op = "resume"
	opAssign    op = "assign"
	opDischarge op = "discharge"
	opAlive     op = "alive"  // has an answer, and that is all
	opCancel    op = "cancel" // ends the request with the number in it; has no answer
	opClose     op = "close"

	// from the keeper
	opWeak     op = "weak"     // about to stop in a way that outlives it
	opReleased op = "released" // that is undone; has no answer
)

type hello struct {
	PID       int           `json:"pid"`
	DutyLimit time.Duration `json:"duty_limit"`
	DutyTries int           `json:"duty_tries"`
}

type welcome struct {
	Note   string `json:"note,omitempty"`
	Cgroup string `json:"cgroup,omitempty"` // to be removed after its death
}

type stopRequest struct {
	PIDs    []int         `json:"pids"`
	Protect []int         `json:"protect,omitempty"`
	Limit   time.Duration `json:"limit"`
	Lease   time.Duration `json:"lease"`
}

type stopAnswer struct {
	Hold    uint64  `json:"hold"`
	Stopped Stopped `json:"stopped"`
}

type resumeRequest struct {
	Hold uint64 `json:"hold"` // 0 means all
}

type numbered struct {
	ID uint64 `json:"id"`
}

// codes are the errors that keep their identity over the connection.
var codes = map[string]error{
	"lease":     ErrLeaseExpired,
	"continued": ErrContinued,
	"deadline":  ErrNotStopped,
	"refused":   ErrRefused,
	"stuck":     errStuck,
	"canceled":  context.Canceled,
}

// errStuck means that the keeper cannot help itself and must be ended.
var errStuck = errors.New("the keeper hangs in the kernel")

// remoteError is an error that has crossed the connection.
type remoteError struct {
	text string
	kind error // may be nil
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// setError puts err into an answer.
func (m *message) setError(err error) {
	if err == nil {
		return
	}
	m.Text = err.Error()
	m.Body = nil
	for code, kind := range codes {
		if errors.Is(err, kind) {
			m.Code = code
			return
		}
	}
}

// error takes the error out of an answer.
func (m *message) error() error {
	if m.Text == "" && m.Code == "" {
		return nil
	}
	return &remoteError{m.Text, codes[m.Code]}
}

// decode reads a request's body.
func decode[T any](m message) (T, error) {
	var v T
	if err := json.Unmarshal(m.Body, &v); err != nil {
		return v, fmt.Errorf("hold: request %q: %w", m.Op, err)
	}
	return v, nil
}
