package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

// ender is a Reporter with a last word.
type ender interface {
	requester.Reporter
	end()
}

// reporter is the one the flags ask for: JSON lines, a bar on a terminal, or
// quiet.
func (a *app) reporter() ender {
	if a.json {
		return &jsonReporter{a: a}
	}
	t := &textReporter{a: a}
	if f, ok := a.stderr.(*os.File); ok && !a.quiet && term.IsTerminal(int(f.Fd())) {
		t.bar = true
	}
	return t
}

// jsonReporter prints one JSON object a line. Fields are only ever added.
type jsonReporter struct {
	a    *app
	mu   sync.Mutex
	last time.Time
}

func (j *jsonReporter) line(kind string, fields map[string]any) {
	fields["message_type"] = kind
	data, err := json.Marshal(fields)
	if err != nil {
		data = fmt.Appendf(nil, `{"message_type":"error","error":%q}`, err.Error())
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(j.a.stdout, "%s\n", data)
}

func (j *jsonReporter) Phase(p requester.Phase) {
	j.line("status", map[string]any{"phase": p})
}

func (j *jsonReporter) Step(s session.Step) {
	kind := "step"
	switch s.Event {
	case "Freeze":
		kind = "freeze"
	case "Thaw":
		kind = "thaw"
	}
	m := map[string]any{"event": s.Event, "subject": s.Subject, "done": s.Done}
	if s.Done {
		m["ms"] = float64(s.Took) / float64(time.Millisecond)
	}
	if s.Err != "" {
		m["error"] = s.Err
	}
	j.line(kind, m)
}

func (j *jsonReporter) Plan(p *requester.Plan) { j.line("plan", map[string]any{"plan": p}) }

func (j *jsonReporter) Status(after requester.Phase, s session.WriterStatus) {
	j.line("writer_state", map[string]any{"after": after, "writer": s.Name, "instance_name": s.InstanceName, "instance": s.Instance,
		"state": s.State.String(), "failure": s.Failure.String(), "message": s.Message})
}

func (j *jsonReporter) File(f requester.FileEvent) {
	if f.Error != "" {
		j.line("error", map[string]any{"item": f.Path, "error": f.Error})
	} else if j.a.verbose > 1 {
		j.line("verbose_status", map[string]any{"file": f})
	}
}

func (j *jsonReporter) Totals(t requester.Totals) {
	j.mu.Lock()
	due := time.Since(j.last) >= time.Second
	if due {
		j.last = time.Now()
	}
	j.mu.Unlock()
	if due {
		j.line("status", map[string]any{"totals": t})
	}
}

func (j *jsonReporter) Warning(text string) { j.line("warning", map[string]any{"message": text}) }

func (j *jsonReporter) end() {}

// textReporter prints for people: what fails and what is odd at once, the rest
// as a bar that overwrites itself, or not at all.
type textReporter struct {
	a     *app
	bar   bool
	mu    sync.Mutex
	phase requester.Phase
	drawn bool
	last  time.Time
}

func (t *textReporter) Phase(p requester.Phase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = p
	t.draw(phaseWords[p])
}

var phaseWords = map[requester.Phase]string{
	requester.PhaseGather: "asking the writers", requester.PhaseSelect: "choosing", requester.PhasePrepare: "preparing",
	requester.PhaseSnapshot: "taking shadow copies", requester.PhaseCopy: "copying", requester.PhaseCommit: "saving the record",
	requester.PhaseComplete: "telling the writers", requester.PhasePreRestore: "telling the writers",
	requester.PhaseRestore: "restoring", requester.PhasePostRestore: "telling the writers",
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
	if s.Done && s.Err != "" {
		t.say("sombra: %s of %s: %s\n", s.Event, s.Subject, s.Err)
	} else if s.Done && t.a.verbose > 0 && !t.a.quiet {
		t.say("%s %s: %s\n", s.Event, s.Subject, ms(s.Took))
	}
}

func (t *textReporter) Plan(p *requester.Plan) {
	if t.a.verbose > 0 && !t.a.quiet {
		var b strings.Builder
		printPlan(&b, p)
		t.say("%s\n", b.String())
	}
}

func (t *textReporter) Status(requester.Phase, session.WriterStatus) {}

func (t *textReporter) File(f requester.FileEvent) {
	switch {
	case f.Error != "":
		t.say("sombra: %s: %s\n", f.Path, f.Error)
	case t.a.verbose > 1 && !t.a.quiet:
		t.say("%-9s %s\n", f.Action, f.Path)
	}
}

func (t *textReporter) Totals(n requester.Totals) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.last) < 100*time.Millisecond {
		return
	}
	t.last = time.Now()
	text := fmt.Sprintf("%s: %d files, %s", phaseWords[t.phase], n.Files, size(n.Bytes))
	if n.ExpectedBytes > 0 {
		text += fmt.Sprintf(" of about %s", size(n.ExpectedBytes))
	}
	t.draw(text)
}

func (t *textReporter) Warning(text string) { t.say("sombra: warning: %s\n", text) }

func (t *textReporter) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
}
