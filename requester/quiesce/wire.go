package quiesce

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// The bounds of a lease: how long writers are held at most, from the first Freeze
// on.
const (
	DefaultLease = 60 * time.Second
	MinLease     = time.Second
	MaxLease     = 10 * time.Minute
)

// Order is what a holder is to do.
type Order struct {
	// StateDir is the service's state directory, as an absolute path.
	StateDir string `json:"state_dir"`
	// Options are the session's. Limits.Writer is the lease.
	Options session.Options `json:"options"`
	// Request says who is to be held.
	Request requester.FreezeRequest `json:"request"`
}

// State is what a holder holds.
type State string

// The states of a holder.
const (
	Held    State = "held"
	Expired State = "expired" // let go, as nobody thawed in time
	Thawed  State = "thawed"

	working State = "working" // a sign of life; the answer follows
)

// Answer is what a holder answers.
type Answer struct {
	State  State                  `json:"state"`
	PID    int                    `json:"pid"`
	Result requester.FreezeResult `json:"result"`
	// Refusal is why it did not do what was asked.
	Refusal string `json:"refusal,omitempty"`
}

// request is what a holder is asked for.
type request struct {
	Op op `json:"op"`
}

type op string

const (
	opStatus  op = "status"
	opThaw    op = "thaw"
	opDismiss op = "dismiss" // end, if nothing is held
)

// event is what a holder tells the process that started it, one JSON line each.
// The last is a Result or a Failure. A Result is acknowledged by an empty line;
// if it is not, the holder lets go.
type event struct {
	Phase   requester.Phase         `json:"phase,omitempty"`
	Step    *session.Step           `json:"step,omitempty"`
	Status  *session.WriterStatus   `json:"status,omitempty"`
	Warning string                  `json:"warning,omitempty"`
	Result  *requester.FreezeResult `json:"result,omitempty"`
	Failure *Failure                `json:"failure,omitempty"`
}

// Failure is an error that has come from the holder's process.
type Failure struct {
	Text string   `json:"text"`
	Code vss.Code `json:"code"`
}

func (f *Failure) Error() string { return f.Text }

// Unwrap gives the code.
func (f *Failure) Unwrap() error { return f.Code }

// Bounds of what is read: a message, and how long one may take to come.
const (
	maxMessage  = 16 << 20
	maxRequest  = 4 << 10
	messageTime = 10 * time.Second
)

var errTooLong = errors.New("the message is too long")

// readMessage reads one line of JSON.
func readMessage(r *bufio.Reader, limit int, v any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return errTooLong
		}
		line = append(line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("message %.40q: %w", line, err)
	}
	return nil
}

func writeMessage(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
