package testwriter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/testwriter/cases"
)

// with makes a writer of a configuration with one file group over dir/data.
func with(t *testing.T, dir, attributes, inner string) (*testWriter, *bytes.Buffer) {
	t.Helper()
	text := fmt.Sprintf(`<TestWriter %s><RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always"/>%s
		<Component componentType="filegroup" componentName="Files">
			<ComponentFile path="%s" filespec="*" recursive="yes"/>
		</Component></TestWriter>`, attributes, inner, filepath.Join(dir, "data"))
	c, err := Parse([]byte(text), "test.xml", hostStyle())
	if err != nil {
		t.Fatal(err)
	}
	log := new(bytes.Buffer)
	return newWriter(c, "test", log), log
}

var everyEvent = []writer.EventKind{
	writer.EventIdentify, writer.EventPrepareForBackup, writer.EventPrepareForSnapshot, writer.EventFreeze, writer.EventThaw,
	writer.EventPostSnapshot, writer.EventBackupComplete, writer.EventBackupShutdown, writer.EventAbort,
	writer.EventPreRestore, writer.EventPostRestore,
}

// T-1, for every event.
func TestEventsFailAsConfigured(t *testing.T) {
	for _, kind := range everyEvent {
		t.Run(kind.String(), func(t *testing.T) {
			w, _ := with(t, t.TempDir(), "", fmt.Sprintf(`<FailEvent writerEvent="%v" retryable="no"/>`, kind))
			for range 3 {
				if err := writer.Notify(t.Context(), w, kind, &writer.Event{}); !errors.Is(err, vss.ErrWriterErrorNonRetryable) {
					t.Errorf("got %v, want VSS_E_WRITERERROR_NONRETRYABLE every time", err)
				}
			}
			w, _ = with(t, t.TempDir(), "", fmt.Sprintf(`<FailEvent writerEvent="%v" retryable="yes" numFailures="2"/>`, kind))
			for i := range 4 {
				err := writer.Notify(t.Context(), w, kind, &writer.Event{})
				if fails := i < 2; fails != (err != nil) || fails && !slices.Contains(retryable, writer.FailureCode(err)) {
					t.Errorf("time %d: %v", i+1, err)
				}
			}
		})
	}
}

func TestEventsHangAsConfigured(t *testing.T) {
	for _, kind := range everyEvent {
		w, _ := with(t, t.TempDir(), "", fmt.Sprintf(`<FailEvent writerEvent="%v" action="hang" seconds="100" numFailures="1"/>`, kind))
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			if err := writer.Notify(ctx, w, kind, &writer.Event{}); err != nil {
				t.Errorf("%v: %v", kind, err)
			}
			if took := time.Since(start); took != 100*time.Second {
				t.Errorf("%v took %v, whatever its context says", kind, took)
			}
			start = time.Now()
			if err := writer.Notify(t.Context(), w, kind, &writer.Event{}); err != nil || time.Since(start) != 0 {
				t.Errorf("%v a second time: %v after %v", kind, err, time.Since(start))
			}
		})
	}
}

func TestVerbosity(t *testing.T) {
	for level, want := range map[string][]string{
		"low":    {"REQUESTER: SetBackupSucceeded was not called for component Files"},
		"medium": {"Identify", "PrepareForBackup", "Freeze", "Thaw", "PostSnapshot", "is not in this writer's backup schema", "REQUESTER"},
		"high":   {"PrepareForBackup: component Files", "Freeze: done after"},
	} {
		t.Run(level, func(t *testing.T) {
			dir := t.TempDir()
			w, log := with(t, dir, `verbosity="`+level+`"`, "")
			p, err := backup(t, &cases.Case{Type: vss.BackupTypeLog, Explicit: []string{"Files"}}, w, nil) // T-4
			if err != nil {
				t.Fatal(err)
			}
			if err := w.BackupComplete(t.Context(), &writer.Event{Components: p}); err != nil {
				t.Fatal(err)
			}
			for _, text := range want {
				if !strings.Contains(log.String(), text) {
					t.Errorf("nothing of %q in\n%s", text, log)
				}
			}
			if level == "low" && strings.Count(log.String(), "\n") != 1 {
				t.Errorf("more than faults is printed:\n%s", log)
			}
		})
	}
}

