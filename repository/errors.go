package repository

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of errors of this package, found with errors.Is. Errors of the
// store itself are passed on with the object they happened to.
var (
	// ErrNoRepository says that the store holds no repository.
	ErrNoRepository = errors.New("repository: there is no repository here")
	// ErrExist says that the store already holds a repository.
	ErrExist = errors.New("repository: a repository is already here")
	// ErrWrongPassword says that no key slot opens with the password.
	ErrWrongPassword = errors.New("repository: wrong password")
	// ErrNotFound says that no record, document, entry or chunk has that name.
	ErrNotFound = errors.New("repository: not found")
	// ErrAmbiguous says that several records begin with the given prefix.
	ErrAmbiguous = errors.New("repository: ambiguous record id")
	// ErrDamaged says that something stored is missing, was altered, or breaks
	// the rules of the format. The error naming the object wraps it.
	ErrDamaged = errors.New("repository: damaged")
	// ErrUnsupported says that the repository needs something that this program
	// does not know, since a newer one made it, or that its storage cannot do what
	// is wanted.
	ErrUnsupported = errors.New("repository: not supported")
	// ErrInvalid says that an argument breaks a rule that its documentation
	// states.
	ErrInvalid = errors.New("repository: invalid argument")
	// ErrStale says that a backup gave no sign of life for so long that a prune
	// may have deleted what it builds on, and that it did. It is to be made again;
	// what it stored is found then.
	ErrStale = errors.New("repository: the backup was silent for too long")
	// ErrSourceChanged says that a source ended before its declared size.
	ErrSourceChanged = errors.New("repository: source is shorter than declared")
	// ErrClosed says that the repository was closed, or the backup committed
	// or aborted.
	ErrClosed = errors.New("repository: closed")
	// ErrWriteOnly says that the key in use can add backups but not read them.
	ErrWriteOnly = errors.New("repository: the key can write but not read")
)

// ObjectError tells which object of the store an operation was about.
type ObjectError struct {
	// Op is what was being done: "read", "put", "list", "decode", "verify".
	Op string
	// Object is the object's name in the store.
	Object string
	// Err is what happened.
	Err error
}

// Error gives operation, object and cause, once if the cause begins so itself.
func (e *ObjectError) Error() string {
	what := e.Op + " " + e.Object + ": "
	return what + strings.TrimPrefix(e.Err.Error(), what)
}

// Unwrap gives the cause.
func (e *ObjectError) Unwrap() error { return e.Err }

// wrapf makes an error of the given kind.
func wrapf(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
}

// damagef makes an error that wraps ErrDamaged.
func damagef(format string, args ...any) error { return wrapf(ErrDamaged, format, args...) }

// invalidf makes an error that wraps ErrInvalid.
func invalidf(format string, args ...any) error { return wrapf(ErrInvalid, format, args...) }
