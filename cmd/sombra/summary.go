package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/requester"
)

// summarizeBackup prints what a backup came to. What is missing is told even
// where quiet is asked for, then on standard error.
func (a *app) summarizeBackup(r *requester.Result, rep reporter) {
	if a.json {
		line := *r
		line.Plan = nil // told before
		_ = a.printJSON("summary", line)
		return
	}
	if r.ID == "" {
		return
	}
	w := a.stdout
	if a.quiet {
		if r.Outcome == requester.Complete {
			return
		}
		w = a.stderr
	}
	fmt.Fprintf(w, "backup %s: %s, type %s\n", short(r.ID), words(r.Outcome), r.Type)
	var volumes []requester.PlanVolume
	if r.Plan != nil {
		volumes = r.Plan.Volumes
	}
	fmt.Fprintf(w, "consistency: %s\n", resultLevels(r, volumes))
	fmt.Fprintf(w, "%s (%d unchanged), %s in %s\n", plural(r.Totals.Files, "file"), r.Totals.Unchanged, size(r.Totals.Bytes), took(r.Started, r.Ended))
	printCompared(w, r.Totals)
	printComponents(w, r.Components, "saved", r.Type)
	if !a.quiet {
		printKept(w, 0, r.Shadows)
		printReceipt(w, r.Receipt)
	}
	if r.Totals.Vanished > 0 && a.verbose > 0 {
		fmt.Fprintf(w, "%s removed while the volume was read, and not in the backup\n", plural(r.Totals.Vanished, "object"))
	}
	if r.Failed > 0 {
		fmt.Fprintf(w, "%s could not be saved, named above; again with: sombra show %s\n", plural(r.Failed, "file"), short(r.ID))
	}
	if n := strictlyOut(r.LeftOut); n > 0 && !a.quiet {
		fmt.Fprintf(w, "%s left out, as --strict-type has it; named by: sombra show %s\n", plural(n, "component"), short(r.ID))
	}
	printRest(w, r.Components, r.LeftOut, r.LeftOuts, r.Warnings, rep)
}

// strictlyOut counts the components that --strict-type left out.
func strictlyOut(list []requester.LeftOut) (n int) {
	for _, l := range list {
		if l.Component != "" && l.Path == "" && strings.Contains(l.Reason, "--strict-type") {
			n++
		}
	}
	return n
}

// resultLevels says how consistent a backup is, as far as it was saved.
func resultLevels(r *requester.Result, volumes []requester.PlanVolume) string {
	saved := map[string]int{}
	for _, c := range r.Components {
		if c.Succeeded {
			saved[c.Level]++
		}
	}
	text := levels(saved, volumes)
	if r.Outcome == requester.LowerConsistency {
		text += "; LOWER than asked for or planned"
	}
	return text
}

