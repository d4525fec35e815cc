package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
)

// forgetFlags are those of forget.
type forgetFlags struct {
	keep        repository.Retention
	within      span
	host        string
	tags, paths []string
	groupBy     []string
	dryRun      bool
	lastToo     bool
	prune       bool
	pruneFlags  pruneFlags
}

func newForget(a *app) *cobra.Command {
	var o forgetFlags
	cmd := &cobra.Command{
		Use:   "forget [BACKUP...]",
		Short: "Forget backups by rules, or those named",
		Long: `Forget backups: those that no --keep rule keeps, or the BACKUPs named. Rules are
applied to each group of backups of one host, the same paths and the same choice
of components (--writer, --component, --type-for, --strict-type) apart, and count
complete backups only. The last complete backup of a group is always kept, and so
is whatever a kept backup needs to be restored. "latest" is no name here: it is
another backup once that one is forgotten.

The room they take is freed by prune, or by --prune.

A backup that the store refuses to delete (object lock) is named, and makes
exit 3.`,
		Args: takes("[BACKUP...]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args); err != nil {
				return err
			}
			ctx := cmd.Context()
			repo, err := a.openRepository(ctx)
			if err != nil {
				return err
			}
			defer repo.Close()
			return a.forget(ctx, repo, &o, args)
		},
	}
	f := cmd.Flags()
	f.Var(keeps(&o.keep.Last), "keep-last", "keep the `n` newest")
	f.Var(keeps(&o.keep.Hourly), "keep-hourly", "keep the newest of each of the last `n` hours that have one")
	f.Var(keeps(&o.keep.Daily), "keep-daily", "the same of `n` days")
	f.Var(keeps(&o.keep.Weekly), "keep-weekly", "the same of `n` weeks")
	f.Var(keeps(&o.keep.Monthly), "keep-monthly", "the same of `n` months")
	f.Var(keeps(&o.keep.Yearly), "keep-yearly", "the same of `n` years")
	f.Var(&o.within, "keep-within", "keep all that are at most so much older than the newest, such as 36h, 14d, 8w, 1y")
	f.StringArrayVar(&o.keep.Tags, "keep-tag", nil, "keep all with this `tag`; repeatable")
	f.StringVar(&o.host, "host", "", "only backups of this `host`")
	f.StringArrayVar(&o.tags, "tag", nil, "only backups with this `tag`; repeatable")
	f.StringArrayVar(&o.paths, "path", nil, "only backups of this `path`; repeatable")
	f.StringSliceVar(&o.groupBy, "group-by", []string{"host", "paths"}, "what makes a group: `host, paths, tags`")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "say what would be forgotten, and change nothing")
	f.BoolVar(&o.lastToo, "last-too", false, "with BACKUPs: also the last complete one of its group")
	f.BoolVar(&o.prune, "prune", false, "free the room afterwards; see prune")
	o.pruneFlags.add(f)
	return cmd
}

// keeps is the flag of a rule.
func keeps(n *int) number { return number{n, 0, 1_000_000, "n"} }

// check says whether the flags make sense together, before anybody is asked for
// a password.
func (o *forgetFlags) check(args []string) error {
	for _, g := range o.groupBy {
		if !slices.Contains([]string{"host", "paths", "tags"}, g) {
			return fmt.Errorf("--group-by: %q is not host, paths or tags", g)
		}
	}
	switch {
	case len(args) == 0 && o.keep.Empty():
		return &hintError{errors.New("nothing says which backups to keep"), "give a --keep rule, or the backups to forget"}
	case len(args) > 0 && !o.keep.Empty():
		return errors.New("either --keep rules or backups by name, not both")
	case len(args) > 0 && (o.host != "" || len(o.tags) > 0 || len(o.paths) > 0):
		return errors.New("--host, --tag and --path choose backups for --keep rules, and not among those named")
	}
	return nil
}

func (a *app) forget(ctx context.Context, repo *repository.Repository, o *forgetFlags, args []string) error {
	o.keep.Within, o.keep.Chain = time.Duration(o.within), requester.Chain
	records, err := repo.Records(ctx)
	if errors.Is(err, repository.ErrWriteOnly) {
		return err
	}
	if err != nil {
		return &hintError{err, "while a backup cannot be read nothing is forgotten: see check and repair"}
	}
	var verdicts []repository.Verdict
	if len(args) > 0 {
		verdicts, err = namedVerdicts(ctx, repo, o, records, args)
	} else {
		verdicts = ruledVerdicts(o, records)
		if len(verdicts) == 0 {
			err = a.warnNone(records, o.host, o.tags, o.paths)
		}
	}
	if err != nil {
		return err
	}
	return a.carryOut(ctx, repo, o, verdicts)
}

// ruledVerdicts applies the rules to each group.
func ruledVerdicts(o *forgetFlags, records []*repository.Record) []repository.Verdict {
	groups := map[string][]*repository.Record{}
	for _, rec := range records {
		if o.chooses(rec) {
			groups[o.group(rec)] = append(groups[o.group(rec)], rec)
		}
	}
	var verdicts []repository.Verdict
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		verdicts = append(verdicts, o.keep.Apply(groups[g], groups[g])...) // what others need of it follows
	}
	o.keep.KeepChains(verdicts, records)
	return verdicts
}

// chooses says whether the filters let a record through.
func (o *forgetFlags) chooses(rec *repository.Record) bool {
	if o.host != "" && rec.Host.Name != o.host || !hasTags(rec.Tags, o.tags) {
		return false
	}
	return hasPaths(rec, o.paths)
}

