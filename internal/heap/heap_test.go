package heap

import "testing"

// TestGarbageAllowed: a small heap is filled before it is collected, a large one
// grows by a share of itself.
func TestGarbageAllowed(t *testing.T) {
	for _, c := range []struct {
		inUse    uint64
		low, top uint64 // of the heap when it is collected
	}{
		{0, 1 << 20, smallHeap},
		{5 << 20, smallHeap * 9 / 10, smallHeap},
		{50 << 20, smallHeap * 9 / 10, smallHeap},
		{100 << 20, 110 << 20, 120 << 20},
		{200 << 20, 225 << 20, 235 << 20},
	} {
		in := max(c.inUse, leastInUse)
		if at := in + in*uint64(garbageAllowed(c.inUse))/100; at > c.top || at < c.low {
			t.Errorf("with %d bytes in use the heap is collected at %d, want %d to %d", c.inUse, at, c.low, c.top)
		}
	}
	if garbageAllowed(0) < garbageShare {
		t.Error("an empty heap is collected at once")
	}
}
