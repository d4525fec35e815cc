package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
)

func newCheck(a *app) *cobra.Command {
	var o repository.CheckOptions
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the repository for damage, and name what it hurts",
		Long: `Check that everything the backups need is there and fits together. With
--read-data every byte is read, decrypted and verified too.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			repo, err := a.openRepository(ctx)
			if err != nil {
				return err
			}
			defer repo.Close()
			report, err := repo.Check(ctx, o, func(p repository.Problem) { a.problem(p) })
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON("summary", report)
			} else {
				a.printf("%s, %s; %s, %s, %s, %d of them read\n", plural(report.Objects, "object"), size(report.Bytes),
					plural(report.Records, "record"), plural(report.Entries, "entry"), plural(report.Chunks, "chunk"), report.ChunksRead)
				if report.Unindexed > 0 {
					a.printf("%d packs of interrupted or running backups, which harm nothing\n", report.Unindexed)
				}
				for _, f := range report.Foreign {
					a.printf("not the repository's: %s\n", printable(f))
				}
			}
			if err != nil {
				return err
			}
			if report.Problems > 0 {
				return &hintError{fmt.Errorf("%s found", plural(report.Problems, "problem")),
					"backups not named above are unharmed; copy the repository before anything else"}
			}
			if o.ReadData {
				a.printf("no damage found\n")
			} else {
				a.printf("no damage found; the data itself is verified by --read-data\n")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.ReadData, "read-data", false, "read and verify every byte")
	return cmd
}

func (a *app) problem(p repository.Problem) {
	if a.json {
		m := fields{"object": p.Object, "path": p.Path, "document": p.Document, "error": p.Err.Error()}
		if !p.Record.IsZero() {
			m["record"] = p.Record.String()
		}
		_ = a.printJSON("error", m)
		return
	}
	what := p.Object
	if !p.Record.IsZero() {
		what = "backup " + p.Record.Short()
		switch {
		case p.Path != "":
			what += ", file /" + p.Path
		case p.Document != "":
			what += ", document " + p.Document
		}
		if p.Object != "" {
			what += " (" + p.Object + ")"
		}
	}
	text := oneLine(p.Err.Error())
	if p.Record.IsZero() && strings.Contains(text, p.Object) {
		fmt.Fprintf(a.stderr, "sombra: %s\n", text)
		return
	}
	fmt.Fprintf(a.stderr, "sombra: %s: %s\n", printable(what), text)
}
