package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
)

func newRepair(a *app) *cobra.Command {
	var o repository.RepairOptions
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Make the best of a damaged repository, and name what is lost",
		Long: `Make the best of a damaged repository. Everything is read; what is whole in damaged
packs is stored anew, the index is made again from the packs, and damaged objects
are put aside below damaged/ in the repository. Nothing is destroyed: what is new
is stored before anything is taken away. What is lost is named, file by file, and
makes exit 3.

Where the medium itself is failing, copy it first.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			repo, err := a.openRepository(ctx)
			if err != nil {
				return err
			}
			defer repo.Close()
			report, err := repo.Repair(ctx, o, func(p repository.Problem) { a.problem(p) })
			if err != nil {
				return err
			}
			if a.json {
				if err := a.printJSON("summary", report); err != nil {
					return err
				}
			} else {
				a.printf("%s found; %s stored anew, %s; directories of %s read for a new index; %s put aside\n", plural(report.Damaged, "problem"),
					plural(report.Salvaged, "chunk"), size(report.SalvagedBytes), plural(report.Indexed, "pack"), plural(len(report.SetAside), "object"))
			}
			for _, name := range report.Kept {
				fmt.Fprintf(a.stderr, "sombra: left as it is: %s\n", printable(name))
			}
			if report.Left > 0 {
				err := fmt.Errorf("%s left, named above", plural(report.Left, "problem"))
				if o.DryRun {
					return &codeError{exitIncomplete, &hintError{err, "nothing was changed; sombra repair saves what is whole of it"}}
				}
				return &codeError{exitIncomplete, &hintError{err, afterRepair}}
			}
			a.printf("no damage is left\n")
			return nil
		},
	}
	cmd.Flags().BoolVarP(&o.DryRun, "dry-run", "n", false, "say what is damaged, and change nothing")
	cmd.Flags().BoolVar(&o.Records, "set-aside-records", false, "put aside backups that cannot be read, too")
	return cmd
}
