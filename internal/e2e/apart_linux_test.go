package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sombra-backup/sombra/provider"
)

// apart is a provider that takes its copies a random time later than it could, so
// that those of a set's volumes are far apart and whatever does not hold shows.
type apart struct {
	provider.Provider
	most time.Duration
}

// apartBy has all providers do so.
func apartBy(most time.Duration, of []provider.Provider) (list []provider.Provider) {
	for _, p := range of {
		list = append(list, apart{p, most})
	}
	return list
}

func (p apart) BeginPrepare(ctx context.Context, r provider.Request) (provider.Snapshot, error) {
	s, err := p.Provider.BeginPrepare(ctx, r)
	if err != nil {
		return nil, err
	}
	// Were it lost, the copies would be slower than users have them.
	fresh, ok := s.(refreshing)
	if !ok {
		return nil, fmt.Errorf("provider %s: the copy cannot be refreshed", p.Info().Name)
	}
	return apartSnapshot{fresh, p.most}, nil
}

// refreshing is what copies of all built-in providers are.
type refreshing interface {
	provider.Snapshot
	provider.Refresher
}

type apartSnapshot struct {
	refreshing
	most time.Duration
}

func (s apartSnapshot) Commit(ctx context.Context) error {
	time.Sleep(rand.N(s.most))
	return s.refreshing.Commit(ctx)
}
