package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
)

var overwriteWords = map[string]requester.Overwrite{
	"": requester.OverwriteAlways, "always": requester.OverwriteAlways,
	"if-newer": requester.OverwriteIfNewer, "never": requester.OverwriteNever,
}

func addOverwrite(cmd *cobra.Command, value *string) {
	addChoice(cmd, value, "overwrite", "when", "when to replace files that are there: always (the default), if-newer or never", "always", "if-newer", "never")
}

const backupHelp = `BACKUP is an id or its first digits as "sombra backups" lists them, or "latest".`

func newRestore(a *app) *cobra.Command {
	var r requester.RestoreRequest
	var overwrite, target string
	var limits limitFlags
	var wishes wishFlags
	cmd := &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Put back what a backup holds, to where it was",
		Long: `Restore a backup, or what is chosen of it, to its original place. The writers of
the components take part: they close their files before, and check and recover
after. A component is restored whole or said not to be. What is there and not in
the backup is left.

` + backupHelp + `

Writers can be told more: restore options, new names and new targets, how far to
replay logs. What a writer's backup schema lacks is refused before anything is
done.

With --target files are only extracted into a directory, without the writers;
that is "sombra extract".`,
		Example: `  sombra restore latest
  sombra restore --component /srv/app/app.db 3f2a91c0
  sombra restore --include '/srv/app/etc/**' latest
  sombra restore --component main --new-target '/srv/app|*|recursive=/srv/other' latest
  sombra restore --restore-option 'app:main:"Authoritative"="All"' latest`,
		Args: takes("BACKUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Overwrite = overwriteWords[overwrite]
			if cmd.Flags().Changed("target") {
				return a.extract(cmd, args[0], target, limits, requester.ExtractRequest{Include: r.Include, Exclude: r.Exclude,
					Selectors: r.Selectors, Overwrite: r.Overwrite, DryRun: r.DryRun})
			}
			return a.withRecord(cmd, args[0], func(ctx context.Context, repo *repository.Repository, rec *repository.Record) error {
				o, err := a.config.sessionOptions(limits)
				if err != nil {
					return err
				}
				if r.Wishes, err = wishes.wishes(cmd, styleOf(rec)); err != nil {
					return err
				}
				rep := a.reporter()
				result, err := requester.Restore(ctx, a.sessions(o), repo, rec, r, rep)
				rep.end()
				if err == nil {
					err = nothingIncluded(result, r.Include)
				}
				a.summarizeRestore(result, err, rep)
				return resultError(ctx, result.Outcome, err)
			})
		},
	}
	addSelectors(cmd, &r.Selectors)
	addOverwrite(cmd, &overwrite)
	f := cmd.Flags()
	f.StringArrayVarP(&r.Include, "include", "i", nil, "restore only paths that match this `pattern`")
	f.StringArrayVarP(&r.Exclude, "exclude", "e", nil, "leave out paths that match this `pattern` (data of no writer)")
	f.BoolVar(&r.NoWriters, "no-writers", false, "restore components' files without their writers")
	f.BoolVarP(&r.DryRun, "dry-run", "n", false, "show what would be done, and change nothing")
	f.StringVarP(&target, "target", "t", "", "extract into this `directory` instead")
	cmd.MarkFlagsMutuallyExclusive("target", "no-writers")
	wishes.add(cmd)
	limits.add(cmd)
	return cmd
}

func newExtract(a *app) *cobra.Command {
	var r requester.ExtractRequest
	var overwrite string
	cmd := &cobra.Command{
		Use:   "extract BACKUP DIR",
		Short: "Copy files of a backup into a directory, without the writers",
		Long: `Copy the files of a backup, or what is chosen of it, below DIR, each at the path
it had. No writer takes part, so that this works on any machine, whatever runs
there.

` + backupHelp,
		Example: `  sombra extract latest /tmp/look
  sombra extract --include '*.conf' 3f2a91c0 /tmp/look`,
		Args: takes("BACKUP", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Overwrite = overwriteWords[overwrite]
			return a.extract(cmd, args[0], args[1], limitFlags{}, r)
		},
	}
	addSelectors(cmd, &r.Selectors)
	addOverwrite(cmd, &overwrite)
	f := cmd.Flags()
	f.StringArrayVarP(&r.Include, "include", "i", nil, "extract only paths that match this `pattern`")
	f.StringArrayVarP(&r.Exclude, "exclude", "e", nil, "leave out paths that match this `pattern`")
	f.BoolVarP(&r.DryRun, "dry-run", "n", false, "show what would be done, and change nothing")
	return cmd
}

// extract runs an extraction.
func (a *app) extract(cmd *cobra.Command, record, dir string, limits limitFlags, r requester.ExtractRequest) (err error) {
	if dir == "" {
		return errors.New("the directory to extract to is empty")
	}
	if r.Dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	return a.withRecord(cmd, record, func(ctx context.Context, repo *repository.Repository, rec *repository.Record) error {
		o, err := a.config.sessionOptions(limits)
		if err != nil {
			return err
		}
		rep := a.reporter()
		result, err := requester.Extract(ctx, a.sessions(o), repo, rec, r, rep)
		rep.end()
		if err == nil {
			err = nothingIncluded(result, r.Include)
		}
		a.summarizeRestore(result, err, rep)
		return resultError(ctx, result.Outcome, err)
	})
}

// nothingIncluded is the error of patterns that matched nothing: a slip, and no
// success.
func nothingIncluded(r *requester.RestoreResult, include []string) error {
	if len(include) == 0 || r.Totals.Files+r.Totals.Dirs+r.Totals.Others+r.Totals.LeftOut > 0 || len(r.Components) > 0 || r.Outcome != requester.Complete {
		return nil
	}
	r.Outcome = requester.Failed
	return &hintError{fmt.Errorf("nothing in backup %s matches --include %s", short(r.Record), strings.Join(include, " ")),
		"the files are listed by: sombra ls " + short(r.Record)}
}

// withRecord runs fn with the repository open and the record that is named.
func (a *app) withRecord(cmd *cobra.Command, name string, fn func(context.Context, *repository.Repository, *repository.Record) error) error {
	ctx := cmd.Context()
	repo, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	defer repo.Close()
	rec, err := repo.Record(ctx, name)
	if err != nil {
		return recordError(err)
	}
	return fn(ctx, repo, rec)
}

// recordError tells where the names of records are to be found.
func recordError(err error) error {
	for _, kind := range []error{repository.ErrNotFound, repository.ErrAmbiguous, repository.ErrInvalid} {
		if errors.Is(err, kind) {
			return &hintError{err, "the backups are listed by: sombra backups"}
		}
	}
	return err
}
