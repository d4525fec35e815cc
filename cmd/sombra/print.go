package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

// unreachable is the error of a plan that cannot reach the level asked for.
func unreachable(p *requester.Plan) error {
	return &hintError{errors.New("consistency " + p.Required + " is out of reach: " + strings.Join(p.Unreachable, "; ")), hintConsistency}
}

const hintConsistency = "nothing was frozen; ask for less with --consistency, leave out what cannot reach it, or give the data a volume that can be copied at one instant"

// table writes aligned columns.
func table(w io.Writer, rows func(*tabwriter.Writer)) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	rows(t)
	return t.Flush()
}

// plural is "1 file", "2 files".
func plural[T int | int64](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	if strings.HasSuffix(noun, "s") {
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printPlan prints a plan for people. Components nobody chose are only counted,
// unless all is wanted.
func printPlan(w io.Writer, p *requester.Plan, all bool) {
	fmt.Fprintf(w, "backup of %s on %s, type %s\n", pathList(p.Paths), p.Host.Name, p.Type)
	taken := map[string]int{}
	for _, wr := range p.Writers {
		for _, c := range wr.Components {
			if c.Selected != "no" {
				taken[c.Level]++
			}
		}
	}
	fmt.Fprintf(w, "consistency: %s\n", levels(taken, p.Volumes))
	if p.Required != "none" {
		fmt.Fprintf(w, "asked for: %s\n", p.Required)
	}
	if !p.Reachable {
		fmt.Fprintf(w, "OUT OF REACH: %s\n", strings.Join(p.Unreachable, "; "))
	}
	if p.NoPartial && len(taken) > 0 {
		fmt.Fprintf(w, "partial files: none are taken\n")
	}
	if len(taken) > 0 {
		fmt.Fprintf(w, "applications are held for about %s\n", ms(p.FreezeEstimate))
	}
	printKept(w, p.KeepBaseShadow, p.Shadows)
	if !p.Host.Privileged {
		fmt.Fprintln(w, "not root: only what this user can read, with the writers and providers that need no privilege")
	}
	printWriters(w, p, all)
	if len(p.Volumes) > 0 {
		fmt.Fprintln(w, "\nvolumes")
	}
	for _, v := range p.Volumes {
		printVolume(w, v)
	}
	out := slices.DeleteFunc(slices.Clone(p.LeftOut), func(l requester.LeftOut) bool { return shownLeftOut(p, l, all) })
	printLeftOut(w, out, p.LeftOutCount-(len(p.LeftOut)-len(out)))
	if len(unasked(p.LeftOut)) > 0 {
		fmt.Fprintln(w, "\nINCOMPLETE: something would be missing that nobody asked to leave out")
	}
	if p.OutsideCount > 0 {
		fmt.Fprintf(w, "\n%s of these components outside the paths, taken too\n", plural(p.OutsideCount, "file"))
		for _, f := range head(p.Outside) {
			fmt.Fprintf(w, "  %s\n", printable(f))
		}
		more(w, p.OutsideCount)
	}
	for _, text := range p.Warnings {
		fmt.Fprintf(w, "warning: %s\n", oneLine(text))
	}
}

// shownLeftOut reports whether something left out stands among the writers.
func shownLeftOut(p *requester.Plan, l requester.LeftOut, all bool) bool {
	return l.Path == "" && slices.ContainsFunc(p.Writers, func(w requester.PlanWriter) bool {
		return slices.ContainsFunc(w.Components, func(c requester.PlanComponent) bool {
			return c.Selected == "no" && (all || !idle(c)) && componentName(c.LogicalPath, c.Name) == l.Component
		})
	})
}

// idle reports whether nothing more is to be said of a component than that
// nobody chose it.
func idle(c requester.PlanComponent) bool { return c.Selected == "no" && c.Why == "not selected" }

func printWriters(w io.Writer, p *requester.Plan, all bool) {
	if len(p.Writers) > 0 {
		fmt.Fprintln(w, "\nwriters")
	}
	others := 0
	for _, wr := range p.Writers {
		n := 0
		for _, c := range wr.Components {
			if idle(c) && !all {
				n++
			}
		}
		if n > 0 && n == len(wr.Components) && wr.Error == "" {
			others++
			continue
		}
		fmt.Fprintf(w, "  %s: %s\n", writerName(wr.Name, wr.InstanceName), writerNotes(wr))
		for _, c := range wr.Components {
			if idle(c) && !all {
				continue
			}
			fmt.Fprintf(w, "    %s: %s\n", printable(componentName(c.LogicalPath, c.Name)), chosen(p, c))
			if c.Selected == "explicit" {
				printTypeNotes(w, "      ", c.TypeNotes, wr.TypeNote)
			}
		}
		if n > 0 {
			fmt.Fprintf(w, "    %s not chosen; -v lists them\n", plural(n, "component"))
		}
	}
	if others > 0 {
		fmt.Fprintf(w, "  %s of which nothing is chosen; -v lists them\n", plural(others, "writer"))
	}
}

// writerName names a writer, and the instance unless that begins with it anyway.
func writerName(name, instance string) string {
	if instance == "" || strings.EqualFold(instance, name) {
		return printable(name)
	}
	return printable(name + " (" + instance + ")")
}

// levels says in words how consistent a backup is, from how many components have
// which level, and the volumes.
func levels(components map[string]int, volumes []requester.PlanVolume) string {
	var s []string
	for _, l := range []string{"app", "crash"} {
		if n := components[l]; n > 0 {
			s = append(s, l+" for "+plural(n, "component"))
		}
	}
	byLevel := map[string][]string{}
	for _, v := range volumes {
		if v.Unclaimed {
			byLevel[v.UnclaimedLevel] = append(byLevel[v.UnclaimedLevel], v.Root)
		}
	}
	for _, l := range []string{"crash", "none"} {
		if roots := byLevel[l]; len(roots) > 0 {
			s = append(s, fmt.Sprintf("%s for data of no writer on %s, %s", l, strings.Join(roots, ", "), levelMeans[l]))
		}
	}
	if len(s) == 0 {
		return "none: nothing is saved"
	}
	return strings.Join(s, "; ")
}

var levelMeans = map[string]string{"crash": "all of it of the same instant", "none": "read live, each file by itself"}

func printVolume(w io.Writer, v requester.PlanVolume) {
	fmt.Fprintf(w, "  %s (%s): ", v.Root, v.FileSystem)
	switch {
	case v.Provider == "" && v.Refusal == "":
		fmt.Fprintln(w, "no shadow copy, read live")
	case v.Provider == "":
		fmt.Fprintf(w, "no provider: %s\n", oneLine(v.Refusal))
	default:
		kind := "file by file"
		if v.Atomic {
			kind = "the whole volume at one instant"
		}
		fmt.Fprintf(w, "%s, %s; needs %s of %s free\n", v.Provider, kind, size(v.Room), size(v.Free))
	}
	for _, r := range v.Refused {
		fmt.Fprintf(w, "    not by %s: %s\n", r.Provider, oneLine(r.Reason))
	}
	for _, n := range v.Notes {
		fmt.Fprintf(w, "    %s\n", oneLine(n))
	}
}

func writerNotes(w requester.PlanWriter) string {
	var notes []string
	if w.Error != "" {
		return "UNUSABLE: " + oneLine(w.Error)
	}
	if w.Discovered {
		notes = append(notes, "discovered")
	}
	notes = append(notes, w.Stillness)
	if w.Required {
		notes = append(notes, "required")
	}
	switch {
	case w.Unstill != "":
		notes = append(notes, "WILL BE REFUSED")
	case w.Stopped:
		notes = append(notes, "processes stopped, reads paused")
	case w.ReadsPaused:
		notes = append(notes, "reads paused")
	}
	if w.Weak != "" {
		notes = append(notes, "weak: "+oneLine(w.Weak))
	}
	if w.TypeNote != "" {
		notes = append(notes, w.TypeNote)
	}
	return strings.Join(notes, ", ")
}

func componentName(logicalPath, name string) string {
	if logicalPath == "" {
		return name
	}
	return logicalPath + `\` + name
}

// chosen says what becomes of a component. A volume's refusal stands with the
// volume.
func chosen(p *requester.Plan, c requester.PlanComponent) string {
	if c.Selected == "no" {
		why := c.Why
		for _, v := range p.Volumes {
			if v.Refusal != "" {
				why = strings.ReplaceAll(why, ": "+v.Refusal, "")
			}
		}
		return "left out: " + oneLine(why)
	}
	return c.Level + typeText(p.Type, c.BackupType, c.Base) + ", " + oneLine(c.Why)
}

// typeText says what the type asked for came to for a component, where there is
// something to say.
func typeText(asked, own, base string) string {
	switch {
	case base != "":
		return ", " + printable(own) + " upon " + printable(short(base))
	case own != "" && own != asked:
		return ", " + printable(own)
	}
	return ""
}

// printTypeNotes says why it came to that, if it was not said already.
func printTypeNotes(w io.Writer, indent string, notes []string, said string) {
	for _, n := range notes {
		if n != said {
			fmt.Fprintf(w, "%s%s\n", indent, oneLine(n))
		}
	}
}

func pathList(places []requester.Place) string {
	if len(places) == 0 {
		return "the components named"
	}
	var s []string
	for _, p := range head(places) {
		s = append(s, printable(p.Path))
	}
	if n := len(places) - len(s); n > 0 {
		s = append(s, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(s, ", ")
}

// most is how many names of a list are printed without --json.
const most = 50

func head[T any](list []T) []T { return list[:min(len(list), most)] }

// more says that a list goes on.
func more(w io.Writer, count int) {
	if count > most {
		fmt.Fprintf(w, "  ... and %d more; --json lists them\n", count-most)
	}
}

// componentFailed begins the reason of a file whose component failed; why it did
// stands with the component.
const componentFailed = "its component failed"

func printLeftOut(w io.Writer, list []requester.LeftOut, count int) {
	if count <= 0 {
		return
	}
	fmt.Fprintf(w, "\nleft out (%d)\n", count)
	// What has the same reason stands together, with the reason told once.
	var reasons []string
	items := map[string][]string{}
	for _, l := range head(list) {
		what := l.Path
		if what == "" {
			what = strings.Trim(l.Writer+": "+l.Component, ": ")
		}
		reason := oneLine(l.Reason)
		if strings.HasPrefix(reason, componentFailed+":") {
			reason = componentFailed
		}
		if l.Asked {
			reason += " (as asked)"
		}
		if items[reason] == nil {
			reasons = append(reasons, reason)
		}
		items[reason] = append(items[reason], printable(what))
	}
	for _, r := range reasons {
		if len(items[r]) == 1 {
			fmt.Fprintf(w, "  %s: %s\n", items[r][0], r)
			continue
		}
		fmt.Fprintf(w, "  %s:\n", r)
		for _, what := range items[r] {
			fmt.Fprintf(w, "    %s\n", what)
		}
	}
	more(w, count)
}

// printKept prints how many shadow copies are to be kept, and are.
func printKept(w io.Writer, keep int, n *requester.KeptCount) {
	if keep > 0 {
		fmt.Fprintf(w, "kept of each volume after the backup, to tell what changes: %s\n", copies(keep))
	}
	if n == nil {
		return
	}
	fmt.Fprintf(w, "kept by backups: %s, the oldest of %s", copies(n.Copies), n.Oldest.Local().Format(time.RFC3339))
	if n.Bytes > 0 || n.Least {
		least := ""
		if n.Least {
			least = "at least "
		}
		fmt.Fprintf(w, "; disk space of their own: %s%s", least, size(int64(n.Bytes)))
	}
	fmt.Fprintln(w)
}

// printCompared prints how much reading was spared.
func printCompared(w io.Writer, t requester.Totals) {
	if t.Compared > 0 {
		fmt.Fprintf(w, "%s by what changed since the last backup's shadow copy: %s of %s read\n", plural(t.Compared, "file"),
			size(t.ChangedBytes), size(t.ComparedBytes))
	}
}

// printReceipt prints what was held, and for how long. There is nothing to print
// of a set without writers whose copies hold no data of one instant.
func printReceipt(w io.Writer, r *session.Receipt) {
	if r == nil || len(r.Writers) == 0 && !slices.ContainsFunc(r.Volumes, func(v session.VolumeReceipt) bool { return v.Atomic }) {
		return
	}
	if r.Instant.IsZero() {
		fmt.Fprintln(w, "freeze receipt: let go before there was a copy")
	} else {
		fmt.Fprintf(w, "freeze receipt: one instant at %s, held for %s\n", r.Instant.Format(time.RFC3339Nano), ms(r.Hold))
	}
	for _, x := range r.Writers {
		fmt.Fprintf(w, "  writer %s: %s\n", writerName(x.Name, x.InstanceName), writerHeld(x))
	}
	for _, v := range r.Volumes {
		what := fmt.Sprintf("prepare %s, flush %s, commit %s", ms(v.Prepare), ms(v.Flush), ms(v.PreCommit+v.Commit))
		if v.Files > 0 {
			what += fmt.Sprintf("; in the hold %s, %s", plural(v.Files, "file"), size(v.Bytes))
		}
		if v.Extents > 0 {
			what += ", " + plural(v.Extents, "extent")
		}
		if v.Note != "" {
			what += "; " + printable(v.Note)
		}
		fmt.Fprintf(w, "  volume %s: by %s, %s\n", v.Root, v.Provider, what)
	}
	if r.Stopped > 0 {
		fmt.Fprintf(w, "  processes stopped: %d, by %s, in %s\n", r.Stopped, r.Stop, ms(r.Stopping))
	}
}

func writerHeld(x session.WriterReceipt) string {
	if x.Error != "" {
		return "FAILED: " + x.State
	}
	s := []string{"prepare " + ms(x.Prepare), "lock wait " + ms(x.LockWait), "freeze " + ms(x.Freeze), "held " + ms(x.Held), "thaw " + ms(x.Thaw), x.Stillness}
	if x.Stopped {
		s = append(s, plural(x.Processes, "process")+" stopped")
	}
	if x.ReadsPaused {
		s = append(s, "reads paused")
	}
	if x.Weak != "" {
		s = append(s, "weak: "+oneLine(x.Weak))
	}
	return strings.Join(s, ", ")
}

// ms prints a duration in milliseconds, as the freeze receipt does.
func ms(d time.Duration) string {
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
