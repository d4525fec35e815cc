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

// first shows of each object in a bucket with versions the version that was put
// first, also if the object was hidden by a deletion since. Objects are never
// replaced by us, so whatever was put later under the name is somebody else's;
// and what we delete is deleted by its version, so it does not return. It
// changes nothing.
type first struct {
	s *Store

	// versions are those found so far, by name. An absent one is not kept.
	mu       sync.Mutex
	versions map[string]version
}

type version struct {
	id   string
	size int64
	time time.Time
}

func newFirst(s *Store) *first { return &first{s: s, versions: map[string]version{}} }

// errReadOnly is what comes of trying to change something.
var errReadOnly = store.Permanent(errors.New("the bucket is only read, since the URL asks for first versions (versions=first)"))

// Put implements store.Store by refusing.
func (p *first) Put(ctx context.Context, name string, _ []byte) error {
	if err := before(ctx, "put", name); err != nil {
		return err
	}
	return fmt.Errorf("put %s: %w", name, errReadOnly)
}

// Delete implements store.Store by refusing.
func (p *first) Delete(ctx context.Context, name string) error {
	if err := before(ctx, "delete", name); err != nil {
		return err
	}
	return fmt.Errorf("delete %s: %w", name, errReadOnly)
}

// ReadAt implements store.Store.
func (p *first) ReadAt(ctx context.Context, name string, b []byte, offset int64) (int, error) {
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
func (p *first) Stat(ctx context.Context, name string) (store.Info, error) {
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
func (p *first) version(ctx context.Context, op, name string) (version, error) {
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

func (p *first) keep(name string, v version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.versions) >= maxVersions {
		clear(p.versions)
	}
	p.versions[name] = v
}

// List implements store.Store.
func (p *first) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	return p.list(ctx, prefix, func(name string, v version) error {
		p.keep(name, v)
		return f(store.Info{Name: name, Size: v.size, ModTime: v.time})
	})
}

// list shows for each object the version put first. The service lists versions by
// key, and of one key the newest first.
func (p *first) list(ctx context.Context, prefix string, f func(string, version) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	owner, last, v := false, "", version{}
	show := func() error {
		if last == "" || v.id == "" {
			return nil
		}
		return f(last, v)
	}
	o := minio.ListObjectsOptions{Prefix: p.s.prefix + prefix, Recursive: true, WithVersions: true, FetchOwner: &owner}
	ctx, watch := store.Watch(ctx, p.s.core.EndpointURL().Host, prefix)
	for object := range p.s.core.ListObjectsIter(ctx, p.s.bucket, o) {
		if object.Err != nil {
			return p.s.fail(ctx, "list", prefix, object.Err)
		}
		if err := watch.Version(object.Key); err != nil {
			return err
		}
		name, ok := strings.CutPrefix(object.Key, p.s.prefix)
		if !ok || !store.ValidName(name) {
			continue
		}
		if name != last {
			if err := show(); err != nil {
				return err
			}
			last, v = name, version{}
		}
		if !object.IsDeleteMarker {
			v = version{object.VersionID, object.Size, object.LastModified}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return show()
}
