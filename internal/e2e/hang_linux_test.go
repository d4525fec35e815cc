package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/writer"
)

const hangLimits = `
freeze_limit: 4s
event_limit: 1500ms
identify_limit: 5s
`

const testWriter = `<TestWriter usage="USER_DATA" lockFile="%[1]s/lock" supportsCopy="yes">
  <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="never"/>
  <Component componentType="filegroup" componentName="Data" selectable="yes">
    <ComponentFile path="%[1]s/data" filespec="*" recursive="yes"/>
  </Component>
  %[2]s
</TestWriter>
`

// testWriter configures a Test Writer called "shop" with the data below dir.
// What it is given of the service is appended to a log, whose path is returned.
func (m *machine) testWriter(dir, more, options, yaml string) (log string) {
	m.t.Helper()
	log, file := filepath.Join(m.dir, "shop.log"), filepath.Join(m.dir, "shop.xml")
	write(m.t, filepath.Join(dir, "data", "orders"), "the shop's orders")
	write(m.t, filepath.Join(dir, "lock"), "")
	write(m.t, file, fmt.Sprintf(testWriter, dir, more))
	m.configure(yaml + fmt.Sprintf("writers:\n  - kind: testwriter\n    name: shop\n%s    config: {file: %s, log: %s}\n", options, file, log))
	if err := os.Remove(log); err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return log
}

// logged reads which events a Test Writer's log has, in their order.
func logged(t *testing.T, log string) (events []string) {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if _, text, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			if _, err := writer.ParseEventKind(text); err == nil {
				events = append(events, text)
			}
		}
	}
	return events
}

func has(events []string, event string) bool {
	return strings.Contains(" "+strings.Join(events, " ")+" ", " "+event+" ")
}

// hangCase is an event in which a writer hangs, and what must come of it.
type hangCase struct {
	event string
	code  int
	state string // that must be named for the user
	abort bool   // Abort is due: not for preparations, nor after PostSnapshot
}

var hangCases = []hangCase{
	{event: "PrepareForBackup", code: 3, state: "VSS_WS_FAILED_AT_PREPARE_BACKUP"},
	{event: "PrepareForSnapshot", code: 3, state: "VSS_WS_FAILED_AT_PREPARE_SNAPSHOT"},
	{event: "Freeze", code: 3, state: "VSS_WS_FAILED_AT_FREEZE", abort: true},
	{event: "Thaw", code: 3, state: "VSS_WS_FAILED_AT_THAW", abort: true},
	{event: "PostSnapshot", code: 3, state: "VSS_WS_FAILED_AT_POST_SNAPSHOT"},
	{event: "BackupComplete", code: 5, state: "VSS_WS_FAILED_AT_BACKUP_COMPLETE"},
	{event: "BackupShutdown", code: 0},
	{event: "Abort", code: 3, state: "VSS_WS_FAILED_AT_FREEZE", abort: true},
}

// TestWriterThatHangsFailsAlone: a writer that hangs in an event fails with its
// state and code, is named, gets Abort where that is due, and nobody else is
// kept: the database beside it is saved and accepts writes all the time.
func TestWriterThatHangsFailsAlone(t *testing.T) {
	v := voltest.Ext4(t, 0)
	m := newMachine(t)
	l := newLoad(t, filepath.Join(v.Root, "app.db"), "wal")
	for _, c := range hangCases {
		t.Run(c.event, func(t *testing.T) {
			m, l := *m, *l
			m.t, l.t = t, t
			hangs(&m, &l, v.Root, c)
		})
	}
}

func hangs(m *machine, l *load, root string, c hangCase) {
	t := m.t
	fails := fmt.Sprintf(`<FailEvent writerEvent="%s" action="hang" seconds="60"/>`, c.event)
	if c.event == "Abort" {
		fails += `<FailEvent writerEvent="Freeze" retryable="no"/>`
	}
	log := m.testWriter(filepath.Join(root, "shop"), fails, "", hangLimits)
	start := time.Now()
	o := m.sombra("backup", root).exits(c.code)
	events := logged(t, log)
	t.Logf("took %v; events %v", o.took.Round(time.Millisecond), events)
	if o.took > 45*time.Second { // the event would hang for a minute
		t.Errorf("took %v", o.took)
	}
	if c.code != 0 {
		o.says("shop", c.state)
	}
	if c.code != 0 && c.event != "Abort" {
		o.says(c.event, "VSS_E_WRITERERROR_TIMEOUT")
	}
	if aborted := has(events, "Abort"); aborted != c.abort {
		t.Errorf("Abort %v, want %v: %v", aborted, c.abort, events)
	}
	if c.code == 3 && has(events, "BackupComplete") {
		t.Errorf("a writer that failed got BackupComplete: %v", events)
	}
	l.noGap(start, 5*time.Second) // the limit is one, and a busy machine's disk may take as long for a write
	free(t, filepath.Join(root, "shop", "lock"))
	waitFor(t, 5*time.Second, "nothing is left of the run", func() bool { return len(m.left(root)) == 0 })
	saved(m, c.code != 3)
}

