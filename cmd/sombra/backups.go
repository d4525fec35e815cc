package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
)

// recordLine is a record as a JSON line.
type recordLine struct {
	MessageType string            `json:"message_type"`
	ID          string            `json:"id"`
	ShortID     string            `json:"short_id"`
	Time        time.Time         `json:"time"`
	Started     time.Time         `json:"started"`
	Host        string            `json:"host"`
	User        string            `json:"user,omitempty"`
	Program     string            `json:"program,omitempty"`
	Type        string            `json:"type"`
	State       string            `json:"state"`
	Tags        []string          `json:"tags,omitempty"`
	Roots       []string          `json:"roots"`
	Parents     []string          `json:"parents,omitempty"`
	Totals      repository.Totals `json:"totals"`
	Documents   []string          `json:"documents,omitempty"`
	Result      json.RawMessage   `json:"result,omitempty"`
	Plan        json.RawMessage   `json:"plan,omitempty"`
	Notes       []noteLine        `json:"notes,omitempty"`
}

type noteLine struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	Body any       `json:"body"`
}

func newRecordLine(r *repository.Record) recordLine {
	l := recordLine{
		MessageType: "backup", ID: r.ID.String(), ShortID: r.ID.Short(), Time: r.Time, Started: r.Started,
		Host: r.Host.Name, User: r.User, Program: r.Program, Type: r.Type, State: r.State.String(), Tags: r.Tags, Totals: r.Totals,
	}
	for _, root := range r.Roots {
		l.Roots = append(l.Roots, root.ID)
	}
	for _, p := range r.Parents {
		l.Parents = append(l.Parents, p.String())
	}
	return l
}

func newBackups(a *app) *cobra.Command {
	var host string
	var tags []string
	cmd := &cobra.Command{
		Use:     "backups",
		Aliases: []string{"snapshots"},
		Short:   "List the backups in the repository",
		Args:    cobra.NoArgs,
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
				if (host == "" || r.Host.Name == host) && hasTags(r.Tags, tags) {
					rows = append(rows, r)
				}
			}
			if a.json {
				for _, r := range rows {
					if err := a.printJSON(newRecordLine(r)); err != nil {
						return err
					}
				}
				return damaged
			}
			err = table(a.stdout, func(t *tabwriter.Writer) {
				if len(rows) > 0 {
					fmt.Fprintln(t, "ID\tTIME\tHOST\tTYPE\tSTATE\tFILES\tSIZE\tTAGS")
				}
				for _, r := range rows {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.ID.Short(), r.Time.Local().Format(time.DateTime), r.Host.Name,
						r.Type, r.State, r.Totals.Files, size(r.Totals.Bytes), strings.Join(r.Tags, ","))
				}
			})
			if err != nil {
				return err
			}
			a.printf("%d backups\n", len(rows))
			return damaged
		},
	}
	cmd.Flags().StringVar(&host, "host", "", "only those of this `host`")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "only those with this `tag`; repeatable")
	return cmd
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
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			if document != "" {
				data, err := rec.Document(ctx, document, maxDocument)
				if err != nil {
					return &hintError{err, "the documents are listed by: sombra show --json " + rec.ID.Short()}
				}
				_, err = a.stdout.Write(data)
				return err
			}
			notes, notesErr := repo.Notes(ctx, rec.ID)
			result, resultErr := rec.Document(ctx, requester.DocResult, maxDocument)
			if a.json {
				return a.showJSON(rec, result, notes)
			}
			a.showText(rec, result, resultErr, notes)
			if notesErr != nil {
				return notesErr
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&document, "document", "", "print the `document` of this name")
	return cmd
}

func (a *app) showJSON(rec *repository.Record, result []byte, notes []repository.Note) error {
	l := newRecordLine(rec)
	for name := range rec.Documents {
		l.Documents = append(l.Documents, name)
	}
	if json.Valid(result) {
		l.Result = result
	}
	for _, n := range notes {
		l.Notes = append(l.Notes, noteLine{n.Time, n.Kind, noteBody(n.Body)})
	}
	return a.printJSON(l)
}

// noteBody shows a note as what it is.
func noteBody(body []byte) any {
	if json.Valid(body) {
		return json.RawMessage(body)
	}
	return string(body)
}

func (a *app) showText(rec *repository.Record, result []byte, resultErr error, notes []repository.Note) {
	w := a.stdout
	fmt.Fprintf(w, "backup %s\n", rec.ID)
	fmt.Fprintf(w, "of %s at %s, by %s with %s\n", rec.Host.Name, rec.Time.Local().Format(time.RFC3339Nano), rec.User, rec.Program)
	fmt.Fprintf(w, "type %s, %s, %d files, %s; stored %s new\n", rec.Type, rec.State, rec.Totals.Files, size(rec.Totals.Bytes), size(rec.Totals.BytesStored))
	if len(rec.Tags) > 0 {
		fmt.Fprintf(w, "tags %s\n", strings.Join(rec.Tags, ", "))
	}
	var r requester.Result
	if resultErr == nil {
		resultErr = json.Unmarshal(result, &r)
	}
	if resultErr != nil {
		fmt.Fprintf(w, "what it came to cannot be read: %v\n", resultErr)
	} else {
		fmt.Fprintf(w, "consistency %s\n", r.Level)
		a.components(r.Components, "saved")
		printReceipt(w, r.Receipt)
		a.failures(r.Failures, r.Failed)
		printLeftOut(w, r.LeftOut, r.LeftOuts)
		for _, x := range r.Warnings {
			fmt.Fprintf(w, "warning: %s\n", x)
		}
	}
	for _, n := range notes {
		fmt.Fprintf(w, "%s at %s: %s\n", n.Kind, n.Time.Local().Format(time.RFC3339), n.Body)
	}
}
