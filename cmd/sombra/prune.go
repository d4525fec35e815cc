package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
)

// pruneFlags are those of prune, and of forget --prune.
type pruneFlags struct {
	grace     span
	retain    span
	maxUnused percent
	dryRun    bool
}

func (o *pruneFlags) add(f *pflag.FlagSet) {
	o.grace, o.maxUnused = span(repository.DefaultGrace), 100*repository.DefaultMaxUnused
	f.Var(&o.grace, "grace", "how long what nothing uses stays after it was marked; 0 for no time")
	f.Var(&o.retain, "retain", "how long from now on object lock is to keep what backups need (as long as what is put)")
	f.Var(&o.maxUnused, "max-unused", "`percent` of a pack that may be unused before the rest is copied elsewhere")
	mark(f, settable, "retain")
}

func newPrune(a *app) *cobra.Command {
	var o pruneFlags
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Free the room of what no backup uses",
		Long: `Free the room of what no backup uses. It may run beside backups and other prunes,
and needs no lock: what nothing uses is marked by one run, and deleted by a run a
day later (--grace), unless a backup goes on that began before the mark. So run it
regularly.

Where storage locks what is put (lock= in the URL of an S3 bucket) it renews the
locks of what backups need, --retain from now on; see docs/storage.md.

It needs a password that can read: a write-only one cannot tell what is used.
Exit 3 if something could not be done: a backup cannot be read, so that nobody
knows what it uses, or the store refuses to delete what no lock keeps any more.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			repo, err := a.openRepository(ctx)
			if err != nil {
				return err
			}
			defer repo.Close()
			return a.prune(ctx, repo, &o)
		},
	}
	o.add(cmd.Flags())
	cmd.Flags().BoolVarP(&o.dryRun, "dry-run", "n", false, "say what would be done, and change nothing")
	return cmd
}

func (a *app) prune(ctx context.Context, repo *repository.Repository, o *pruneFlags) error {
	options := repository.PruneOptions{DryRun: o.dryRun, Grace: time.Duration(o.grace), MaxUnused: max(float64(o.maxUnused)/100, 1e-9),
		Retain: time.Duration(o.retain), Chain: requester.Chain}
	if o.grace == 0 {
		options.Grace = -1
	}
	rep := a.reporter()
	rep.Phase(phasePrune)
	options.Progress = rep.packs
	report, err := repo.Prune(ctx, options, func(p repository.Problem) {
		rep.clear()
		a.problem(p)
	})
	rep.end()
	if errors.Is(err, repository.ErrCannotRetain) {
		return &hintError{fmt.Errorf("--retain: %w", err), "only S3 with lock= in its URL can; see docs/storage.md"}
	}
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON("summary", pruneLine{report, stopText(report)})
	} else {
		a.printPrune(report, o.dryRun)
	}
	switch {
	case err != nil:
		return err
	case report.Stopped != nil:
		return &codeError{exitIncomplete, &hintError{fmt.Errorf("nothing is pruned while it cannot be known what is used: %w", report.Stopped), "see: sombra repair --help"}}
	case report.LockedCount > 0:
		return &codeError{exitIncomplete, fmt.Errorf("the store refuses to delete %s", plural(report.LockedCount, "object"))}
	case report.Problems > 0:
		return &codeError{exitIncomplete, &hintError{fmt.Errorf("%s found", plural(report.Problems, "problem")), "see: sombra check"}}
	}
	return nil
}

// pruneLine is a report as a JSON line.
type pruneLine struct {
	repository.PruneReport
	Stopped string `json:"stopped,omitempty"`
}

func stopText(r repository.PruneReport) string {
	if r.Stopped == nil {
		return ""
	}
	return r.Stopped.Error()
}

func (a *app) printPrune(r repository.PruneReport, dry bool) {
	would := ""
	if dry {
		would = "would be "
	}
	a.printf("%s, %s in %s, %s of it unused\n", plural(r.Records, "backup"), size(r.Bytes), plural(r.Packs, "pack"), size(r.Unused))
	if r.Copied > 0 {
		a.printf("%scopied: %s of packs little used, %s\n", would, plural(r.Copied, "chunk"), size(r.CopiedBytes))
	}
	a.printf("%sdeleted: %s, %s; %smarked: %s, %s\n", would, plural(r.Deleted, "pack"), size(r.DeletedBytes), would, plural(r.Marked, "pack"), size(r.MarkedBytes))
	if r.Waiting > 0 {
		a.printf("waiting: %s, %s, to be deleted by a prune after %s\n", plural(r.Waiting, "pack"), size(r.WaitingBytes), r.Due.Local().Format(time.DateTime))
	}
	if r.Retained > 0 {
		a.printf("locked for longer: %s\n", plural(r.Retained, "object"))
	}
	for _, b := range r.Blockers {
		a.printf("held back by a backup of %s that began %s and was heard of %s; it counts until %s\n", printable(b.Host),
			b.Began.Local().Format(time.DateTime), b.Last.Local().Format(time.DateTime), b.Expires.Local().Format(time.DateTime))
	}
	for _, name := range r.Locked {
		fmt.Fprintf(a.stderr, "sombra: the store refuses to delete %s\n", printable(name))
	}
}
