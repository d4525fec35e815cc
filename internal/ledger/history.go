package ledger

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sort"
	"time"
)

// Op is one commit as its client saw it.
type Op struct {
	Store  string
	Client int
	N      int64
	// Begun is before it was sent, and Acked after it was acknowledged.
	Begun, Acked time.Time
}

// line is how an Op stands in a log.
func (o *Op) line() []byte {
	return fmt.Appendf(nil, "%s %d %d %d %d\n", o.Store, o.Client, o.N, o.Begun.UnixNano(), o.Acked.UnixNano())
}

// History is what clients have logged. The zero History is empty; it is not for
// several goroutines at once.
type History struct {
	// Log is the file that the clients write.
	Log string

	read int64
	ops  map[series][]Op // in the order of their numbers, and so of their times
	all  int
}

// series is one client's commits to one store.
type series struct {
	store  string
	client int
}

// Update reads what has been logged since it was last called.
func (h *History) Update() error {
	f, err := os.Open(h.Log)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, h.read, 1<<62))
	if err != nil {
		return err
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1] // the rest is being written
	for line := range bytes.Lines(data) {
		var o Op
		var begun, acked int64
		if _, err := fmt.Sscan(string(line), &o.Store, &o.Client, &o.N, &begun, &acked); err != nil {
			return fmt.Errorf("%s: %q: %w", h.Log, line, err)
		}
		o.Begun, o.Acked = time.Unix(0, begun), time.Unix(0, acked)
		h.Add(o)
	}
	h.read += int64(len(data))
	return nil
}

// Add enters one commit. Those of a client to a store come in their order.
func (h *History) Add(o Op) {
	if h.ops == nil {
		h.ops = map[series][]Op{}
	}
	s := series{o.Store, o.Client}
	h.ops[s] = append(h.ops[s], o)
	h.all++
}

// Len is how many commits there are.
func (h *History) Len() int { return h.all }

// Acked gives the highest number that a store had acknowledged to a client before
// t; 0 if none.
func (h *History) Acked(store string, client int, t time.Time) int64 {
	ops := h.ops[series{store, client}]
	i := sort.Search(len(ops), func(i int) bool { return !ops[i].Acked.Before(t) })
	if i == 0 {
		return 0
	}
	return ops[i-1].N
}

// Begun gives the highest number that a client had begun to commit to a store at
// t, as far as it has been acknowledged since; 0 if none.
func (h *History) Begun(store string, client int, t time.Time) int64 {
	ops := h.ops[series{store, client}]
	i := sort.Search(len(ops), func(i int) bool { return ops[i].Begun.After(t) })
	if i == 0 {
		return 0
	}
	return ops[i-1].N
}

// Across counts the commits that were begun before t and acknowledged after it:
// had it not been for what happened then, they would have been quicker.
func (h *History) Across(t time.Time) (n int) {
	for _, ops := range h.ops {
		i := sort.Search(len(ops), func(i int) bool { return ops[i].Acked.After(t) })
		if i < len(ops) && ops[i].Begun.Before(t) {
			n++
		}
	}
	return n
}

// Slowest gives the commit that took longest, and false if there is none.
func (h *History) Slowest() (slowest Op, ok bool) {
	for _, ops := range h.ops {
		for _, o := range ops {
			if !ok || o.Acked.Sub(o.Begun) > slowest.Acked.Sub(slowest.Begun) {
				slowest, ok = o, true
			}
		}
	}
	return slowest, ok
}

// Median gives the median time a commit to the store took.
func (h *History) Median(store string) time.Duration {
	var all []time.Duration
	for s, ops := range h.ops {
		if s.store != store {
			continue
		}
		for _, o := range ops {
			all = append(all, o.Acked.Sub(o.Begun))
		}
	}
	if len(all) == 0 {
		return 0
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return all[len(all)/2]
}
