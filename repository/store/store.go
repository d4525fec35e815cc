// Package store defines where the objects of a repository lie: a flat space
// of named, immutable byte strings. Implementations are sub-packages, one
// each; storetest is the conformance suite all of them pass.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The errors an implementation reports, found with errors.Is.
var (
	// ErrNotExist says that no object has that name.
	ErrNotExist = errors.New("object does not exist")
	// ErrExist says that an object already has that name.
	ErrExist = errors.New("object already exists")
	// ErrInvalidName says that a name breaks the rules of ValidName.
	ErrInvalidName = errors.New("invalid object name")
	// ErrLocked says that the store forbids deleting the object now: it is under
	// retention, or this user lacks the right. Other objects may be deletable.
	ErrLocked = errors.New("the store forbids deleting the object")
	// ErrFull says that there is no room for the object, or that this user's
	// quota is used up.
	ErrFull = errors.New("the storage is full")
	// ErrUnknownScheme says that no implementation serves that kind of URL.
	ErrUnknownScheme = errors.New("unknown kind of storage")
)

// Store is the minimum required of storage.
//
// Objects are created whole, never changed, and deleted whole. The promise
// everything else rests on: when Put has returned nil, or List has shown the
// object, it is durable, so that it survives a loss of power at once; and what
// Stat or ReadAt shows is whole: no reader on any machine ever sees a part of
// an object. A Put that failed may have stored the object all the same, whole;
// putting it again then gives ErrExist.
//
// Names follow ValidName; every method gives ErrInvalidName for others. All
// methods may be called from several goroutines, and by several processes on
// several machines at once. They return promptly with the context's error once
// it is done, as far as the system lets them.
type Store interface {
	// Put creates the object. It never replaces one: if the name is taken it
	// gives ErrExist and changes nothing, and the object that has the name is
	// durable then. It does not keep data.
	Put(ctx context.Context, name string, data []byte) error

	// ReadAt fills p from the object's bytes at offset and says how many it
	// read. Fewer than len(p) come with an error: io.EOF at the object's end.
	// ErrNotExist if there is no such object.
	ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error)

	// Stat describes the object. ErrNotExist if there is none.
	Stat(ctx context.Context, name string) (Info, error)

	// List calls f for each object whose name begins with prefix, a byte
	// string that need not end at a slash, in no particular order. An error of f ends the
	// listing and is returned as it is. An object put or deleted meanwhile may be listed or not; all
	// others are, once.
	List(ctx context.Context, prefix string, f func(Info) error) error

	// Delete removes the object. ErrNotExist if there is none, ErrLocked if the
	// store forbids it. A deletion may be undone by a loss of power.
	Delete(ctx context.Context, name string) error
}

// Sweeper is a Store that may hold remains of Puts that never ended.
type Sweeper interface {
	// Sweep removes remains older than age. They are never visible as objects.
	Sweep(ctx context.Context, age time.Duration) error
}

// Retainer is a Store that can keep objects from being deleted for a time,
// whoever asks (object lock).
type Retainer interface {
	// Retain has the store refuse to delete the object before until, by the
	// store's clock. A retention that lasts longer already is left as it is:
	// Retain never shortens one. ErrNotExist if there is no such object.
	Retain(ctx context.Context, name string, until time.Time) error
	// Period is for how long the store refuses to delete what is put, from when
	// it was put.
	Period() time.Duration
}

// Concurrent is a Store that gains by many requests at once: one that is far
// away, where each of them mostly waits.
type Concurrent interface {
	// Concurrency is how many Puts at once use the store well; 0 says that it is
	// not known.
	Concurrency() int
}

// Replacing is a Store that may not keep Put's promise never to replace: of two
// Puts of one name at the same instant both may succeed. Objects named by their
// content are safe there; what depends on one of two being refused is not.
type Replacing interface {
	// MayReplace says whether that is so.
	MayReplace() bool
}

// MayReplace asks a Store whether it is Replacing.
func MayReplace(s Store) bool {
	r, ok := s.(Replacing)
	return ok && r.MayReplace()
}

// Permanent marks an error that another try cannot mend, such as a refused
// password. It gives nil for nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// IsPermanent says whether another try at an operation that gave err is in
// vain: the answers of this package are final, and so is what Permanent marked.
// All else is taken for a disturbance that may pass.
func IsPermanent(err error) bool {
	var p *permanentError
	if errors.As(err, &p) {
		return true
	}
	for _, e := range []error{ErrNotExist, ErrExist, ErrInvalidName, ErrLocked, ErrFull, ErrUnknownScheme} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Info describes one object.
type Info struct {
	// Name is the object's name.
	Name string
	// Size is its length in bytes.
	Size int64
	// ModTime is when it was put, by the store's clock, which may differ from
	// this machine's.
	ModTime time.Time
}

// MaxName is the greatest length of an object name in bytes.
const MaxName = 255

// ValidName says whether name may name an object: 1 to 255 bytes of a-z, 0-9,
// '-', '_' and '.', in parts divided by single slashes, none of which is empty
// or begins with '.'.
func ValidName(name string) bool {
	if name == "" || len(name) > MaxName {
		return false
	}
	start := true
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '/':
			if start {
				return false
			}
			start = true
			continue
		case c == '.':
			if start {
				return false
			}
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
		start = false
	}
	return !start
}

// CheckName gives nil for a valid name, else an error that wraps
// ErrInvalidName.
func CheckName(name string) error {
	if ValidName(name) {
		return nil
	}
	if len(name) > MaxName {
		name = name[:MaxName] + "…"
	}
	return fmt.Errorf("%w: %q", ErrInvalidName, name)
}
