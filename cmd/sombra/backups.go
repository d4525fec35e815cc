package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
)

// recordLine is a record as a JSON line.
type recordLine struct {
	ID        string            `json:"id"`
	ShortID   string            `json:"short_id"`
	Time      time.Time         `json:"time"`
	Started   time.Time         `json:"started"`
	Host      string            `json:"host"`
	User      string            `json:"user,omitempty"`
	Program   string            `json:"program,omitempty"`
	Type      string            `json:"type"`
	Types     map[string]int    `json:"types,omitempty"`
	Bases     []string          `json:"bases,omitempty"`
	State     string            `json:"state"`
	Tags      []string          `json:"tags,omitempty"`
	Paths     []string          `json:"paths"`
	Roots     []string          `json:"roots"`
	Parents   []string          `json:"parents,omitempty"`
	Totals    repository.Totals `json:"totals"`
	Documents []string          `json:"documents,omitempty"`
	Result    json.RawMessage   `json:"result,omitempty"`
	Plan      json.RawMessage   `json:"plan,omitempty"`
	Notes     []noteLine        `json:"notes,omitempty"`
}

type noteLine struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	Body any       `json:"body"`
}

func newRecordLine(r *repository.Record) recordLine {
	l := recordLine{
		ID: r.ID.String(), ShortID: r.ID.Short(), Time: r.Time, Started: r.Started,
		Host: r.Host.Name, User: r.User, Program: r.Program, Type: r.Type, State: r.State.String(), Tags: r.Tags, Totals: r.Totals,
		Paths: recordPaths(r), Roots: []string{},
	}
	if s, ok := requester.ReadSummary(r); ok {
		l.Types = s.Types
		if len(s.Roots) > 0 {
			l.Roots = s.Roots
		}
	}
	for _, b := range requester.Chain(r) {
		l.Bases = append(l.Bases, b.String())
	}
	for _, p := range r.Parents {
		l.Parents = append(l.Parents, p.String())
	}
	return l
}

func newBackups(a *app) *cobra.Command {
	var host string
	var tags, paths []string
	cmd := &cobra.Command{
		Use:     "backups",
		Aliases: []string{"snapshots"},
		Short:   "List the backups in the repository",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			repo, err := a.openRepository(ctx)
			if err != nil {
				return err
			}
			defer repo.Close()
			records, damaged := repo.Records(ctx)
			var rows []*repository.Record
			for _, r := range records {
				if (host == "" || r.Host.Name == host) && hasTags(r.Tags, tags) && hasPaths(r, paths) {
					rows = append(rows, r)
				}
			}
			if len(rows) == 0 {
				damaged = errors.Join(damaged, a.warnNone(records, host, tags, paths))
			}
			if a.json {
				for _, r := range rows {
					if err := a.printJSON("backup", newRecordLine(r)); err != nil {
						return err
					}
				}
				return damaged
			}
			err = table(a.stdout, func(t *tabwriter.Writer) {
				if len(rows) > 0 {
					fmt.Fprintln(t, "ID\tTIME\tHOST\tTYPE\tSTATE\tFILES\tSIZE\tTAGS\tPATHS")
				}
				for _, r := range rows {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", r.ID.Short(), r.Time.Local().Format(time.DateTime), printable(r.Host.Name),
						typeWords(r), r.State, r.Totals.Files, size(r.Totals.Bytes), printable(strings.Join(r.Tags, ",")), printable(strings.Join(recordPaths(r), " ")))
				}
			})
			if err != nil {
				return err
			}
			if len(rows) > 0 || damaged == nil { // else nobody knows how many there are
				a.printf("%s\n", plural(len(rows), "backup"))
			}
			return damaged
		},
	}
	cmd.Flags().StringVar(&host, "host", "", "only those of this `host`")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "only those with this `tag`; repeatable")
	cmd.Flags().StringArrayVar(&paths, "path", nil, "only those of this `path`; repeatable")
	return cmd
}

// typeWords is the type that a backup was asked for and, where components came to
// another, how many to which.
func typeWords(r *repository.Record) string {
	text := printable(r.Type)
	s, _ := requester.ReadSummary(r)
	var other []string
	for _, t := range slices.Sorted(maps.Keys(s.Types)) {
		if t != r.Type && len(other) < len(backupTypes) {
			other = append(other, fmt.Sprintf("%d %s", s.Types[t], printable(t)))
		}
	}
	if len(other) > 0 {
		text += " (" + strings.Join(other, ", ") + ")"
	}
	return text
}

func hasTags(have, want []string) bool {
	for _, w := range want {
		found := false
		for _, h := range have {
			found = found || h == w
		}
		if !found {
			return false
		}
	}
	return true
}

// maxDocument bounds a document read from a record.
const maxDocument = 256 << 20

func newShow(a *app) *cobra.Command {
	var document string
	cmd := &cobra.Command{
		Use:   "show BACKUP",
		Short: "Show a backup: components, freeze receipt, what is missing and why",
		Long: `Show a backup: its components and their outcome, the freeze receipt, the level of
consistency, what failed and what was left out, and the outcome of BackupComplete.

--document prints one of its documents instead, as bcd.xml, the Backup Components
Document, or wmd/0.xml, the first Writer Metadata Document.`,
		Args: takes("BACKUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRecord(cmd, args[0], func(ctx context.Context, repo *repository.Repository, rec *repository.Record) error {
				if cmd.Flags().Changed("document") {
					data, err := rec.Document(ctx, document, maxDocument)
					if err != nil {
						return &hintError{err, "there are: " + strings.Join(documentNames(rec), ", ")}
					}
					_, err = a.stdout.Write(data)
					return err
				}
				return a.show(ctx, repo, rec)
			})
		},
	}
	cmd.Flags().StringVar(&document, "document", "", "print the `document` of this name")
	return cmd
}

