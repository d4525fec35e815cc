package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store/local"
)

// rangesJob is what the process that backs up known ranges is told, and told is
// what it tells.
type rangesJob struct {
	Repo, Source string
	Changed      []repository.Range
}

type rangesTold struct {
	Record string
	Read   int64
}

// rangesMain stores a new version of a file of which the changed ranges are
// known, on top of the repository's newest record, and commits a record of it:
// the work of a program's backup with ranges. Its arguments are jobMain's.
func rangesMain(args []string) error {
	return jobMain(args, (*rangesJob).run)
}

func (job *rangesJob) run(ctx context.Context) (told rangesTold, err error) {
	st, err := local.Open(job.Repo)
	if err != nil {
		return told, err
	}
	repo, err := repository.Open(ctx, st, []byte(password), repository.Options{})
	if err != nil {
		return told, err
	}
	defer repo.Close()
	base, err := repo.Record(ctx, "latest")
	if err != nil {
		return told, err
	}
	src, err := os.Open(job.Source)
	if err != nil {
		return told, err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return told, err
	}
	b, err := repo.Begin(ctx, repository.BeginOptions{Base: base})
	if err != nil {
		return told, err
	}
	defer b.Abort()
	counted := &countedReader{at: src}
	found := false
	for e, err := range base.Table().All(ctx) {
		if err != nil {
			return told, err
		}
		entry := e.Clone()
		if e.Type == repository.Regular && path.Base(e.Path) == path.Base(job.Source) {
			found = true
			entry.Content, err = b.PutRanges(ctx, e.Content, repository.Source{At: counted, Size: info.Size()}, job.Changed)
			if err != nil {
				return told, err
			}
			entry.Size, entry.ModTime = info.Size(), info.ModTime()
		}
		if err := b.Add(ctx, entry); err != nil {
			return told, err
		}
	}
	if !found {
		return told, fmt.Errorf("record %s has no %s", base.ID.Short(), job.Source)
	}
	// Of a host of its own, so that no later backup takes it for its base.
	about := repository.RecordInfo{Time: time.Now(), Started: time.Now(), Type: "copy", State: repository.Complete, Program: "bench",
		Host: base.Host, Roots: base.Roots, Documents: maps.Clone(base.Documents), Summary: base.Summary}
	about.Host.ID, about.Host.Name = strings.Repeat("b", 32), "bench"
	rec, err := b.Commit(ctx, about)
	if err != nil {
		return told, err
	}
	return rangesTold{rec.ID.String(), counted.n.Load()}, nil
}

// countedReader counts the bytes that are read.
type countedReader struct {
	at io.ReaderAt
	n  atomic.Int64
}

func (c *countedReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.at.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}
