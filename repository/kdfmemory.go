package repository

import "runtime"

// readyMemory has the memory at hand, in large pages if it can be had, that a key
// is about to be derived in. argon2 takes its own, and reads of each page before it
// writes there: of memory that is new to the process that is two faults for every
// 4 KiB, the second of which interrupts all other processors that work for it, a
// third of the whole time. What has been allocated once and let go is the next to
// be given for the same size, and is cleared by writing. Nothing but time depends
// on that: this touches none of the memory.
func readyMemory(kib uint32) {
	if kib < 1<<10 {
		return // what a collection costs is more
	}
	b := make([]byte, int(kib)<<10)
	adviseLarge(b)
	runtime.KeepAlive(b)
	b = nil
	runtime.GC()
}