func documentNames(rec *repository.Record) []string {
	return slices.Sorted(maps.Keys(rec.Documents))
}

// show prints what can be read of a record, and fails if something cannot.
func (a *app) show(ctx context.Context, repo *repository.Repository, rec *repository.Record) error {
	notes, notesErr := repo.Notes(ctx, rec.ID)
	result, resultErr := rec.Document(ctx, requester.DocResult, maxDocument)
	plan, planErr := rec.Document(ctx, requester.DocPlan, maxDocument)
	failed := errors.Join(resultErr, planErr, notesErr)
	if a.json {
		return errors.Join(a.showJSON(rec, result, plan, notes), failed)
	}
	return errors.Join(a.showText(rec, result, plan, notes), failed)
}

func (a *app) showJSON(rec *repository.Record, result, plan []byte, notes []repository.Note) error {
	l := newRecordLine(rec)
	l.Documents = documentNames(rec)
	if json.Valid(result) {
		l.Result = result
	}
	if json.Valid(plan) {
		l.Plan = plan
	}
	for _, n := range notes {
		l.Notes = append(l.Notes, noteLine{n.Time, n.Kind, noteBody(n.Body)})
	}
	return a.printJSON("backup", l)
}

// noteBody shows a note as what it is.
func noteBody(body []byte) any {
	if json.Valid(body) {
		return json.RawMessage(body)
	}
	return string(body)
}

func (a *app) showText(rec *repository.Record, result, plan []byte, notes []repository.Note) error {
	w := a.stdout
	fmt.Fprintf(w, "backup %s\n", rec.ID)
	fmt.Fprintf(w, "of %s at %s, by %s with %s\n", printable(rec.Host.Name), rec.Time.Local().Format(time.RFC3339Nano), printable(rec.User), printable(rec.Program))
	fmt.Fprintf(w, "type %s, %s, %s, %s; %s of them new in the repository\n", typeWords(rec), rec.State, plural(rec.Totals.Files, "file"),
		size(rec.Totals.Bytes), size(rec.Totals.BytesStored))
	if s, ok := requester.ReadSummary(rec); ok && len(s.Roots) > 0 {
		fmt.Fprintf(w, "of %s and what is below\n", printable(strings.Join(s.Roots, ", ")))
	}
	if len(rec.Tags) > 0 {
		fmt.Fprintf(w, "tags %s\n", printable(strings.Join(rec.Tags, ", ")))
	}
	if bases := requester.Chain(rec); len(bases) > 0 {
		var ids []string
		for _, b := range head(bases) {
			ids = append(ids, b.Short())
		}
		fmt.Fprintf(w, "built upon %s\n", strings.Join(ids, ", "))
		more(w, len(bases))
	}
	var r requester.Result
	var p requester.Plan
	var err error
	if result != nil {
		if err = json.Unmarshal(result, &r); err != nil {
			err = fmt.Errorf("document %s: %w", requester.DocResult, err)
		}
	}
	if plan != nil {
		if perr := json.Unmarshal(plan, &p); perr != nil {
			err = errors.Join(err, fmt.Errorf("document %s: %w", requester.DocPlan, perr))
		}
	}
	if result != nil && err == nil {
		showResult(w, &r, &p)
	}
	for _, n := range notes {
		fmt.Fprintf(w, "%s at %s: %s\n", printable(n.Kind), n.Time.Local().Format(time.RFC3339), noteText(n))
	}
	return err
}

func showResult(w io.Writer, r *requester.Result, p *requester.Plan) {
	fmt.Fprintf(w, "outcome: %s\n", words(r.Outcome))
	fmt.Fprintf(w, "consistency: %s\n", resultLevels(r, p.Volumes))
	printCompared(w, r.Totals)
	for _, k := range r.Kept {
		fmt.Fprintf(w, "shadow copy {%s} of %s was kept, to tell what changed by the next backup\n", k.Snapshot, printable(k.Root))
	}
	printComponents(w, r.Components, "saved", r.Type)
	printReceipt(w, r.Receipt)
	if r.Failed > 0 {
		fmt.Fprintf(w, "\nfailed (%d)\n", r.Failed)
		for _, f := range head(r.Failures) {
			of := ""
			if f.Specification != "" && f.Specification != f.Path {
				of = " (of " + printable(f.Specification) + ")"
			}
			fmt.Fprintf(w, "  %s%s: %s\n", printable(f.Path), of, oneLine(f.Error))
		}
		more(w, r.Failed)
	}
	printLeftOut(w, r.LeftOut, r.LeftOuts)
	for _, x := range r.Warnings {
		fmt.Fprintf(w, "warning: %s\n", oneLine(x))
	}
}

// noteText is a note in words where it is one of ours.
func noteText(n repository.Note) string {
	var c requester.Completion
	if n.Kind != requester.NoteComplete || json.Unmarshal(n.Body, &c) != nil {
		return oneLine(string(n.Body))
	}
	text := words(c.Outcome)
	if c.Error != "" {
		text += ", " + oneLine(c.Error)
	}
	for _, w := range c.Writers {
		if i := len(w.States) - 1; i >= 0 {
			text += fmt.Sprintf("; %s is %s", writerName(w.Name, w.InstanceName), w.States[i].State)
			if m := w.States[i].Message; m != "" {
				text += " (" + oneLine(m) + ")"
			}
		}
	}
	return text
}
