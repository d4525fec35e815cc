package main

import (
	"os"
	"runtime/debug"
)

// garbage is how much garbage may come together, in hundredths of what is in
// use. Most of what a backup or a restore has in use are large buffers without
// pointers, which cost the collector nothing: collecting more often than usual
// takes a hundred megabytes less and no time worth mentioning.
const garbage = 15

// saveMemory sets that, unless the environment says otherwise.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
}
