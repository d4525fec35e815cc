package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
)

func newCopy(a *app) *cobra.Command {
	c := copyCommand{app: a, password: passwordSource{kind: "from-", prompt: "password for the repository to copy from: "}}
	cmd := &cobra.Command{
		Use:   "copy [BACKUP...]",
		Short: "Copy backups from another repository into this one",
		Long: `Copy all backups of the repository --from, or those chosen, with all they need,
into the repository --repo, which has keys of its own. A backup that is there
already is passed over, whatever way it came; a copy that was interrupted is
simply run again.

` + backupHelp,
		Example: `  sombra copy --repo /mnt/offsite --from /srv/backup
  sombra copy --repo /mnt/offsite --from /srv/backup --host web1 --tag monthly`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.chosen.ids = args
			return c.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.from, "from", "", "the `repository` to copy from, a directory or URL (SOMBRA_FROM_REPOSITORY)")
	f.StringVar(&c.password.file, "from-password-file", "", "read its password from the first line of `file` (SOMBRA_FROM_PASSWORD_FILE)")
	f.StringVar(&c.password.command, "from-password-command", "", "take its password from what a `command` prints (SOMBRA_FROM_PASSWORD_COMMAND)")
	f.StringVar(&c.chosen.host, "host", "", "only backups of this `host`")
	f.StringArrayVar(&c.chosen.tags, "tag", nil, "only backups with this `tag`; repeatable")
	must(cmd.MarkFlagDirname("from"))
	return cmd
}

// copyCommand copies backups from one repository to another.
type copyCommand struct {
	*app
	from     string
	password passwordSource
	chosen   chosenRecords

	copied, there, failed int
}

// copyLine is a backup that was copied as a JSON line.
type copyLine struct {
	Record  string            `json:"record"`
	Copy    string            `json:"copy"`
	Time    time.Time         `json:"time"`
	Host    string            `json:"host"`
	Skipped bool              `json:"skipped"`
	Totals  repository.Totals `json:"totals"`
}

func (c *copyCommand) run(ctx context.Context) error {
	from, err := c.openFrom(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := c.openRepository(ctx)
	if err != nil {
		return err
	}
	defer to.Close()
	records, damaged := c.chosen.of(ctx, c.app, from)
	if damaged != nil && !errors.Is(damaged, repository.ErrDamaged) {
		return damaged
	}
	// Parents before those made against them.
	slices.SortStableFunc(records, func(a, b *repository.Record) int { return a.Time.Compare(b.Time) })
	rep := c.reporter()
	if records, err = withBases(ctx, from, records, rep); err != nil {
		return err
	}
	err = c.all(ctx, to, from, records, rep)
	rep.end()
	if err == nil && damaged != nil && c.failed == 0 {
		err = &outcomeError{requester.Incomplete, damaged}
	}
	return err
}

// withBases puts before each record those that restoring it needs: a copy without
// them could not be restored through its writers, and nothing would keep them once
// they are copied, too.
func withBases(ctx context.Context, from *repository.Repository, records []*repository.Record, rep reporter) (list []*repository.Record, err error) {
	seen := map[repository.ID]bool{}
	var add func(rec *repository.Record) error
	add = func(rec *repository.Record) error {
		if seen[rec.ID] {
			return nil
		}
		seen[rec.ID] = true
		for _, id := range requester.Chain(rec) {
			base, err := from.Record(ctx, id.String())
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				rep.Warning(fmt.Sprintf("backup %s continues %s, which is not copied, and cannot be restored through its writers without it: %v", rec.ID.Short(), id.Short(), err))
			default:
				if err := add(base); err != nil {
					return err
				}
			}
		}
		list = append(list, rec)
		return nil
	}
	for _, rec := range records {
		if err := add(rec); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// openFrom opens the repository that is copied from.
func (c *copyCommand) openFrom(ctx context.Context) (*repository.Repository, error) {
	src := *c.app
	if src.repo = c.from; src.repo == "" {
		src.repo = c.env("FROM_REPOSITORY")
	}
	if src.repo == "" {
		return nil, &codeError{exitNoRepository, &hintError{errors.New("no repository to copy from is named"), "give --from DIR, or set SOMBRA_FROM_REPOSITORY"}}
	}
	c.password.fill(c.app)
	return src.openWith(ctx, c.password)
}

// all copies the records. One that is damaged keeps the others from nothing.
func (c *copyCommand) all(ctx context.Context, to, from *repository.Repository, records []*repository.Record, rep reporter) error {
	rep.Phase(requester.PhaseCopy)
	var total, before requester.Totals
	copier, err := repository.NewCopier(ctx, to, from, func(p repository.CopyProgress) {
		total.Files, total.Bytes, total.Unchanged = before.Files+p.Files, before.Bytes+p.Bytes, before.Unchanged+p.Reused
		rep.Totals(total)
	})
	switch {
	case errors.Is(err, repository.ErrInvalid):
		return &hintError{errors.New("--from and --repo are one repository"), "name another one by --repo"}
	case copier == nil:
		return err
	case err != nil:
		rep.Warning(fmt.Sprintf("records that cannot be read: %v", err))
	}
	// What is there already takes no time, and says nothing of the pace.
	for _, rec := range records {
		if copier.Copied(rec) == nil {
			total.ExpectedBytes += rec.Totals.Bytes
		}
	}
	for _, rec := range records {
		there := copier.Copied(rec) != nil
		dst, err := copier.Copy(ctx, rec)
		if err != nil {
			if ctx.Err() != nil || !errors.Is(err, repository.ErrDamaged) {
				return err
			}
			c.failed++
			rep.File(requester.FileEvent{Path: "backup " + rec.ID.Short(), Action: "failed", Error: err.Error()})
			continue
		}
		if there {
			if err := c.tell(rec, dst, there); err != nil {
				return err
			}
			continue
		}
		before.Files, before.Bytes, before.Unchanged = before.Files+rec.Totals.Files, before.Bytes+rec.Totals.Bytes, total.Unchanged
		if err := c.tell(rec, dst, there); err != nil {
			return err
		}
	}
	return c.end()
}

// tell says what became of one backup.
func (c *copyCommand) tell(rec, dst *repository.Record, there bool) error {
	c.copied++
	if there {
		c.copied--
		c.there++
	}
	if c.json {
		return c.printJSON("copied", copyLine{rec.ID.String(), dst.ID.String(), rec.Time, rec.Host.Name, there, dst.Totals})
	}
	what := fmt.Sprintf("%s of %s, %s", rec.ID.Short(), printable(rec.Host.Name), rec.Time.Local().Format(time.DateTime))
	if there {
		c.printf("%s: here already as %s\n", what, dst.ID.Short())
		return nil
	}
	c.printf("%s: copied as %s: %s, %s; %s stored\n", what, dst.ID.Short(), plural(dst.Totals.Files, "file"), size(dst.Totals.Bytes),
		size(dst.Totals.BytesStored))
	return nil
}

// end sums up.
func (c *copyCommand) end() error {
	if c.json {
		if err := c.printJSON("summary", fields{"copied": c.copied, "skipped": c.there, "failed": c.failed}); err != nil {
			return err
		}
	}
	c.printf("%s copied, %d here already\n", plural(c.copied, "backup"), c.there)
	if c.failed > 0 {
		return &outcomeError{requester.Incomplete, &hintError{fmt.Errorf("%s could not be copied, named above", plural(c.failed, "backup")),
			"sombra check --read-data says what is damaged in the repository copied from"}}
	}
	return nil
}
