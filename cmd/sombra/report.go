package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

// reporter is a Reporter with a last word.
type reporter interface {
	requester.Reporter
	// packs tells how far a check or a prune is.
	packs(p repository.Progress)
	// clear makes room for a line of somebody else's.
	clear()
	// end comes when nothing more is reported.
	end()
	// told tells whether a warning was shown already.
	told(warning string) bool
}

// reporter is the one the flags ask for: JSON lines, a bar on a terminal, or
// quiet.
func (a *app) reporter() reporter {
	if a.json {
		return &jsonReporter{a: a}
	}
	t := &textReporter{a: a, warned: map[string]bool{}}
	if f, ok := a.stderr.(*os.File); ok && !a.quiet && term.IsTerminal(int(f.Fd())) {
		t.bar = true
	}
	t.stop = onStatusSignal(t.status)
	return t
}

// jsonReporter prints one JSON object a line. Fields are only ever added.
type jsonReporter struct {
	a    *app
	mu   sync.Mutex
	last time.Time
	pace pace
}

func (j *jsonReporter) line(kind string, f fields) {
	// An error of standard output is kept there, and ends the command badly.
	_ = j.a.printJSON(kind, f)
}

func (j *jsonReporter) Phase(p requester.Phase) {
	j.mu.Lock()
	j.pace = pace{begun: time.Now()}
	j.mu.Unlock()
	j.line("status", fields{"phase": p})
}

func (j *jsonReporter) Step(s session.Step) {
	kind := "step"
	switch s.Event {
	case "Freeze":
		kind = "freeze"
	case "Thaw":
		kind = "thaw"
	}
	m := fields{"event": s.Event, "subject": s.Subject, "done": s.Done}
	if s.Done {
		m["ms"] = float64(s.Took) / float64(time.Millisecond)
	}
	if s.Err != "" {
		m["error"] = s.Err
	}
	j.line(kind, m)
}

func (j *jsonReporter) Plan(p *requester.Plan) { _ = j.a.printJSON("plan", p) }

func (j *jsonReporter) Status(after requester.Phase, s session.WriterStatus) {
	m := fields{"after": after, "writer": s.Name, "instance_name": s.InstanceName, "instance": s.Instance,
		"state": s.State.String(), "failure": s.Failure.Name()}
	if s.Message != "" {
		m["message"] = s.Message
	}
	if s.Event != "" {
		m["event"] = s.Event
	}
	j.line("writer_state", m)
}

// OnlyFailures implements [requester.FailureReporter].
func (j *jsonReporter) OnlyFailures() bool { return j.a.verbose <= 1 }

func (j *jsonReporter) File(f requester.FileEvent) {
	if f.Error != "" {
		j.line("error", fields{"item": f.Path, "error": f.Error})
	} else if j.a.verbose > 1 || j.a.verbose > 0 && f.Action == "vanished" {
		_ = j.a.printJSON("verbose_status", f)
	}
}

func (j *jsonReporter) Totals(t requester.Totals) {
	j.totals(t, t)
}

// packTotals are the totals of a check or a prune as a JSON line has them.
type packTotals struct {
	Packs         int64 `json:"packs"`
	ExpectedPacks int64 `json:"expected_packs"`
	Bytes         int64 `json:"bytes"`
	ExpectedBytes int64 `json:"expected_bytes"`
}

func (j *jsonReporter) packs(p repository.Progress) {
	j.totals(packTotals{p.Packs, p.AllPacks, p.Bytes, p.AllBytes}, requester.Totals{Bytes: p.Bytes, ExpectedBytes: p.AllBytes})
}

// totals prints a line with totals if it is time; the pace is that of t.
func (j *jsonReporter) totals(shown any, t requester.Totals) {
	j.mu.Lock()
	due := time.Since(j.last) >= time.Second
	if due {
		j.last = time.Now()
	}
	rate, left := j.pace.of(t, time.Now())
	j.mu.Unlock()
	if due {
		m := fields{"totals": shown}
		if rate > 0 {
			m["bytes_per_second"] = rate
		}
		if left > 0 {
			m["seconds_left"] = int64(left / time.Second)
		}
		j.line("status", m)
	}
}

func (j *jsonReporter) clear() {}

func (j *jsonReporter) Warning(text string) { j.line("warning", fields{"message": text}) }

func (j *jsonReporter) end() {}

func (j *jsonReporter) told(string) bool { return true }

// pace is how fast a phase goes.
type pace struct{ begun time.Time }

// of gives the bytes a second since the phase began and, if what is expected is
// known, the time that is left at that rate. Neither is guessed from less than
// two seconds.
func (p pace) of(t requester.Totals, now time.Time) (rate int64, left time.Duration) {
	took := now.Sub(p.begun)
	if p.begun.IsZero() || took < 2*time.Second || t.Bytes <= 0 {
		return 0, 0
	}
	perSecond := float64(t.Bytes) / took.Seconds()
	if rest := t.ExpectedBytes - t.Bytes; rest > 0 {
		if seconds := float64(rest) / perSecond; seconds < 1e8 {
			left = time.Duration(seconds * float64(time.Second))
		}
	}
	return int64(perSecond), left
}

