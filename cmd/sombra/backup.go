package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

func newBackup(a *app) *cobra.Command {
	var b backupFlags
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "backup [PATH...]",
		Short: "Back up applications and files at one instant",
		Long: `Back up every component of a writer that has a file under PATH, whole, and the
data under PATH that belongs to no writer.

The applications are brought to a consistent state, shadow copies of all volumes
are taken at one instant, the applications go on, and the backup is read from the
shadow copies. What cannot be saved at the consistency asked for is never saved
at a lower one in silence: the plan, the result and the exit code say so.

Without PATH, and without components chosen by name, the configuration's paths
are taken. Without PATH a writer chosen by name (--writer NAME, --component
NAME:COMPONENT) is found wherever the data of its server lies, as sombra writers
lists it; with PATH only that is found whose data lies there.

A full backup begins a chain, and an incremental, differential or log backup goes
on from the one before, component by component; the default, copy, leaves the
writers' logs and history alone.`,
		Example: `  sombra backup /srv/app
  sombra backup --type incremental /srv/app
  sombra backup --consistency app --tag nightly /srv /home
  sombra backup --component /srv/app/app.db`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dryRun {
				return a.plan(cmd, &b, args)
			}
			ctx := cmd.Context()
			open, err := b.fill(cmd, a, args)
			if err != nil {
				return err
			}
			ready, err := a.readyToOpen(ctx, a.passwordSource())
			if err != nil {
				return err
			}
			var repo *repository.Repository
			defer func() {
				if repo != nil {
					repo.Close()
				}
			}()
			rep := a.reporter()
			results, err := requester.BackupTypes(ctx, open, func(ctx context.Context) (_ *repository.Repository, err error) {
				repo, err = ready(ctx)
				return repo, err
			}, b.request, rep)
			rep.end()
			if unopened := (*requester.OpenError)(nil); errors.As(err, &unopened) {
				return unopened.Err
			}
			outcome := requester.Complete
			for _, r := range results {
				a.summarizeBackup(r, rep)
				outcome = max(outcome, r.Outcome)
			}
			b.tellOwn(a)
			return resultError(ctx, outcome, err)
		},
	}
	b.add(cmd)
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, `show what would be done, and do nothing: "sombra plan"`)
	return cmd
}

// resultError is how a command ends: nil if all is well, the error if there is
// one, or the outcome, which the summary has explained.
func resultError(ctx context.Context, o requester.Outcome, err error) error {
	switch {
	case err == nil && o == requester.Complete:
		return nil
	case errors.Is(err, requester.ErrConsistency):
		err = &hintError{err, hintConsistency}
	case err != nil && errors.Is(context.Cause(ctx), errInterrupted):
		o = requester.Interrupted
	}
	return &outcomeError{o, err}
}

func newPlan(a *app) *cobra.Command {
	var b backupFlags
	cmd := &cobra.Command{
		Use:   "plan [PATH...]",
		Short: "Show what a backup would do, and do nothing",
		Long: `Show which writers, components, volumes and providers a backup of PATH would use,
what room it needs, how long applications would be held, which consistency is
reached, and what would be left out. Nothing is frozen and nothing is copied.
PATH, --writer and --component choose as for sombra backup.`,
		Example: `  sombra plan /srv/app
  sombra plan -v --consistency crash /srv`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.plan(cmd, &b, args) },
	}
	b.add(cmd)
	return cmd
}

// goesByHistory reports whether a type is asked for of which the backups before
// decide what it comes to.
func (b *backupFlags) goesByHistory() bool {
	is := func(t vss.BackupType) bool { return t != 0 && t != vss.BackupTypeFull && t != vss.BackupTypeCopy }
	return is(b.request.Type) || slices.ContainsFunc(b.request.TypesFor, func(f requester.TypeFor) bool { return is(f.Type) })
}

// plan shows what a backup would do. A repository is needed only to say what
// components have to build upon, and can be done without there too.
func (a *app) plan(cmd *cobra.Command, b *backupFlags, args []string) error {
	open, err := b.fill(cmd, a, args)
	if err != nil {
		return err
	}
	var into requester.RepositoryOpener
	if b.goesByHistory() && a.repo != "" {
		ready, err := a.readyToOpen(cmd.Context(), a.passwordSource())
		if err != nil {
			return err
		}
		var repo *repository.Repository
		defer func() {
			if repo != nil {
				repo.Close()
			}
		}()
		into = func(ctx context.Context) (_ *repository.Repository, err error) {
			repo, err = ready(ctx)
			return repo, err
		}
	}
	plans, err := requester.MakePlansTo(cmd.Context(), open, into, b.request, nil)
	if unopened := (*requester.OpenError)(nil); errors.As(err, &unopened) {
		return unopened.Err
	}
	if err != nil {
		return err
	}
	for i, p := range plans {
		if a.json {
			if err := a.printJSON("plan", p); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if len(plans) > 1 {
			fmt.Fprintf(a.stdout, "backup %d of %d, type %s\n", i+1, len(plans), p.Type)
		}
		printPlan(a.stdout, p, a.verbose > 0)
	}
	if !a.json {
		b.tellOwn(a)
	}
	for _, p := range plans {
		if !p.Reachable {
			return &outcomeError{requester.Failed, unreachable(p)}
		}
	}
	return nil
}
