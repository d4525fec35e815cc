package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
)

func newCheck(a *app) *cobra.Command {
	var o repository.CheckOptions
	var subset string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the repository for damage, and name what it hurts",
		Long: `Check that everything the backups need is there and fits together. With
--read-data every byte is read, decrypted and verified too. What is damaged is
named, with the backups and files it hurts; sombra repair then saves what is whole.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if subset != "" {
				var err error
				if o.Subset, err = parseSubset(subset); err != nil {
					return err
				}
				o.ReadData = true
			}
			repo, err := a.openRepository(ctx)
			if err != nil {
				return err
			}
			defer repo.Close()
			repairable := false
			rep := a.reporter()
			rep.Phase(phaseCheck)
			o.Progress = rep.packs
			report, err := repo.Check(ctx, o, func(p repository.Problem) {
				repairable = repairable || p.Object != ""
				rep.clear()
				a.problem(p)
			})
			rep.end()
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON("summary", report)
			} else {
				a.printf("%s, %s; %s, %s, %s, %d of them read\n", plural(report.Objects, "object"), size(report.Bytes),
					plural(report.Records, "record"), plural(report.Entries, "entry"), plural(report.Chunks, "chunk"), report.ChunksRead)
				if subset != "" {
					a.printf("read whole: %d of %s, %s\n", report.PacksRead, plural(report.Packs, "pack"), size(report.BytesRead))
				}
				if report.Gone > 0 {
					a.printf("%s that no backup needs, deleted by prune\n", plural(report.Gone, "pack"))
				}
				if report.SetAside > 0 {
					a.printf("%s put aside by repair\n", plural(report.SetAside, "damaged object"))
				}
				if report.Unindexed > 0 {
					a.printf("%s of interrupted or running backups, which harm nothing\n", plural(report.Unindexed, "pack"))
				}
				for _, f := range report.Foreign {
					a.printf("not the repository's: %s\n", printable(f))
				}
			}
			if err != nil {
				return err
			}
			if report.Problems > 0 {
				h := "all that is not named above is unharmed; save what is whole of the rest with: sombra repair (where the medium is failing, copy the repository first)"
				if !repairable && report.SetAside > 0 {
					h = afterRepair
				}
				return &hintError{fmt.Errorf("%s found", plural(report.Problems, "problem")), h}
			}
			if subset != "" {
				a.printf("no damage found in what was read\n")
			} else if o.ReadData {
				a.printf("no damage found\n")
			} else {
				a.printf("no damage found; the data itself is verified by --read-data\n")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.ReadData, "read-data", false, "read and verify every byte")
	cmd.Flags().StringVar(&subset, "read-data-subset", "", "read and verify only part of the data: `n/m` for part n of m, 5% or 10GiB at random")
	return cmd
}

// afterRepair is what is left to do where repair has saved what could be saved.
const afterRepair = "all that is not named above is unharmed; the next backup stores anew what its host still has, which heals these, and sombra forget ID drops what is not worth keeping"

// parseSubset reads n/m, a percentage, or a size.
func parseSubset(text string) (s repository.Subset, err error) {
	bad := &hintError{fmt.Errorf("--read-data-subset: %q is no part of the data", text), "such as 1/7, 2.5% or 10GiB"}
	if n, m, ok := strings.Cut(text, "/"); ok {
		var err1, err2 error
		s.Part, err1 = strconv.Atoi(n)
		s.Of, err2 = strconv.Atoi(m)
		if err1 != nil || err2 != nil || s.Part < 1 || s.Part > s.Of {
			return s, bad
		}
		return s, nil
	}
	if share, ok := strings.CutSuffix(text, "%"); ok {
		f, err := strconv.ParseFloat(share, 64)
		if err != nil || !(f > 0 && f <= 100) {
			return s, bad
		}
		s.Share = f / 100
		return s, nil
	}
	number, unit := strings.TrimRight(text, "KMGTiB"), int64(1)
	switch suffix := text[len(number):]; strings.TrimSuffix(strings.TrimSuffix(suffix, "B"), "i") {
	case "":
	case "K":
		unit = 1 << 10
	case "M":
		unit = 1 << 20
	case "G":
		unit = 1 << 30
	case "T":
		unit = 1 << 40
	default:
		return s, bad
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || n > (1<<62)/unit {
		return s, bad
	}
	s.Bytes = n * unit
	return s, nil
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
