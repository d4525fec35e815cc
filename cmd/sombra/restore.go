package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

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
	var overwrite, target, until string
	var limits limitFlags
	var wishes wishFlags
	var methods methodFlags
	cmd := &cobra.Command{
		Use:   "restore [BACKUP]",
		Short: "Put back what a backup holds, to where it was",
		Long: `Restore a backup, or what is chosen of it, to its original place. The writers of
the components take part: they close their files before, and check and recover
after. A component is restored whole or said not to be. What is there and not in
the backup is left.

An incremental, differential or log backup continues others: these are restored
with it, oldest first, each as an operation of its own for the writers. All of
them are looked at before anything is touched; --dry-run shows them. Each file
is written once, unless a writer may have to see it as each backup has it, or
--sequential asks for that.

` + backupHelp + `
With --until it is the newest backup made at or before that time, of the host and
paths of BACKUP ("latest" if none is given), or the newest one of that host that
has all components named.

Writers can be told more: restore options, new names and new targets, how far to
replay logs. What a writer's backup schema lacks is refused before anything is
done.

A writer's restore method says where files go: to where they were, to where its
mappings lead, or into place at the host's next start; and whether a service is
stopped for it. --restore-method chooses another one. What only the backup names,
a directory of a mapping or a service, is used if a running writer names it
too, or with --allow-destination and --allow-service.

With --target files are only extracted into a directory, without the writers;
that is "sombra extract".`,
		Example: `  sombra restore latest
  sombra restore --component /srv/app/app.db 3f2a91c0
  sombra restore --include '/srv/app/etc/**' latest
  sombra restore --component main --new-target '/srv/app|*|recursive=/srv/other' latest
  sombra restore --restore-option 'app:main:"Authoritative"="All"' latest
  sombra restore --component main --restore-method to-alternate-location latest
  sombra restore --component /srv/app/app.db --until '2026-11-21 14:30' --dry-run`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("until") {
				return takes("[BACKUP]")(cmd, args)
			}
			return takes("BACKUP")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Overwrite = overwriteWords[overwrite]
			at, err := newPoint(cmd, args, until, r.Selectors)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("target") {
				return a.extract(cmd, at, target, limits, requester.ExtractRequest{Include: r.Include, Exclude: r.Exclude,
					Selectors: r.Selectors, Overwrite: r.Overwrite, DryRun: r.DryRun})
			}
			return a.withPoint(cmd, at, func(ctx context.Context, repo *repository.Repository, rec *repository.Record) error {
				o, err := a.config.sessionOptions(limits)
				if err != nil {
					return err
				}
				if err := methods.into(&r); err != nil {
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
	f.BoolVar(&r.Sequential, "sequential", false, "restore the backups that this one continues one after the other, each as it was")
	f.StringVar(&until, "until", "", "the newest backup made at or before this `time`")
	f.StringVarP(&target, "target", "t", "", "extract into this `directory` instead")
	cmd.MarkFlagsMutuallyExclusive("target", "no-writers")
	wishes.add(cmd)
	methods.add(cmd)
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
			return a.extract(cmd, point{name: args[0]}, args[1], limitFlags{}, r)
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
func (a *app) extract(cmd *cobra.Command, at point, dir string, limits limitFlags, r requester.ExtractRequest) (err error) {
	if dir == "" {
		return errors.New("the directory to extract to is empty")
	}
	if r.Dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	return a.withPoint(cmd, at, func(ctx context.Context, repo *repository.Repository, rec *repository.Record) error {
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

// point is the backup that a restore is of.
type point struct {
	name      string
	until     time.Time // zero: that backup itself
	selectors requester.Selectors
}

func newPoint(cmd *cobra.Command, args []string, until string, s requester.Selectors) (p point, err error) {
	p = point{name: "latest", selectors: s}
	if len(args) > 0 {
		p.name = args[0]
	}
	if cmd.Flags().Changed("until") {
		if p.until, err = parseWhen(until, time.Now()); err != nil {
			return p, fmt.Errorf("--until: %w", err)
		}
		if p.until.Nanosecond() == 0 {
			// Backups are shown with the second they were made in: all of it is meant.
			p.until = p.until.Add(time.Second - 1)
		}
	}
	return p, nil
}

// withPoint runs fn with the repository open and the record that is meant.
func (a *app) withPoint(cmd *cobra.Command, at point, fn func(context.Context, *repository.Repository, *repository.Record) error) error {
	return a.withRecord(cmd, at.name, func(ctx context.Context, repo *repository.Repository, rec *repository.Record) error {
		if at.until.IsZero() {
			return fn(ctx, repo, rec)
		}
		rec, skipped, err := requester.RecordUntil(ctx, repo, rec, at.until, at.selectors)
		for _, text := range skipped {
			if werr := a.warn("%s", text); werr != nil {
				return werr
			}
		}
		if err != nil {
			return recordError(err)
		}
		a.printf("backup %s of %s\n", rec.ID.Short(), rec.Time.Local().Format(time.DateTime))
		return fn(ctx, repo, rec)
	})
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