func TestTheWriterSeesWhatIsWrongWithASelection(t *testing.T) {
	text := `<TestWriter><RestoreMethod method="CUSTOM" writerRestore="never"/>
		<Component componentType="filegroup" componentName="Must" selectable="no"/>
		<Component componentType="filegroup" componentName="Set"/>
		<Component componentType="filegroup" logicalPath="Set" componentName="Yes"/>
		<Component componentType="filegroup" logicalPath="Set" componentName="No" selectable="no"/>
	</TestWriter>`
	c, err := Parse([]byte(text), "f", hostStyle())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		explicit []string
		want     []string
	}{
		{[]string{"Must", "Set"}, nil},
		{[]string{"Must", `Set\Yes`}, nil},
		{[]string{"Set"}, []string{"R-SEL-6"}},
		{[]string{"Must", `Set\No`}, []string{"R-SEL-8"}},
		{[]string{"Must", "Set", `Set\Yes`}, []string{"R-SEL-9"}},
	} {
		log := new(bytes.Buffer)
		if _, err := backup(t, &cases.Case{Type: vss.BackupTypeFull, Explicit: test.explicit}, newWriter(c, "n", log), nil); err != nil {
			t.Fatal(err)
		}
		for _, rule := range []string{"R-SEL-6", "R-SEL-8", "R-SEL-9"} {
			if strings.Contains(log.String(), rule) != slices.Contains(test.want, rule) {
				t.Errorf("%v: %s\n%s", test.explicit, rule, log)
			}
		}
	}
}

// T-5, and Abort returns to normal.
func TestAbortPutsBackWhatWasCopiedAside(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(cases.DirVariable, dir)
	all := loadCases(t)
	c := all[slices.IndexFunc(all, func(c *cases.Case) bool { return c.Name == "R-SET-12-alternate-path" })]
	_, w, _ := prepare(t, c)
	dir = os.Getenv(cases.DirVariable)
	before, err := cases.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := &writer.Event{State: writer.BackupState{SelectComponents: true, Type: c.Type}, Components: part(t, c, doc)}
	if err := w.PrepareForBackup(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Freeze(t.Context(), &writer.Event{}); err != nil {
			t.Fatal(err)
		}
		if now, err := cases.List(dir); err != nil || slices.Contains(now, "data/a.txt") || !slices.Contains(now, "spit/a.txt") {
			t.Fatalf("frozen, there are %q, %v", now, err)
		}
		if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
			t.Fatal(err)
		}
		if now, err := cases.List(dir); err != nil || !slices.Equal(now, before) {
			t.Errorf("after Abort there are %q, want %q (%v)", now, before, err)
		}
		if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
			t.Error(err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "data", "a.txt")); err != nil || !bytes.Equal(data, c.Tree["data/a.txt"]) {
		t.Errorf("data/a.txt holds %q, %v", data, err)
	}
}

func TestFreezeNamesProcesses(t *testing.T) {
	dir := t.TempDir()
	pids := filepath.Join(dir, "pids")
	w, _ := with(t, dir, `pidFile="`+pids+`"`, "")
	if !w.Describe().NamesProcesses {
		t.Error("the description does not say that processes are named")
	}
	if err := w.Freeze(t.Context(), &writer.Event{}); err == nil {
		t.Error("Freeze without a PID file")
	}
	for text, want := range map[string][]int{"12 13\n14\n": {12, 13, 14}, "": nil, "x": nil} {
		if err := os.WriteFile(pids, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		e := &writer.Event{}
		err := w.Freeze(t.Context(), e)
		if (err != nil) != (text == "x") || !slices.Equal(e.Report.Processes, want) {
			t.Errorf("%q: %v, %v", text, e.Report.Processes, err)
		}
		if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
			t.Error(err)
		}
	}
}

func TestNamesThatAreNoText(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Skip("NOT RUN: names are text on this system")
	}
	dir := t.TempDir()
	name := "a\xff\x01b"
	if err := cases.Write(dir, map[string][]byte{"data/" + name: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	w, _ := with(t, dir, `checkIncludes="yes"`, "")
	p, err := backup(t, &cases.Case{Type: vss.BackupTypeFull, Explicit: []string{"Files"}}, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := p.Components()[0]
	text, _ := c.BackupMetadata()
	m, err := decodeManifest(text)
	if err != nil || len(m.Files) != 1 || m.Files[0].name() != name {
		t.Errorf("%s, %v", text, err)
	}
}
