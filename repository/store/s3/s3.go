// Package s3 keeps the objects of a repository in a bucket of a service that
// speaks the S3 protocol.
//
// An object is put by one request that the service is told to refuse if the
// name is taken (If-None-Match: *), with an MD5 sum that it verifies. The
// service stores it whole and durably before it answers, so there are no parts
// and no remains. A service that takes the condition and replaces the object
// all the same is found out at the first small object put and refused, unless
// the URL says that this is known.
//
// In a bucket with versions an object is deleted by its version: that frees
// its room, and a service with object lock refuses it before its time. A plain
// deletion would succeed there and merely hide the object.
package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/sombra-backup/sombra/repository/store"
)

// Store keeps objects in one bucket, below a prefix. Use Open.
type Store struct {
	core     minio.Core
	bucket   string
	prefix   string // "" or ends with a slash
	location Location
	// secure says that connections are encrypted, so that the signature need
	// not cover the data.
	secure bool
	// probed says that the service was seen to do what is asked of it.
	probed atomic.Bool
}

// probeSize bounds the objects with which the service is tried.
const probeSize = 64 << 10

// MayReplace implements store.Replacing: with conditional=no names are looked for
// before they are put, and no more.
func (s *Store) MayReplace() bool { return s.location.Unconditional }

// Concurrency implements store.Concurrent.
func (s *Store) Concurrency() int { return 4 }

func (s *Store) key(name string) string { return s.prefix + name }

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := before(ctx, "put", name); err != nil {
		return err
	}
	probe := !s.probed.Load() && len(data) <= probeSize
	if probe || s.location.Unconditional {
		// What is there already is not even tried to be replaced.
		switch _, err := s.Stat(ctx, name); {
		case err == nil:
			return fmt.Errorf("put %s: %w", name, store.ErrExist)
		case !errors.Is(err, store.ErrNotExist):
			return err
		}
	}
	if err := s.put(ctx, name, data); err != nil || !probe {
		return err
	}
	return s.probe(ctx, name, data)
}

// probe tries the service with an object just put: does it keep conditions, and
// locks. If it does not, the object is taken back: it is the first that was put,
// so that nothing is left behind.
func (s *Store) probe(ctx context.Context, name string, data []byte) error {
	if s.location.Lock > 0 {
		switch err := s.checkLocked(ctx, name); {
		case errors.Is(err, errNotLocked):
			return s.takeBack(ctx, name, err)
		case err != nil:
			return err
		}
	}
	if !s.location.Unconditional {
		switch err := s.put(ctx, name, data); {
		case err == nil:
			return s.takeBack(ctx, name, store.Permanent(fmt.Errorf("put %s: the service replaces objects although it is told not to (If-None-Match: *), so that of two programs making a repository here at once neither would notice the other; if that cannot happen, add conditional=no to the URL", name)))
		case !errors.Is(err, store.ErrExist):
			return err
		}
	}
	s.probed.Store(true)
	return nil
}

// takeBack deletes an object that was put to try the service, with all its
// versions, and gives the reason; if the object stays, that says so.
func (s *Store) takeBack(ctx context.Context, name string, reason error) error {
	for range 4 { // it was put twice
		switch err := s.Delete(ctx, name); {
		case errors.Is(err, store.ErrNotExist):
			return reason
		case err != nil:
			return fmt.Errorf("%w; what was put to find that out is still there: %w", reason, err)
		}
	}
	return reason
}

// put makes one request.
func (s *Store) put(ctx context.Context, name string, data []byte) error {
	// The sum of the whole body is signed, or none: signatures of chunks would
	// come with a body in an encoding of their own.
	o := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true, DisableContentSha256: true}
	if !s.location.Unconditional {
		o.SetMatchETagExcept("*")
	}
	if s.location.Lock > 0 {
		o.Mode = s.location.Mode
		o.RetainUntilDate = time.Now().Add(s.location.Lock).UTC()
	}
	sum := md5.Sum(data)
	var sha string
	if !s.secure {
		h := sha256.Sum256(data)
		sha = hex.EncodeToString(h[:])
	}
	_, err := s.core.PutObject(ctx, s.bucket, s.key(name), bytes.NewReader(data), int64(len(data)),
		base64.StdEncoding.EncodeToString(sum[:]), sha, o)
	return s.fail(ctx, "put", name, err)
}

// ReadAt implements store.Store.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	return s.readAt(ctx, name, "", p, offset)
}

