package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/requester"
)

// summarizeBackup prints what a backup came to.
func (a *app) summarizeBackup(r *requester.Result) {
	if a.json {
		a.printJSON(struct {
			Type string `json:"message_type"`
			*requester.Result
		}{"summary", r})
		return
	}
	if a.quiet || r.ID == "" {
		return
	}
	fmt.Fprintf(a.stdout, "backup %s: %s, consistency %s, type %s\n", short(r.ID), words(r.Outcome), r.Level, r.Type)
	fmt.Fprintf(a.stdout, "%d files (%d unchanged), %s in %s\n", r.Totals.Files, r.Totals.Unchanged, size(r.Totals.Bytes), took(r.Started, r.Ended))
	a.components(r.Components, "saved")
	printReceipt(a.stdout, r.Receipt)
	a.failures(r.Failures, r.Failed)
	printLeftOut(a.stdout, unasked(r.LeftOut), r.LeftOuts-(len(r.LeftOut)-len(unasked(r.LeftOut))))
	for _, w := range r.Warnings {
		fmt.Fprintf(a.stdout, "warning: %s\n", w)
	}
}

// unasked is what was left out without having been asked to be.
func unasked(list []requester.LeftOut) []requester.LeftOut {
	var rest []requester.LeftOut
	for _, l := range list {
		if !l.Asked {
			rest = append(rest, l)
		}
	}
	return rest
}

// summarizeRestore prints what a restore or an extraction came to.
func (a *app) summarizeRestore(r *requester.RestoreResult) {
	if a.json {
		a.printJSON(struct {
			Type string `json:"message_type"`
			*requester.RestoreResult
		}{"summary", r})
		return
	}
	if a.quiet {
		return
	}
	verb := "restore"
	if r.Extraction {
		verb = "extraction (files only, no writer took part)"
	}
	if r.DryRun {
		verb = "dry run of a " + verb
	}
	fmt.Fprintf(a.stdout, "%s of backup %s: %s\n", verb, short(r.Record), words(r.Outcome))
	fmt.Fprintf(a.stdout, "%d files, %s in %s\n", r.Totals.Files, size(r.Totals.Bytes), took(r.Started, r.Ended))
	a.components(r.Components, "restored")
	a.failures(r.Failures, r.Failed)
	printLeftOut(a.stdout, unasked(r.LeftOut), r.LeftOuts-(len(r.LeftOut)-len(unasked(r.LeftOut))))
	for _, w := range r.Warnings {
		fmt.Fprintf(a.stdout, "warning: %s\n", w)
	}
}

func (a *app) components(list []requester.ComponentResult, done string) {
	for _, c := range list {
		name := c.Name
		if c.LogicalPath != "" {
			name = c.LogicalPath + `\` + c.Name
		}
		state := done
		if !c.Succeeded {
			state = "FAILED: " + c.Error
		}
		if c.Status != "" {
			state += ", " + c.Status
		}
		fmt.Fprintf(a.stdout, "  %s: %s: %s (%d files, %s)\n", c.Writer, name, state, c.Files, size(c.Bytes))
	}
}

func (a *app) failures(list []requester.Failure, count int) {
	if count == 0 {
		return
	}
	fmt.Fprintf(a.stdout, "failed (%d)\n", count)
	for _, f := range head(list) {
		fmt.Fprintf(a.stdout, "  %s: %s\n", f.Path, f.Error)
	}
}

func words(o requester.Outcome) string { return strings.ReplaceAll(o.String(), "_", " ") }

func short(id string) string { return id[:min(8, len(id))] }

func took(from, to time.Time) time.Duration {
	if to.Before(from) {
		return 0
	}
	return to.Sub(from).Round(time.Millisecond)
}
