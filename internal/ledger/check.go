package ledger

import (
	"fmt"
	"slices"
	"time"
)

// Found is what one store of a backup, or the live one, holds: of each client.
type Found struct {
	Store string
	Held  []Holding
}

// Violation is how a backup differs from what it must show.
type Violation struct {
	Client int
	Text   string
}

func (v Violation) String() string { return fmt.Sprintf("client %d: %s", v.Client, v.Text) }

// Check judges what was found in all stores of one backup, given in the order of
// [Load.Places]. It needs no history.
func Check(found []Found) (bad []Violation) {
	for client := range clientsOf(found) {
		order := slices.Clone(found)
		if backwards(client) {
			slices.Reverse(order)
		}
		for i, f := range order {
			h := f.Held[client]
			if h.Count != h.Last {
				bad = append(bad, Violation{client, fmt.Sprintf("%s has %d numbers up to %d", f.Store, h.Count, h.Last)})
			}
			if i == 0 {
				continue
			}
			if before := order[i-1]; h.Last > before.Held[client].Last {
				bad = append(bad, Violation{client, fmt.Sprintf("%s has %d, which %s lacks: it ends with %d", f.Store, h.Last, before.Store, before.Held[client].Last)})
			}
			if first := order[0]; first.Held[client].Last-h.Last > 1 {
				bad = append(bad, Violation{client, fmt.Sprintf("%s has %d, and %s ends with %d", first.Store, first.Held[client].Last, f.Store, h.Last)})
			}
		}
	}
	return bad
}

// clientsOf ranges over the clients that all stores were asked for.
func clientsOf(found []Found) int {
	if len(found) == 0 {
		return 0
	}
	n := len(found[0].Held)
	for _, f := range found {
		n = min(n, len(f.Held))
	}
	return n
}

// CheckTime judges what a store holds by the history of its clients: all that was
// acknowledged before one time is there, and nothing that was begun after another.
// What was under way between may be there or not.
func CheckTime(f Found, h *History, before, after time.Time) (bad []Violation) {
	for client, held := range f.Held {
		if held.Count != held.Last {
			bad = append(bad, Violation{client, fmt.Sprintf("%s has %d numbers up to %d", f.Store, held.Count, held.Last)})
		}
		if n := h.Acked(f.Store, client, before); n > held.Last {
			bad = append(bad, Violation{client, fmt.Sprintf("%s had acknowledged %d before %v, and the copy ends with %d", f.Store, n, before, held.Last)})
		}
		if n := h.Begun(f.Store, client, after); n < held.Last {
			bad = append(bad, Violation{client, fmt.Sprintf("%s has %d, and %d was the last begun until %v", f.Store, held.Last, n, after)})
		}
	}
	return bad
}