// readAt reads a version of an object, the newest if none is named.
func (s *Store) readAt(ctx context.Context, name, version string, p []byte, offset int64) (int, error) {
	if err := before(ctx, "read", name); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, store.Permanent(fmt.Errorf("read %s: negative offset %d", name, offset))
	}
	if len(p) == 0 {
		_, err := s.stat(ctx, name, version)
		return 0, err
	}
	o := minio.GetObjectOptions{VersionID: version}
	if err := o.SetRange(offset, offset+int64(len(p))-1); err != nil {
		return 0, store.Permanent(fmt.Errorf("read %s: %w", name, err))
	}
	body, _, header, err := s.core.GetObject(ctx, s.bucket, s.key(name), o)
	if err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return 0, io.EOF
		}
		return 0, s.fail(ctx, "read", name, err)
	}
	defer body.Close()
	size, err := store.RangeSize(header.Get("Content-Range"), offset)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	want := p[:min(int64(len(p)), size-offset)]
	if n, err := io.ReadFull(body, want); err != nil {
		return n, s.fail(ctx, "read", name, fmt.Errorf("%d of %d bytes came: %w", n, len(want), errors.Join(err, errCut)))
	}
	if len(want) < len(p) {
		return len(want), io.EOF
	}
	return len(want), nil
}

// errCut keeps an answer that was cut short from passing for an object's end.
var errCut = errors.New("the answer was cut short")

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, name string) (store.Info, error) {
	if err := before(ctx, "stat", name); err != nil {
		return store.Info{}, err
	}
	o, err := s.stat(ctx, name, "")
	if err != nil {
		return store.Info{}, err
	}
	return store.Info{Name: name, Size: o.Size, ModTime: o.LastModified}, nil
}

func (s *Store) stat(ctx context.Context, name, version string) (minio.ObjectInfo, error) {
	o, err := s.core.StatObject(ctx, s.bucket, s.key(name), minio.StatObjectOptions{VersionID: version})
	return o, s.fail(ctx, "stat", name, err)
}

// List implements store.Store. Keys that no object of a repository can have are
// passed over.
func (s *Store) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	owner := false
	o := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, FetchOwner: &owner}
	ctx, watch := store.Watch(ctx, s.core.EndpointURL().Host, prefix)
	for object := range s.core.ListObjectsIter(ctx, s.bucket, o) {
		if object.Err != nil {
			return s.fail(ctx, "list", prefix, object.Err)
		}
		if err := watch.Entry(object.Key); err != nil {
			return err
		}
		name, ok := strings.CutPrefix(object.Key, s.prefix)
		if !ok || !store.ValidName(name) {
			continue
		}
		if err := f(store.Info{Name: name, Size: object.Size, ModTime: object.LastModified}); err != nil {
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
	o, err := s.stat(ctx, name, "")
	if err != nil {
		return err
	}
	err = s.core.RemoveObject(ctx, s.bucket, s.key(name), minio.RemoveObjectOptions{VersionID: o.VersionID})
	return s.fail(ctx, "delete", name, err)
}

// fail gives an error of the service the meaning that store.Store defines.
func (s *Store) fail(ctx context.Context, op, name string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		if store.IsSetup(err) {
			err = store.Permanent(err)
		}
		return fmt.Errorf("%s %s: %w", op, name, err)
	}
	switch code := r.StatusCode; {
	case r.Code == minio.NoSuchBucket:
		err = store.Permanent(fmt.Errorf("there is no bucket %s: %w", s.bucket, err))
	case code == http.StatusNotFound:
		err = store.ErrNotExist
	case code == http.StatusPreconditionFailed:
		err = store.ErrExist
	case op == "delete" && (code == http.StatusForbidden || isLocked(r)):
		err = fmt.Errorf("%w: %s", store.ErrLocked, describe(r))
	case code == http.StatusInsufficientStorage || strings.Contains(r.Code, "StorageFull") || strings.Contains(r.Code, "QuotaExceeded"):
		err = store.Permanent(fmt.Errorf("no room: %s", describe(r)))
	case code == http.StatusForbidden || code == http.StatusUnauthorized:
		err = store.Permanent(fmt.Errorf("refused: %s", describe(r)))
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code == http.StatusConflict,
		r.Code == "RequestTimeout" || r.Code == "BadDigest" || r.Code == "IncompleteBody":
		err = errors.New(describe(r))
	case code >= 400 && code < 500 || code == http.StatusNotImplemented:
		err = store.Permanent(errors.New(describe(r)))
	default:
		err = errors.New(describe(r))
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}

// isLocked says whether a service's word for a refused deletion is one of those
// that services have for object lock.
func isLocked(r minio.ErrorResponse) bool {
	return strings.Contains(r.Code, "ObjectLocked") || strings.Contains(r.Message, "WORM")
}

// describe is the service's own word.
func describe(r minio.ErrorResponse) string { return fmt.Sprintf("%s (%s)", r.Error(), r.Code) }

// before makes the tests common to all methods that name an object.
func before(ctx context.Context, op, name string) error {
	if err := store.CheckName(name); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return ctx.Err()
}
