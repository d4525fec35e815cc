package ledger

import (
	"sort"
	"time"
)

// SlowestIn gives the commit to a store that took longest of those under way at
// some time between from and to, and false if there is none.
func (h *History) SlowestIn(store string, from, to time.Time) (slowest Op, ok bool) {
	for s, ops := range h.ops {
		if s.store != store {
			continue
		}
		for i := sort.Search(len(ops), func(i int) bool { return ops[i].Acked.After(from) }); i < len(ops) && ops[i].Begun.Before(to); i++ {
			if o := ops[i]; !ok || o.Acked.Sub(o.Begun) > slowest.Acked.Sub(slowest.Begun) {
				slowest, ok = o, true
			}
		}
	}
	return slowest, ok
}
