package writer

import "context"

// Rejecter is a [Kind] that wants to know which of the specs it discovered were
// answered by New with [ErrNotMine], so that it need not offer them again until
// they change. It is called in the service's own process, after the hosts have
// answered; cacheDir is that of the [Discovery]. An error costs nothing but time
// in the next run.
type Rejecter interface {
	Rejected(ctx context.Context, cacheDir string, specs []Spec) error
}
