// Package heap says how often the program's garbage is collected: the same for
// the program and for what measures it.
package heap

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Most of what a backup or a restore has in use are large buffers without
// pointers, which cost the collector nothing: collecting more often than usual
// takes a hundred megabytes less. But where little is in use, as when nothing
// changed, collecting often is a quarter of all processor time. So garbage may
// be a share of what is in use, or fill the heap up to some size.
const (
	garbageShare = 15        // hundredths of what is in use
	smallHeap    = 112 << 20 // bytes
)

// SaveMemory sees to that for as long as the process lives, unless the
// environment says otherwise.
func SaveMemory() {
	if os.Getenv("GOGC") == "" {
		allowGarbage()
		afterCollection(&collection{})
	}
}

// leastInUse is what the runtime takes for in use where less is: at 100
// hundredths nothing is collected below twice that.
const leastInUse = 4 << 20

// garbageAllowed gives how much garbage may come together before it is
// collected, in hundredths of the bytes that are in use.
func garbageAllowed(inUse uint64) int {
	inUse = max(inUse, leastInUse)
	if inUse >= smallHeap {
		return garbageShare
	}
	return max(garbageShare, int((smallHeap-inUse)*100/inUse))
}

// allowGarbage sets what is allowed until the next collection. The runtime counts
// stacks and global variables with what is in use.
func allowGarbage() {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/globals:bytes"}, {Name: "/gc/scan/stack:bytes"}}
	metrics.Read(samples)
	var inUse uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			inUse += s.Value.Uint64()
		}
	}
	debug.SetGCPercent(garbageAllowed(inUse))
}

// collection is garbage that tells of its collection.
type collection struct{ _ [16]byte }

// afterCollection does that after each collection.
func afterCollection(c *collection) {
	runtime.SetFinalizer(c, func(*collection) {
		allowGarbage()
		afterCollection(&collection{})
	})
}
