package localfs

import (
	"sync"

	"golang.org/x/sys/unix"
)

// parentCache keeps private directories open, those used last.
type parentCache struct {
	mu   sync.Mutex
	kept map[place]*parentDir
	uses uint64
}

// get gives a directory that is kept, or nil.
func (c *parentCache) get(key place) *parentDir {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.kept[key]
	if d != nil {
		c.use(d)
	}
	return d
}

// add keeps a directory for t, unless another goroutine was faster, and gives
// what is kept.
func (c *parentCache) add(t *target, d *parentDir) *parentDir {
	c.mu.Lock()
	defer c.mu.Unlock()
	if there := c.kept[d.key]; there != nil {
		unix.Close(d.fd)
		c.use(there)
		return there
	}
	if c.kept == nil {
		c.kept = map[place]*parentDir{}
	}
	if len(c.kept) == maxParents {
		oldest := d
		for _, o := range c.kept {
			if oldest == d || o.used < oldest.used {
				oldest = o
			}
		}
		c.drop(oldest)
	}
	d.t, d.refs = t, 1 // the cache's own
	c.use(d)
	c.kept[d.key] = d
	return d
}

// forget drops the directories for which which is true: they are no longer what
// they were, or not where they were.
func (c *parentCache) forget(which func(key place) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, d := range c.kept {
		if which(key) {
			c.drop(d)
		}
	}
}

// use, drop and release want mu held.
func (c *parentCache) use(d *parentDir) {
	d.refs++
	c.uses++
	d.used = c.uses
}

func (c *parentCache) drop(d *parentDir) {
	delete(c.kept, d.key)
	c.release(d)
}

func (c *parentCache) release(d *parentDir) {
	if d.refs--; d.refs == 0 {
		unix.Close(d.fd)
	}
}