// recordPaths are the paths a backup was asked to save.
func recordPaths(rec *repository.Record) []string {
	s, ok := requester.ReadSummary(rec)
	paths := s.Paths
	if ok && len(paths) == 0 {
		paths = s.Roots
	}
	if !ok {
		for _, r := range rec.Roots {
			paths = append(paths, r.Path)
		}
	}
	paths = append([]string{}, paths...)
	slices.Sort(paths)
	return paths
}

// hasPaths says whether a backup was asked to save all the paths.
func hasPaths(rec *repository.Record, want []string) bool {
	if len(want) == 0 {
		return true
	}
	paths := recordPaths(rec)
	return !slices.ContainsFunc(want, func(p string) bool { return !slices.Contains(paths, p) })
}

// group names the group of a record.
func (o *forgetFlags) group(rec *repository.Record) string {
	var key []string
	for _, g := range o.groupBy {
		switch g {
		case "host":
			key = append(key, cmp.Or(rec.Host.ID, rec.Host.Name))
		case "paths":
			s, _ := requester.ReadSummary(rec)
			key = append(key, strings.Join(recordPaths(rec), "\x01")+"\x02"+strings.Join(s.Choice, "\x01"))
		case "tags":
			tags := slices.Clone(rec.Tags)
			slices.Sort(tags)
			key = append(key, strings.Join(tags, "\x01"))
		}
	}
	return strings.Join(key, "\x00")
}

// namedVerdicts forgets the backups named, and nothing else.
func namedVerdicts(ctx context.Context, repo *repository.Repository, o *forgetFlags, records []*repository.Record, args []string) ([]repository.Verdict, error) {
	var verdicts []repository.Verdict
	chosen := map[repository.ID]bool{}
	for _, name := range args {
		rec, err := repo.Record(ctx, name)
		if err != nil {
			return nil, recordError(err)
		}
		if name == "latest" {
			// The command given twice would forget two.
			return nil, &hintError{errors.New("latest is another backup once this one is forgotten: name the backup by its id"),
				fmt.Sprintf("the newest is %s, of %s at %s", rec.ID.Short(), printable(rec.Host.Name), rec.Time.Local().Format(time.DateTime))}
		}
		if !chosen[rec.ID] {
			verdicts = append(verdicts, repository.Verdict{Record: rec})
			chosen[rec.ID] = true
		}
	}
	for i := range verdicts {
		rec := verdicts[i].Record
		left := slices.ContainsFunc(records, func(r *repository.Record) bool {
			return !chosen[r.ID] && r.State == repository.Complete && o.group(r) == o.group(rec)
		})
		if !left && rec.State == repository.Complete && !o.lastToo {
			return nil, &hintError{fmt.Errorf("%s is the last complete backup of its host, paths and choice of components", rec.ID.Short()), "--last-too forgets it all the same"}
		}
	}
	o.keep.KeepChains(verdicts, records)
	for _, v := range verdicts {
		if len(v.Keep) > 0 {
			return nil, fmt.Errorf("%s is needed: it is the %s", v.Record.ID.Short(), strings.Join(v.Keep, ", "))
		}
	}
	return verdicts, nil
}

// carryOut tells what becomes of each backup, and forgets. Those that were made
// against others go before these.
func (a *app) carryOut(ctx context.Context, repo *repository.Repository, o *forgetFlags, verdicts []repository.Verdict) error {
	var ids []repository.ID
	slices.SortStableFunc(verdicts, func(x, y repository.Verdict) int { return y.Record.Time.Compare(x.Record.Time) })
	for _, v := range verdicts {
		if len(v.Keep) == 0 {
			ids = append(ids, v.Record.ID)
		}
		if err := a.printVerdict(v); err != nil {
			return err
		}
	}
	if o.dryRun {
		a.printf("%s would be forgotten, %d kept\n", plural(len(ids), "backup"), len(verdicts)-len(ids))
		if o.prune {
			a.printf("a prune would follow; what each backup alone takes is told by: sombra stats --mode unique\n")
		}
		return nil
	}
	report, err := repo.Forget(ctx, ids)
	if err != nil {
		return err
	}
	a.printf("%s forgotten, %d kept\n", plural(len(report.Forgotten), "backup"), len(verdicts)-len(report.Forgotten))
	for id, err := range report.Locked {
		fmt.Fprintf(a.stderr, "sombra: backup %s stays: %s\n", id.Short(), oneLine(err.Error()))
	}
	if o.prune {
		if err := a.prune(ctx, repo, &o.pruneFlags); err != nil {
			return err
		}
	}
	if len(report.Locked) > 0 {
		return &codeError{exitIncomplete, fmt.Errorf("the store refuses to delete %s", plural(len(report.Locked), "backup"))}
	}
	return nil
}

func (a *app) printVerdict(v repository.Verdict) error {
	rec := v.Record
	if a.json {
		return a.printJSON("verdict", fields{"id": rec.ID.String(), "short_id": rec.ID.Short(), "time": rec.Time, "host": rec.Host.Name,
			"keep": len(v.Keep) > 0, "reasons": v.Keep})
	}
	what := "forget"
	if len(v.Keep) > 0 {
		what = "keep  "
	}
	a.printf("%s %s  %s  %s  %s\n", what, rec.ID.Short(), rec.Time.Local().Format(time.DateTime), printable(rec.Host.Name), printable(strings.Join(v.Keep, ", ")))
	return nil
}