// saved checks what the last backup has of the two components.
func saved(m *machine, shop bool) {
	m.t.Helper()
	var b struct {
		Result requester.Result `json:"result"`
	}
	m.must("show", "--json", "latest").line("backup", &b)
	seen := 0
	for _, c := range b.Result.Components {
		want := shop || c.Name != "Data"
		if c.Succeeded != want {
			m.t.Errorf("component %s: saved %v, want %v: %s", c.Name, c.Succeeded, want, c.Error)
		}
		seen++
	}
	if seen != 2 {
		m.t.Errorf("%d components, want two", seen)
	}
}

// free checks that nobody holds a lock file.
func free(t *testing.T, name string) {
	t.Helper()
	waitFor(t, time.Second, name+" is free", func() bool { return tryFlock(t, name) })
}

// noGap checks that from a time on no write waited for longer than limit.
func (l *load) noGap(from time.Time, limit time.Duration) {
	l.t.Helper()
	l.await(5*time.Second, 1)
	for _, tx := range l.transactions() {
		if took := tx.acked.Sub(tx.begun); tx.acked.After(from) && took > limit {
			l.t.Errorf("a write waited for %v, longer than %v", took, limit)
		}
	}
}

// TestWriterThatHangsHoldsOthersNoLongerThanItsLimit: a writer that hangs while
// all others are held, at Freeze or at Thaw, keeps them for its limit and no
// longer.
func TestWriterThatHangsHoldsOthersNoLongerThanItsLimit(t *testing.T) {
	for _, kind := range []writer.EventKind{writer.EventFreeze, writer.EventThaw} {
		t.Run(kind.String(), func(t *testing.T) {
			v := voltest.Ext4(t, 0)
			m := newMachine(t)
			m.configure(hangLimits)
			l := newLoad(t, filepath.Join(v.Root, "app.db"), "wal")
			g, _ := m.newGate(v.Root, kind)
			start := time.Now()
			m.sombra("backup", v.Root).exits(3).says("gate", kind.String(), "VSS_E_WRITERERROR_TIMEOUT")
			l.noGap(start, 5*time.Second) // the limit is 4 s
			if !g.got(writer.EventAbort) {
				t.Errorf("no Abort: %v", g.seen())
			}
		})
	}
}

// TestRequiredWriterThatFailsEndsTheSet: without a writer that is required there
// is no backup, and every writer gets Thaw and Abort.
func TestRequiredWriterThatFailsEndsTheSet(t *testing.T) {
	v := voltest.Ext4(t, 0)
	m := newMachine(t)
	l := newLoad(t, filepath.Join(v.Root, "app.db"), "wal")
	for _, fails := range []string{`action="hang" seconds="60"`, `retryable="no"`} {
		log := m.testWriter(filepath.Join(v.Root, "shop"), `<FailEvent writerEvent="Freeze" `+fails+`/>`, "    required: true\n", hangLimits)
		start := time.Now()
		o := m.sombra("backup", v.Root).exits(1).says("shop", "Freeze", "required")
		if events := logged(t, log); !has(events, "Abort") || has(events, "BackupComplete") {
			t.Errorf("events %v", events)
		}
		t.Logf("took %v: %s", o.took.Round(time.Millisecond), o.err)
		l.noGap(start, 5*time.Second) // the limit is one, and a busy machine's disk may take as long for a write
		if list := m.backups(); len(list) > 0 {
			t.Errorf("there are records: %v", list)
		}
		waitFor(t, 5*time.Second, "nothing is left of the run", func() bool { return len(m.left(v.Root)) == 0 })
	}
}
