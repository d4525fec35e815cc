package repository

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// indexCache keeps index objects of a store that is far away in the state
// directory, byte for byte as they are in the store: opening the repository again
// reads them from there, and so do look-ups. Nothing that lies there is believed:
// whoever opens the repository hashes each object, whose name is its hash, and
// every page is opened with the index key. What is wrong or missing there is read
// from the store. The directory must be this user's alone all the same. Losing it
// costs speed, and so does whatever keeps it from being written.
type indexCache struct {
	dir  string
	once sync.Once
	// usable says that the directory is there and private.
	usable bool
}

// indexCacheDepth is how far below the state directory the index objects lie.
const indexCacheDepth = 2

// newIndexCache gives the cache for a store, nil if there is none.
func newIndexCache(st store.Store, stateDir string, repo ID) *indexCache {
	if c, ok := st.(store.Concurrent); !ok || c.Concurrency() <= 1 || stateDir == "" {
		return nil
	}
	return &indexCache{dir: filepath.Join(stateDir, "index", repo.String())}
}

func (c *indexCache) ready() bool {
	if c == nil {
		return false
	}
	c.once.Do(func() { c.usable = makePrivateDir(c.dir, indexCacheDepth) == nil })
	return c.usable
}

func (c *indexCache) file(id ID) string { return filepath.Join(c.dir, id.String()) }

// open opens the copy of an index object, nil if there is none.
func (c *indexCache) open(id ID) *os.File {
	if !c.ready() {
		return nil
	}
	f, err := openPrivate(c.file(id))
	if err != nil {
		return nil
	}
	return f
}

// drop removes a copy that is not what it should be.
func (c *indexCache) drop(id ID) { os.Remove(c.file(id)) }

// sweep removes the copies of index objects that are no more, and what
// processes that were killed left.
func (c *indexCache) sweep(listed map[ID]bool) {
	if !c.ready() {
		return
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		id, err := ParseID(e.Name())
		if err == nil && !listed[id] {
			c.drop(id)
		}
		if strings.HasPrefix(e.Name(), newCopy) {
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > sweepAge {
				os.Remove(filepath.Join(c.dir, e.Name()))
			}
		}
	}
}

// newCopy begins the names of copies that are not whole yet.
const newCopy = ".new-"

// indexCopy is a copy in the making. Its methods do nothing on nil.
type indexCopy struct {
	cache *indexCache
	id    ID
	file  *os.File
	err   error
}

// create begins a copy, nil if none can be made.
func (c *indexCache) create(id ID) *indexCopy {
	if !c.ready() {
		return nil
	}
	f, err := os.CreateTemp(c.dir, newCopy)
	if err != nil {
		return nil
	}
	return &indexCopy{cache: c, id: id, file: f}
}

// write takes bytes of the object.
func (w *indexCopy) write(p []byte, offset int64) {
	if w != nil && w.err == nil {
		_, w.err = w.file.WriteAt(p, offset)
	}
}

// end keeps the copy if it is whole. It need not survive a loss of power: who
// reads it sees whether it did.
func (w *indexCopy) end(whole bool) {
	if w == nil {
		return
	}
	if err := w.file.Close(); err != nil || w.err != nil || !whole || os.Rename(w.file.Name(), w.cache.file(w.id)) != nil {
		os.Remove(w.file.Name())
	}
}
