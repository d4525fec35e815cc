package hooks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// pidIn waits for a script to have written the number of a process.
func pidIn(t *testing.T, name string) int {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text, _ := os.ReadFile(name)
		pid := 0
		if n, _ := fmt.Sscanf(string(text), "%d\n", &pid); n == 1 {
			return pid
		}
		if time.Now().After(end) {
			t.Fatalf("%s holds %q", name, text)
		}
	}
}

// TestADaemonThatKeepsTheOutputHoldsUpNothing: started in a session of its own,
// it keeps the script's output open for ever. Success and failure alike are told
// at once, and it lives on: the script may have started it on purpose.
func TestADaemonThatKeepsTheOutputHoldsUpNothing(t *testing.T) {
	for _, status := range []int{0, 7} {
		mark := filepath.Join(t.TempDir(), "pid")
		dir, _ := scripts(t, map[string]string{"1": fmt.Sprintf(`[ "$1" = thaw ] && exit 0
setsid sh -c 'echo $$ > %s; exec sleep 600' &
echo started; while ! [ -s %s ]; do sleep 0.01; done; exit %d`, mark, mark, status)})
		w := make1(t, config{Directory: dir, Timeout: "20s"})
		begun := time.Now()
		err := w.Freeze(t.Context(), &writer.Event{})
		took := time.Since(begun)
		pid := pidIn(t, mark)
		t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
		if (err == nil) != (status == 0) || status != 0 && !strings.HasSuffix(err.Error(), "started") {
			t.Errorf("status %d: %v", status, err)
		}
		if took > 10*time.Second {
			t.Errorf("status %d: told after %v", status, took)
		}
		if !alive(pid) {
			t.Errorf("status %d: what the script left running is gone", status)
		}
		if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
			t.Error(err)
		}
	}
}

// TestASignalToBeIgnoredDoesNotHelp: a script that ignores SIGTERM, and so does
// what it starts, ends with its time all the same.
func TestASignalToBeIgnoredDoesNotHelp(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "pid")
	dir, _ := scripts(t, map[string]string{"1": `[ "$1" = thaw ] && exit 0
trap '' TERM INT HUP QUIT PIPE
sh -c 'echo $$ > ` + mark + `; while :; do sleep 0.1; done' &
while :; do sleep 0.1; done`})
	w := make1(t, config{Directory: dir, Timeout: "2s"})
	begun := time.Now()
	err := w.Freeze(t.Context(), &writer.Event{})
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("Freeze ended after %v", took)
	}
	if writer.FailureCode(err) != vss.ErrWriterErrorTimeout {
		t.Errorf("Freeze: %v", err)
	}
	pid := pidIn(t, mark)
	for end := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("what the script started is still there")
		}
	}
	if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
		t.Error(err)
	}
}

// TestALotOfOutputIsReadAndTheEndKept.
func TestALotOfOutputIsReadAndTheEndKept(t *testing.T) {
	dir, _ := scripts(t, map[string]string{"1": `[ "$1" = thaw ] && exit 0
head -c 30000000 /dev/zero | tr '\0' x; printf '\nthe \377 end\n'; exit 1`})
	w := make1(t, config{Directory: dir})
	e := &writer.Event{}
	err := w.Freeze(t.Context(), e)
	if err == nil || !strings.HasSuffix(err.Error(), "the ? end") || len(err.Error()) > 2*keepOutput {
		t.Errorf("the error has %d bytes: %.200v", len(fmt.Sprint(err)), err)
	}
	if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
		t.Error(err)
	}
}

// TestAStoppedScriptIsKilled: one that stops itself would wait for ever.
func TestAStoppedScriptIsKilled(t *testing.T) {
	dir, log := scripts(t, map[string]string{"1": `[ "$1" = thaw ] || kill -STOP $$`})
	w := make1(t, config{Directory: dir})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := w.Freeze(ctx, &writer.Event{}); writer.FailureCode(err) != vss.ErrWriterErrorTimeout {
		t.Errorf("Freeze: %v", err)
	}
	if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
		t.Error(err)
	}
	wantLog(t, log, "1:freeze", "1:thaw")
}
