package main

import (
	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/requester"
)

func newBackup(a *app) *cobra.Command {
	var b backupFlags
	cmd := &cobra.Command{
		Use:   "backup [PATH...]",
		Short: "Back up applications and files at one instant",
		Long: `Back up every component of a writer that has a file under PATH, whole, and the
data under PATH that belongs to no writer.

The applications are brought to a consistent state, shadow copies of all volumes
are taken at one instant, the applications go on, and the backup is read from the
shadow copies. What cannot be saved at the consistency asked for is never saved
at a lower one in silence: the plan, the result and the exit code say so.`,
		Example: `  sombra backup /srv/app
  sombra backup --consistency app --tag nightly /srv /home
  sombra backup --component /srv/app/app.db`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			open, err := b.fill(ctx, a, args)
			if err != nil {
				return err
			}
			repo, err := a.openRepository(ctx)
			if err != nil {
				return err
			}
			defer repo.Close()
			rep := a.reporter()
			result, err := requester.Backup(ctx, open, repo, b.request, rep)
			rep.end()
			a.summarizeBackup(result)
			if result.Outcome != requester.Complete || err != nil {
				return &outcomeError{result.Outcome, err}
			}
			return nil
		},
	}
	b.add(cmd)
	return cmd
}

func newPlan(a *app) *cobra.Command {
	var b backupFlags
	cmd := &cobra.Command{
		Use:   "plan [PATH...]",
		Short: "Show what a backup would do, and do nothing",
		Long: `Show which writers, components, volumes and providers a backup of PATH would use,
what room it needs, how long applications would be held, which consistency is
reached, and what would be left out. Nothing is frozen and nothing is copied.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			open, err := b.fill(ctx, a, args)
			if err != nil {
				return err
			}
			p, err := requester.MakePlan(ctx, open, b.request, nil)
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(planLine{"plan", p})
			} else {
				err = printPlan(a.stdout, p)
			}
			if err == nil && !p.Reachable {
				return &outcomeError{requester.Failed, unreachable(p)}
			}
			return err
		},
	}
	b.add(cmd)
	return cmd
}
