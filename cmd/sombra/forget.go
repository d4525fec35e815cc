package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
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
applied to each group of backups of one host and the same paths apart, and count
complete backups only. The last complete backup of a group is always kept, and so
is whatever a kept backup needs to be restored.

The room they take is freed by prune, or by --prune.

A backup that the store refuses to delete (object lock) is named, and makes
exit 3.`,
		Args: takes("[BACKUP...]"),
		RunE: func(cmd *cobra.Command, args []string) error {
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
	f.IntVar(&o.keep.Last, "keep-last", 0, "keep the `n` newest")
	f.IntVar(&o.keep.Hourly, "keep-hourly", 0, "keep the newest of each of the last `n` hours that have one")
	f.IntVar(&o.keep.Daily, "keep-daily", 0, "the same of `n` days")
	f.IntVar(&o.keep.Weekly, "keep-weekly", 0, "the same of `n` weeks")
	f.IntVar(&o.keep.Monthly, "keep-monthly", 0, "the same of `n` months")
	f.IntVar(&o.keep.Yearly, "keep-yearly", 0, "the same of `n` years")
	f.Var(&o.within, "keep-within", "keep all that are at most so much older than the newest, such as 36h, 14d, 8w")
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

// span is a duration in Go's notation, or in days or weeks.
type span time.Duration

func (s *span) Set(text string) error {
	unit := time.Duration(0)
	switch {
	case strings.HasSuffix(text, "d"):
		unit = 24 * time.Hour
	case strings.HasSuffix(text, "w"):
		unit = 7 * 24 * time.Hour
	}
	if unit > 0 {
		n, err := strconv.ParseUint(text[:len(text)-1], 10, 16)
		if err != nil || n > uint64(math.MaxInt64/unit) {
			return fmt.Errorf("%q is not a duration such as 36h, 14d or 8w", text)
		}
		*s = span(time.Duration(n) * unit)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a duration such as 36h, 14d or 8w", text)
	}
	*s = span(d)
	return nil
}

func (s *span) String() string {
	if *s == 0 {
		return ""
	}
	return time.Duration(*s).String()
}

// Type is the placeholder in a help text.
func (s *span) Type() string { return "duration" }

func (a *app) forget(ctx context.Context, repo *repository.Repository, o *forgetFlags, args []string) error {
	o.keep.Within, o.keep.Chain = time.Duration(o.within), requester.Chain
	for _, n := range []int{o.keep.Last, o.keep.Hourly, o.keep.Daily, o.keep.Weekly, o.keep.Monthly, o.keep.Yearly} {
		if n < 0 {
			return fmt.Errorf("a --keep rule cannot keep %d", n)
		}
	}
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
	}
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
		verdicts = append(verdicts, o.keep.Apply(groups[g], records)...)
	}
	o.keep.KeepChains(verdicts, records)
	return verdicts
}

// chooses says whether the filters let a record through.
func (o *forgetFlags) chooses(rec *repository.Record) bool {
	if o.host != "" && rec.Host.Name != o.host || !hasTags(rec.Tags, o.tags) {
		return false
	}
	paths := recordPaths(rec)
	return !slices.ContainsFunc(o.paths, func(p string) bool { return !slices.Contains(paths, p) })
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
	paths = slices.Clone(paths)
	slices.Sort(paths)
	return paths
}

// group names the group of a record.
func (o *forgetFlags) group(rec *repository.Record) string {
	var key []string
	for _, g := range o.groupBy {
		switch g {
		case "host":
			key = append(key, cmp.Or(rec.Host.ID, rec.Host.Name))
		case "paths":
			key = append(key, strings.Join(recordPaths(rec), "\x01"))
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
			return nil, err
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
			return nil, &hintError{fmt.Errorf("%s is the last complete backup of its host and paths", rec.ID.Short()), "--last-too forgets it all the same"}
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
