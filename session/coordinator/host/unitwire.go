package host

import (
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// A host with writers that have a unit has a second socket pair. Over it the host
// asks, in frames of package child, to have something done with the unit of one of
// its writers, named by its number: which unit that is stands in the specification,
// and no name of a unit comes from the host.

// unitRequest asks for one thing, or, with the ID of an earlier one, to end that.
type unitRequest struct {
	ID     uint64        `json:"id"`
	Writer int           `json:"writer"`
	Op     string        `json:"op"`
	Limit  time.Duration `json:"limit,omitempty"` // zero: none of its own
}

// The operations.
const (
	unitStop    = "stop"
	unitStart   = "start"
	unitActive  = "active"
	unitHold    = "hold"
	unitFreeze  = "freeze"
	unitThaw    = "thaw"
	unitLetGo   = "let go"
	unitRelease = "release"
	unitCancel  = "cancel" // answered by the request that it ends
)

// unitAnswer is the answer to the request with its ID.
type unitAnswer struct {
	ID       uint64   `json:"id"`
	Active   bool     `json:"active,omitempty"`
	Starting bool     `json:"starting,omitempty"`
	Code     vss.Code `json:"code,omitempty"`
	Text     string   `json:"text,omitempty"` // empty: no error
}

func (a unitAnswer) error() error {
	if a.Text == "" {
		return nil
	}
	return &hostError{a.Text, a.Code}
}

// maxUnitText bounds an error's text, in bytes.
const maxUnitText = 4 << 10

// maxUnitCalls is how many requests of one host are worked on at the same time:
// one for each writer, and an Abort beside it.
const maxUnitCalls = 2 * maxSpecs

// answerTime is how long a host may take to read an answer. One that does not read
// loses the connection, not the time of the process that answers.
const answerTime = 10 * time.Second
