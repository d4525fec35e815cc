// Package mem keeps the objects of a repository in memory. It is a complete
// implementation of store.Store for as long as the process lives, for tests
// and for trying things out.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// Store holds objects in memory. Use New.
type Store struct {
	mu      sync.RWMutex
	objects map[string]object
}

type object struct {
	data []byte
	time time.Time
}

// New makes an empty store.
func New() *Store { return &Store{objects: map[string]object{}} }

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := before(ctx, "put", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[name]; ok {
		return fmt.Errorf("put %s: %w", name, store.ErrExist)
	}
	s.objects[name] = object{bytes.Clone(data), time.Now()}
	return nil
}

// ReadAt implements store.Store.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	if err := before(ctx, "read", name); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, fmt.Errorf("read %s: negative offset %d", name, offset)
	}
	s.mu.RLock()
	o, ok := s.objects[name]
	s.mu.RUnlock()
	if !ok {
		return 0, fmt.Errorf("read %s: %w", name, store.ErrNotExist)
	}
	if offset >= int64(len(o.data)) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, o.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, name string) (store.Info, error) {
	if err := before(ctx, "stat", name); err != nil {
		return store.Info{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.objects[name]
	if !ok {
		return store.Info{}, fmt.Errorf("stat %s: %w", name, store.ErrNotExist)
	}
	return store.Info{Name: name, Size: int64(len(o.data)), ModTime: o.time}, nil
}

// List implements store.Store. It lists what was there when it was called.
func (s *Store) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	s.mu.RLock()
	infos := make([]store.Info, 0, len(s.objects))
	for name, o := range s.objects {
		if strings.HasPrefix(name, prefix) {
			infos = append(infos, store.Info{Name: name, Size: int64(len(o.data)), ModTime: o.time})
		}
	}
	s.mu.RUnlock()
	for _, info := range infos {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(info); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := before(ctx, "delete", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[name]; !ok {
		return fmt.Errorf("delete %s: %w", name, store.ErrNotExist)
	}
	delete(s.objects, name)
	return nil
}

// Copy gives a store with the same objects, independent of s from then on.
func (s *Store) Copy() *Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := New()
	for name, o := range s.objects {
		c.objects[name] = o
	}
	return c
}

// before makes the tests common to all methods that name an object.
func before(ctx context.Context, op, name string) error {
	if err := store.CheckName(name); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return ctx.Err()
}