// textReporter prints for people: what fails and what is odd at once, the rest
// as a bar that overwrites itself, or not at all.
type textReporter struct {
	a    *app
	bar  bool
	stop func()

	mu     sync.Mutex
	phase  requester.Phase
	totals requester.Totals
	// work is how far packs are, in a phase that goes through them.
	work   repository.Progress
	pace   pace
	drawn  bool
	last   time.Time
	warned map[string]bool
}

func (t *textReporter) Phase(p requester.Phase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase, t.pace = p, pace{begun: time.Now()}
	t.draw(phaseWords[p])
}

// The phases of commands that go through packs.
const (
	phaseCheck requester.Phase = "check"
	phasePrune requester.Phase = "prune"
)

var phaseWords = map[requester.Phase]string{
	requester.PhaseGather: "asking the writers", requester.PhaseSelect: "choosing", requester.PhasePrepare: "preparing",
	requester.PhaseSnapshot: "taking shadow copies", requester.PhaseCopy: "copying", requester.PhaseCommit: "saving the record",
	requester.PhaseComplete: "telling the writers", requester.PhasePreRestore: "telling the writers",
	requester.PhaseRestore: "restoring", requester.PhasePostRestore: "telling the writers",
	phaseCheck: "checking", phasePrune: "pruning",
}

// draw shows a line that the next one overwrites. t.mu is held.
func (t *textReporter) draw(text string) {
	if t.bar {
		fmt.Fprintf(t.a.stderr, "\r\x1b[K%s", text)
		t.drawn = true
	}
}

// say prints a line that stays.
func (t *textReporter) say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	fmt.Fprintf(t.a.stderr, format, args...)
}

func (t *textReporter) wipe() {
	if t.drawn {
		fmt.Fprint(t.a.stderr, "\r\x1b[K")
		t.drawn = false
	}
}

func (t *textReporter) Step(s session.Step) {
	switch {
	case !s.Done:
	case s.Err != "" && t.a.verbose > 0: // else the error or the summary tells
		t.say("%s %s: %s\n", s.Event, printable(s.Subject), oneLine(s.Err))
	case t.a.verbose > 0 && !t.a.quiet:
		t.say("%s %s: %s\n", s.Event, printable(s.Subject), ms(s.Took))
	}
}

func (t *textReporter) Plan(p *requester.Plan) {
	if t.a.verbose > 0 && !t.a.quiet {
		var b strings.Builder
		printPlan(&b, p, t.a.verbose > 1)
		t.say("%s\n", b.String())
	}
}

func (t *textReporter) Status(requester.Phase, session.WriterStatus) {}

// OnlyFailures implements [requester.FailureReporter].
func (t *textReporter) OnlyFailures() bool { return t.a.verbose <= 1 || t.a.quiet }

func (t *textReporter) File(f requester.FileEvent) {
	switch {
	case f.Error != "":
		t.say("sombra: %s: %s\n", printable(f.Path), oneLine(f.Error))
	case (t.a.verbose > 1 || t.a.verbose > 0 && f.Action == "vanished") && !t.a.quiet:
		t.say("%-9s %s\n", f.Action, printable(f.Path))
	}
}

func (t *textReporter) Totals(n requester.Totals) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.totals = n
	t.redraw()
}

func (t *textReporter) packs(p repository.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.work, t.totals = p, requester.Totals{Bytes: p.Bytes, ExpectedBytes: p.AllBytes}
	t.redraw()
}

// redraw draws what goes on now, but not too often. t.mu is held.
func (t *textReporter) redraw() {
	if time.Since(t.last) < 100*time.Millisecond {
		return
	}
	t.last = time.Now()
	t.draw(t.line())
}

// line is what goes on now. t.mu is held.
func (t *textReporter) line() string {
	n := t.totals
	done := fmt.Sprintf("%d files", n.Files)
	if t.phase == phaseCheck || t.phase == phasePrune {
		done = fmt.Sprintf("%d of %s", t.work.Packs, plural(t.work.AllPacks, "pack"))
	}
	text := fmt.Sprintf("%s: %s, %s", phaseWords[t.phase], done, size(n.Bytes))
	if n.ExpectedBytes > 0 {
		text += fmt.Sprintf(" of about %s", size(n.ExpectedBytes))
	}
	rate, left := t.pace.of(n, time.Now())
	if rate > 0 {
		text += fmt.Sprintf(", %s/s", size(rate))
	}
	if left > 0 {
		text += fmt.Sprintf(", about %s left", left.Round(time.Second))
	}
	return text
}

// status prints what goes on now, bar or not: somebody has asked.
func (t *textReporter) status() {
	t.mu.Lock()
	text := t.line()
	t.mu.Unlock()
	t.say("%s\n", text)
}

func (t *textReporter) Warning(text string) {
	t.mu.Lock()
	t.warned[text] = true
	t.mu.Unlock()
	t.say("sombra: warning: %s\n", oneLine(text))
}

func (t *textReporter) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
}

func (t *textReporter) told(warning string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.warned[warning]
}

func (t *textReporter) end() {
	t.stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
}
