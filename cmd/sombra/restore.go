package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/requester"
)

// parseOverwrite reads --overwrite.
func parseOverwrite(word string) (requester.Overwrite, error) {
	switch word {
	case "", "always":
		return requester.OverwriteAlways, nil
	case "if-newer":
		return requester.OverwriteIfNewer, nil
	case "never":
		return requester.OverwriteNever, nil
	}
	return 0, &hintError{fmt.Errorf("overwrite %q is not known", word), "use always, if-newer or never"}
}

func newRestore(a *app) *cobra.Command {
	var r requester.RestoreRequest
	var overwrite, target string
	cmd := &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Put back what a backup holds, to where it was",
		Long: `Restore a backup, or what is chosen of it, to its original place. The writers of
the components take part: they close their files before, and check and recover
after. A component is restored whole or said not to be.

BACKUP is an id or its first digits as "sombra backups" lists them, or "latest".

With --target files are only extracted into a directory, without the writers;
that is "sombra extract".`,
		Example: `  sombra restore latest
  sombra restore --component /srv/app/app.db 3f2a91c0
  sombra restore --include '/srv/app/etc/**' latest`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if r.Overwrite, err = parseOverwrite(overwrite); err != nil {
				return err
			}
			if target != "" {
				return a.extract(cmd, args[0], requester.ExtractRequest{Dir: target, Include: r.Include, Exclude: r.Exclude,
					Selectors: r.Selectors, Overwrite: r.Overwrite, DryRun: r.DryRun})
			}
			ctx := cmd.Context()
			repo, err := a.openRepository(ctx)
			if err != nil {
				return err
			}
			defer repo.Close()
			rec, err := repo.Record(ctx, args[0])
			if err != nil {
				return err
			}
			o, err := a.config.sessionOptions()
			if err != nil {
				return err
			}
			rep := a.reporter()
			result, err := requester.Restore(ctx, a.sessions(o), repo, rec, r, rep)
			rep.end()
			a.summarizeRestore(result)
			if err != nil || result.Outcome != requester.Complete {
				return &outcomeError{result.Outcome, err}
			}
			return nil
		},
	}
	addSelectors(cmd, &r.Selectors)
	f := cmd.Flags()
	f.StringArrayVarP(&r.Include, "include", "i", nil, "restore only paths that match this `pattern`")
	f.StringArrayVarP(&r.Exclude, "exclude", "e", nil, "leave out paths that match this `pattern` (data of no writer)")
	f.BoolVar(&r.NoWriters, "no-writers", false, "restore components' files without their writers")
	f.StringVar(&overwrite, "overwrite", "", "files that are there: `when` to replace them: always (default), if-newer, never")
	f.BoolVarP(&r.DryRun, "dry-run", "n", false, "show what would be done, and change nothing")
	f.StringVarP(&target, "target", "t", "", "extract into this `directory` instead")
	return cmd
}

func newExtract(a *app) *cobra.Command {
	var r requester.ExtractRequest
	var overwrite string
	cmd := &cobra.Command{
		Use:   "extract BACKUP DIR",
		Short: "Copy files of a backup into a directory, without the writers",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if r.Overwrite, err = parseOverwrite(overwrite); err != nil {
				return err
			}
			r.Dir = args[1]
			return a.extract(cmd, args[0], r)
		},
	}
	addSelectors(cmd, &r.Selectors)
	f := cmd.Flags()
	f.StringArrayVarP(&r.Include, "include", "i", nil, "extract only paths that match this `pattern`")
	f.StringArrayVarP(&r.Exclude, "exclude", "e", nil, "leave out paths that match this `pattern`")
	f.StringVar(&overwrite, "overwrite", "", "files that are there: `when` to replace them: always (default), if-newer, never")
	f.BoolVarP(&r.DryRun, "dry-run", "n", false, "show what would be done, and change nothing")
	return cmd
}

// extract runs an extraction.
func (a *app) extract(cmd *cobra.Command, record string, r requester.ExtractRequest) error {
	ctx := cmd.Context()
	repo, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	defer repo.Close()
	rec, err := repo.Record(ctx, record)
	if err != nil {
		return err
	}
	o, err := a.config.sessionOptions()
	if err != nil {
		return err
	}
	rep := a.reporter()
	result, err := requester.Extract(ctx, a.sessions(o), repo, rec, r, rep)
	rep.end()
	a.summarizeRestore(result)
	if err != nil || result.Outcome != requester.Complete {
		return &outcomeError{result.Outcome, err}
	}
	return nil
}
