//go:build linux

package mountfs

import (
	"slices"
	"sync"

	"github.com/sombra-backup/sombra/repository"
)

// numbers is a cache of a fixed number of figures, which forgets all of them
// when it is full.
type numbers struct {
	mu sync.Mutex
	m  map[uint64]uint64
}

// maxNumbers is how many it keeps.
const maxNumbers = 1 << 16

func (c *numbers) get(key uint64) (uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.m[key]
	return v, ok
}

func (c *numbers) put(key, value uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxNumbers {
		c.m = map[uint64]uint64{}
	}
	c.m[key] = value
}

// recent remembers which records were used last. The others' tables give back
// their memory.
type recent struct {
	mu   sync.Mutex
	used []*repository.Record // the latest last
}

// maxRecent is how many records keep blocks of their tables decoded.
const maxRecent = 8

func (r *recent) use(rec *repository.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.used); n > 0 && r.used[n-1] == rec {
		return
	}
	if i := slices.Index(r.used, rec); i >= 0 {
		r.used = slices.Delete(r.used, i, i+1)
	}
	r.used = append(r.used, rec)
	if len(r.used) > maxRecent {
		r.used[0].Table().Forget()
		r.used = slices.Delete(r.used, 0, 1)
	}
}
