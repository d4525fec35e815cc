package repository

import (
	"container/list"
	"sync"
)

// lru is a cache bounded by what its values weigh together. The value used
// longest ago goes first. It may be used from several goroutines.
type lru[K comparable, V any] struct {
	mu     sync.Mutex
	limit  int64
	weight int64
	order  *list.List // of *lruItem[K, V], the latest first
	items  map[K]*list.Element
}

type lruItem[K comparable, V any] struct {
	key    K
	value  V
	weight int64
}

func newLRU[K comparable, V any](limit int64) *lru[K, V] {
	return &lru[K, V]{limit: limit, order: list.New(), items: map[K]*list.Element{}}
}

func (c *lru[K, V]) get(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruItem[K, V]).value, true
}

// put keeps the value unless it alone is over the limit.
func (c *lru[K, V]) put(key K, v V, weight int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[key]; ok || weight > c.limit {
		return
	}
	c.items[key] = c.order.PushFront(&lruItem[K, V]{key, v, weight})
	for c.weight += weight; c.weight > c.limit; {
		last := c.order.Back()
		item := c.order.Remove(last).(*lruItem[K, V])
		delete(c.items, item.key)
		c.weight -= item.weight
	}
}

// clear empties the cache.
func (c *lru[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order.Init()
	clear(c.items)
	c.weight = 0
}
