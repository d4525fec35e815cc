package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

// planLine is a plan as a JSON line.
type planLine struct {
	Type string `json:"message_type"`
	*requester.Plan
}

// unreachable is the error of a plan that cannot reach the level asked for.
func unreachable(p *requester.Plan) error {
	return &hintError{errors.New("consistency " + p.Required + " is out of reach: " + strings.Join(p.Unreachable, "; ")),
		"ask for less with --consistency, or do without it and look at the result's level"}
}

// table writes aligned columns.
func table(w io.Writer, rows func(*tabwriter.Writer)) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	rows(t)
	return t.Flush()
}

// printPlan prints a plan for people.
func printPlan(w io.Writer, p *requester.Plan) error {
	fmt.Fprintf(w, "backup of %s on %s, type %s\n", pathList(p.Paths), p.Host.Name, p.Type)
	fmt.Fprintf(w, "consistency %s", p.Level)
	if p.Required != "" && p.Required != "none" {
		fmt.Fprintf(w, " (asked for: %s)", p.Required)
	}
	fmt.Fprintf(w, ", applications held for about %s\n", ms(p.FreezeEstimate))
	if !p.Reachable {
		fmt.Fprintf(w, "OUT OF REACH: %s\n", strings.Join(p.Unreachable, "; "))
	}
	if len(p.Writers) > 0 {
		fmt.Fprintln(w, "\nwriters")
	}
	err := table(w, func(t *tabwriter.Writer) {
		for _, wr := range p.Writers {
			fmt.Fprintf(t, "  %s\t%s\t%s\n", wr.Name, wr.InstanceName, writerNotes(wr))
			for _, c := range wr.Components {
				fmt.Fprintf(t, "    %s\t%s\t%s\n", componentName(c), chosen(c), c.Why)
			}
		}
	})
	if err != nil {
		return err
	}
	if len(p.Volumes) > 0 {
		fmt.Fprintln(w, "\nvolumes")
	}
	err = table(w, func(t *tabwriter.Writer) {
		for _, v := range p.Volumes {
			printVolume(t, v)
		}
	})
	if err != nil {
		return err
	}
	printLeftOut(w, p.LeftOut, p.LeftOutCount)
	if p.OutsideCount > 0 {
		fmt.Fprintf(w, "\n%d files of these components lie outside the paths, and are taken too\n", p.OutsideCount)
		for _, f := range head(p.Outside) {
			fmt.Fprintf(w, "  %s\n", f)
		}
	}
	for _, text := range p.Warnings {
		fmt.Fprintf(w, "warning: %s\n", text)
	}
	return nil
}

func printVolume(t *tabwriter.Writer, v requester.PlanVolume) {
	if v.Provider == "" {
		fmt.Fprintf(t, "  %s\t%s\tno provider: %s\n", v.Root, v.FileSystem, v.Refusal)
		return
	}
	fmt.Fprintf(t, "  %s\t%s\t%s\troom %s of %s free\tlevel %s\n", v.Root, v.FileSystem, v.Provider,
		size(v.Room), size(v.Free), volumeLevel(v))
	for _, r := range v.Refused {
		fmt.Fprintf(t, "    not by %s: %s\n", r.Subject, r.Reason)
	}
	for _, n := range v.Notes {
		fmt.Fprintf(t, "    %s\n", n)
	}
	if v.Refusal != "" {
		fmt.Fprintf(t, "    refused: %s\n", v.Refusal)
	}
}

func volumeLevel(v requester.PlanVolume) string {
	var s []string
	if v.Claimed {
		s = append(s, v.Level+" (components)")
	}
	if v.Unclaimed {
		s = append(s, v.UnclaimedLevel+" (data of no writer)")
	}
	return strings.Join(s, ", ")
}

func writerNotes(w requester.PlanWriter) string {
	notes := []string{w.Stillness}
	if w.Discovered {
		notes = append(notes, "discovered")
	}
	if w.Required {
		notes = append(notes, "required")
	}
	if w.ReadsPaused {
		notes = append(notes, "reads paused")
	}
	if w.Weak != "" {
		notes = append(notes, "weak: "+w.Weak)
	}
	if w.TypeNote != "" {
		notes = append(notes, w.TypeNote)
	}
	if w.Error != "" {
		notes = append(notes, "UNUSABLE: "+w.Error)
	}
	return strings.Join(notes, ", ")
}

func componentName(c requester.PlanComponent) string {
	if c.LogicalPath == "" {
		return c.Name
	}
	return c.LogicalPath + `\` + c.Name
}

func chosen(c requester.PlanComponent) string {
	if c.Selected == "no" {
		return "left out"
	}
	if c.Level != "" {
		return c.Selected + ", " + c.Level
	}
	return c.Selected
}

func pathList(places []requester.Place) string {
	if len(places) == 0 {
		return "the components named"
	}
	var s []string
	for _, p := range places {
		s = append(s, p.Path)
	}
	return strings.Join(s, ", ")
}

// most is how many names of a list are printed without --json.
const most = 50

func head[T any](list []T) []T { return list[:min(len(list), most)] }

func printLeftOut(w io.Writer, list []requester.LeftOut, count int) {
	if count == 0 {
		return
	}
	fmt.Fprintf(w, "\nleft out (%d)\n", count)
	for _, l := range head(list) {
		what := l.Path
		if what == "" {
			what = strings.Trim(l.Writer+":"+l.Component, ":")
		}
		fmt.Fprintf(w, "  %s: %s\n", what, l.Reason)
	}
	if count > most {
		fmt.Fprintln(w, "  ... and more; --json lists them")
	}
}

// printReceipt prints what was held, and for how long.
func printReceipt(w io.Writer, r *session.Receipt) error {
	if r == nil {
		return nil
	}
	fmt.Fprintf(w, "freeze receipt: one instant at %s, held for %s\n", r.Instant.Format(time.RFC3339Nano), ms(r.Hold))
	return table(w, func(t *tabwriter.Writer) {
		if len(r.Writers) > 0 {
			fmt.Fprintln(t, "  writer\tprepare\tlock wait\tfreeze\theld\tthaw\tstillness\t")
		}
		for _, x := range r.Writers {
			still := x.Stillness
			if x.Stopped {
				still += ", processes stopped"
			}
			if x.ReadsPaused {
				still += ", reads paused"
			}
			if x.Weak != "" {
				still += ", weak: " + x.Weak
			}
			if x.Error != "" {
				still = "FAILED: " + x.Error
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.InstanceName, ms(x.Prepare), ms(x.LockWait), ms(x.Freeze), ms(x.Held), ms(x.Thaw), still)
		}
		if len(r.Volumes) > 0 {
			fmt.Fprintln(t, "  volume\tprovider\tprepare\tcommit\tin the hold\t")
		}
		for _, v := range r.Volumes {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%d files, %s, %d extents\n", v.Root, v.Provider, ms(v.Prepare), ms(v.Commit), v.Files, size(v.Bytes), v.Extents)
		}
	})
}

// ms prints a duration in milliseconds, as the freeze receipt does.
func ms(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// size prints a number of bytes for people.
func size[T int | int64 | uint64](n T) string {
	const unit = 1024
	if uint64(n) < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n), -1
	for v >= unit && i < 5 {
		v /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTPE"[i])
}