// printRest prints what was left out unasked, and warnings not yet seen.
// Components that failed were printed with the others.
func printRest(w io.Writer, done []requester.ComponentResult, out []requester.LeftOut, count int, warnings []string, rep reporter) {
	failed := map[string]bool{}
	for _, c := range done {
		if !c.Succeeded {
			failed[componentName(c.LogicalPath, c.Name)] = true
		}
	}
	rest := slices.DeleteFunc(unasked(out), func(l requester.LeftOut) bool { return l.Path == "" && failed[l.Component] })
	printLeftOut(w, rest, count-(len(out)-len(rest)))
	for _, text := range warnings {
		if !rep.told(text) {
			fmt.Fprintf(w, "warning: %s\n", oneLine(text))
		}
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

// summarizeRestore prints what a restore or an extraction came to. One that
// began and failed says how far it got.
func (a *app) summarizeRestore(r *requester.RestoreResult, err error, rep reporter) {
	if a.json {
		_ = a.printJSON("summary", r)
		return
	}
	if err != nil && r.Totals.Files+r.Totals.Others == 0 {
		return
	}
	w := a.stdout
	if a.quiet {
		if r.Outcome == requester.Complete {
			return
		}
		w = a.stderr
	}
	verb, done, what := "restore", "restored", ""
	if r.Extraction {
		verb, done, what = "extraction", "extracted", " to "+printable(r.Target)+", without writers"
	}
	if r.DryRun {
		verb, done = "dry run of the "+verb, "would be "+done
	}
	fmt.Fprintf(w, "%s of backup %s%s: %s\n", verb, short(r.Record), what, words(r.Outcome))
	fmt.Fprintf(w, "%s, %s in %s\n", plural(r.Totals.Files, "file"), size(r.Totals.Bytes), took(r.Started, r.Ended))
	printChain(w, r)
	if err == nil {
		printComponents(w, r.Components, done, "")
	}
	if r.Failed > 0 {
		fmt.Fprintf(w, "%s could not be %s, named above\n", plural(r.Failed, "file"), strings.TrimPrefix(done, "would be "))
	}
	printHost(w, r)
	printRest(w, r.Components, r.LeftOut, r.LeftOuts, r.Warnings, rep)
}

// printChain prints the operations of a restore that takes several.
func printChain(w io.Writer, r *requester.RestoreResult) {
	if len(r.Chain) == 0 {
		return
	}
	fmt.Fprintf(w, "%s, oldest first:\n", plural(len(r.Chain), "operation"))
	for i, l := range r.Chain {
		fmt.Fprintf(w, "  %d. backup %s of %s, type %s\n", i+1, short(l.Record), l.Time.Local().Format(time.DateTime), printable(l.Type))
		for _, c := range l.Components {
			fmt.Fprintf(w, "     %s: %s: %s\n", printable(c.Writer), printable(componentName(c.LogicalPath, c.Name)), partWords(c))
		}
		if l.Unclaimed {
			fmt.Fprintf(w, "     data of no writer\n")
		}
	}
}

// partWords say what an operation does with a component.
func partWords(c requester.ChainPartResult) string {
	text := c.Type + ", "
	if c.InPlace {
		text += "files in place since the first"
	} else {
		text += fmt.Sprintf("%s, %s", plural(c.Files, "file"), size(c.Bytes))
	}
	if c.Removed > 0 {
		text += fmt.Sprintf(", %d removed", c.Removed)
	}
	if c.More {
		text += ", more follow"
	}
	if c.Error != "" {
		text += ": FAILED: " + oneLine(c.Error)
	}
	return text
}

// printComponents prints what became of components. asked is the type of a backup;
// what is not as asked is said.
func printComponents(w io.Writer, list []requester.ComponentResult, done, asked string) {
	for _, c := range list {
		state := done
		if !c.Succeeded {
			state = "FAILED: " + oneLine(c.Error)
		}
		if c.Level != "" && c.Succeeded {
			state += ", " + c.Level
		}
		if asked != "" {
			state += typeText(asked, c.BackupType, c.Base)
		}
		if strings.HasPrefix(done, "would be ") && c.Files == 0 { // not counted in a dry run
			fmt.Fprintf(w, "  %s: %s: %s\n", printable(c.Writer), printable(componentName(c.LogicalPath, c.Name)), state)
			printTold(w, c.Told)
			printWhere(w, c)
			continue
		}
		fmt.Fprintf(w, "  %s: %s: %s (%s, %s%s)\n", printable(c.Writer), printable(componentName(c.LogicalPath, c.Name)), state,
			plural(c.Files, "file"), size(c.Bytes), howRead(c.Read))
		for _, text := range head(c.WriterErrors) {
			fmt.Fprintf(w, "    writer error: %s\n", oneLine(text))
		}
		more(w, len(c.WriterErrors))
		printTold(w, c.Told)
		printWhere(w, c)
		if asked != "" {
			printTypeNotes(w, "    ", c.TypeNotes, "")
		}
	}
}

// printTold prints what a writer is told of a restore.
func printTold(w io.Writer, told []string) {
	for _, line := range told {
		fmt.Fprintf(w, "    %s\n", printable(line))
	}
}

// howRead tells how a component's files were taken, if not all whole.
func howRead(r requester.FilesRead) string {
	var text string
	add := func(n int64, format string, args ...any) {
		if n > 0 {
			text += fmt.Sprintf("; "+format, args...)
		}
	}
	if r.Whole > 0 && r.Ranged+r.Compared+r.Unchanged > 0 {
		add(r.Whole, "%d whole", r.Whole)
	}
	add(r.Ranged, "%d by %s of %s", r.Ranged, plural(r.Ranges, "range"), size(r.RangedBytes))
	add(r.Compared, "%d by what changed, %s", r.Compared, size(r.ChangedBytes))
	add(r.Unchanged, "%d unchanged", r.Unchanged)
	add(r.Differenced, "%d as its writer's times want", r.Differenced)
	add(r.Lacked, "%d that the mask lacks", r.Lacked)
	return text
}

func words(o requester.Outcome) string { return strings.ReplaceAll(o.String(), "_", " ") }

func short(id string) string { return id[:min(8, len(id))] }

func took(from, to time.Time) time.Duration {
	if to.Before(from) {
		return 0
	}
	return to.Sub(from).Round(time.Millisecond)
}
