package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/sombra-backup/sombra/repository/store"
)

// past shows a bucket with versions as it was at a time: what was deleted since
// is there, what was replaced since is what it was, what was put since is not.
// It changes nothing.
type past struct {
	s  *Store
	at time.Time

	// versions are those found so far, by name. An absent one is not kept.
	mu       sync.Mutex
	versions map[string]version
}

type version struct {
	id   string
	size int64
	time time.Time
}

func newPast(s *Store, at time.Time) *past {
	return &past{s: s, at: at, versions: map[string]version{}}
}

// errPast is what comes of trying to change the past.
var errPast = store.Permanent(errors.New("the bucket is looked at as it was earlier (at= in the URL), and cannot be changed so"))

// Put implements store.Store by refusing.
func (p *past) Put(ctx context.Context, name string, _ []byte) error {
	if err := before(ctx, "put", name); err != nil {
		return err
	}
	return fmt.Errorf("put %s: %w", name, errPast)
}

// Delete implements store.Store by refusing.
func (p *past) Delete(ctx context.Context, name string) error {
	if err := before(ctx, "delete", name); err != nil {
		return err
	}
	return fmt.Errorf("delete %s: %w", name, errPast)
}

// ReadAt implements store.Store.
func (p *past) ReadAt(ctx context.Context, name string, b []byte, offset int64) (int, error) {
	if err := before(ctx, "read", name); err != nil {
		return 0, err
	}
	v, err := p.version(ctx, "read", name)
	if err != nil {
		return 0, err
	}
	return p.s.readAt(ctx, name, v.id, b, offset)
}

// Stat implements store.Store.
func (p *past) Stat(ctx context.Context, name string) (store.Info, error) {
	if err := before(ctx, "stat", name); err != nil {
		return store.Info{}, err
	}
	v, err := p.version(ctx, "stat", name)
	if err != nil {
		return store.Info{}, err
	}
	return store.Info{Name: name, Size: v.size, ModTime: v.time}, nil
}

// version finds the version of an object.
func (p *past) version(ctx context.Context, op, name string) (version, error) {
	p.mu.Lock()
	v, ok := p.versions[name]
	p.mu.Unlock()
	if ok {
		return v, nil
	}
	found := false
	err := p.list(ctx, name, func(n string, w version) error {
		if n == name {
			v, found = w, true
		}
		return nil
	})
	if err != nil {
		return v, err
	}
	if !found {
		return v, fmt.Errorf("%s %s: %w", op, name, store.ErrNotExist)
	}
	p.keep(name, v)
	return v, nil
}

// maxVersions bounds what is remembered.
const maxVersions = 1 << 17

func (p *past) keep(name string, v version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.versions) >= maxVersions {
		clear(p.versions)
	}
	p.versions[name] = v
}

// List implements store.Store.
func (p *past) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	return p.list(ctx, prefix, func(name string, v version) error {
		p.keep(name, v)
		return f(store.Info{Name: name, Size: v.size, ModTime: v.time})
	})
}

// list shows for each object the version of the time, if it was there then. The
// service lists versions by key, and of one key the newest first.
func (p *past) list(ctx context.Context, prefix string, f func(string, version) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	owner, last := false, ""
	o := minio.ListObjectsOptions{Prefix: p.s.prefix + prefix, Recursive: true, WithVersions: true, FetchOwner: &owner}
	for object := range p.s.core.ListObjectsIter(ctx, p.s.bucket, o) {
		if object.Err != nil {
			return p.s.fail(ctx, "list", prefix, object.Err)
		}
		name, ok := strings.CutPrefix(object.Key, p.s.prefix)
		if !ok || !store.ValidName(name) || name == last || object.LastModified.After(p.at) {
			continue
		}
		last = name
		if object.IsDeleteMarker {
			continue
		}
		if err := f(name, version{object.VersionID, object.Size, object.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}
