package requester

import (
	"context"

	"github.com/sombra-backup/sombra/repository"
)

// RepositoryOpener opens the repository that a backup goes to. It asks nobody
// anything, and is called once, beside the gathering of writers.
type RepositoryOpener func(ctx context.Context) (*repository.Repository, error)

// OpenError says that the repository could not be opened. Nothing was frozen.
type OpenError struct{ Err error }

func (e *OpenError) Error() string { return e.Err.Error() }
func (e *OpenError) Unwrap() error { return e.Err }

// opening is a repository being opened.
type opening struct {
	done chan struct{}
	repo *repository.Repository
	err  error
}

// wait gives the repository when it is open.
func (o *opening) wait() (*repository.Repository, error) {
	<-o.done
	return o.repo, o.err
}

// intoOpening runs f while the repository is opened, and ends it early if that
// fails: then that is the error, whatever f says.
func intoOpening(ctx context.Context, open RepositoryOpener, f func(context.Context, *opening) error) error {
	o := &opening{done: make(chan struct{})}
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		defer close(o.done)
		var err error
		if o.repo, err = open(ctx); err != nil {
			o.err = &OpenError{err}
			cancel(o.err)
		}
	}()
	err := f(both, o)
	if _, failed := o.wait(); failed != nil && ctx.Err() == nil {
		return failed
	}
	return err
}
