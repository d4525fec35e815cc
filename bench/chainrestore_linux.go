package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/local"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator"
)

// chainJob is what the process that restores a chain is told.
type chainJob struct {
	Dir        string // of the tool
	Sequential bool
}

// chainTold is what it tells.
type chainTold struct {
	// Read is what the store gave of the repository's objects.
	Read int64
	// Operations is how many there were, and InPlace how many of them found their
	// files in place.
	Operations, InPlace int
}

// chainMain restores the newest record and what it continues as the program
// does, and counts what is read from the repository. Its arguments are jobMain's.
func chainMain(args []string) error {
	return jobMain(args, (*chainJob).run)
}

func (job *chainJob) run(ctx context.Context) (told chainTold, err error) {
	st, err := local.Open(repoOf(job.Dir))
	if err != nil {
		return told, err
	}
	counted := &countedStore{Store: st}
	state := filepath.Join(job.Dir, "state")
	repo, err := repository.Open(ctx, counted, []byte(password), repository.Options{StateDir: state})
	if err != nil {
		return told, err
	}
	defer repo.Close()
	rec, err := repo.Record(ctx, "latest")
	if err != nil {
		return told, err
	}
	open := func(ctx context.Context) (session.Session, error) {
		return coordinator.Open(ctx, coordinator.Options{Kinds: kinds(), Providers: providers(), StateDir: state, SocketDirs: []string{writersOf(job.Dir)},
			KeeperArgs: []string{roleKeeper}, HostArgs: []string{roleHost}})
	}
	res, err := requester.Restore(ctx, open, repo, rec, requester.RestoreRequest{Sequential: job.Sequential}, nil)
	if err != nil {
		return told, err
	}
	if res.Outcome != requester.Complete {
		return told, fmt.Errorf("the restore is %v: %+v %+v %q", res.Outcome, res.Components, res.Failures, res.Warnings)
	}
	told = chainTold{Read: counted.read.Load(), Operations: len(res.Chain)}
	for _, l := range res.Chain {
		if len(l.Components) == 1 && l.Components[0].InPlace {
			told.InPlace++
		}
	}
	return told, nil
}

// countedStore counts the bytes that are read of a store's objects.
type countedStore struct {
	store.Store
	read atomic.Int64
}

func (c *countedStore) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	n, err := c.Store.ReadAt(ctx, name, p, offset)
	c.read.Add(int64(n))
	return n, err
}
