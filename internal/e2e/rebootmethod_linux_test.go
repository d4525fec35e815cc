package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/requester"
)

// restored is the result in a restore's JSON lines.
func restored(t *testing.T, out string) (r requester.RestoreResult) {
	t.Helper()
	for line := range strings.Lines(out) {
		if messageType(line) == "summary" {
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	t.Fatalf("no summary:\n%s", out)
	return r
}

// TestAComponentIsRestoredAtTheNextStart (R-RES-10, R-RES-33): staged by the command,
// listed, and in its place before its service starts again.
func TestAComponentIsRestoredAtTheNextStart(t *testing.T) {
	h := methodHost(t, "REPLACE_AT_REBOOT", "")
	write(t, h.data("app-2.db"), "second")
	h.backup()
	write(t, h.data("app.db"), "later")
	h.must(os.Remove(h.data("app-2.db")))
	before := len(h.lines("log"))

	r := restored(t, h.sombra(0, "restore", "--json", "latest"))
	if len(r.Components) != 1 || r.Components[0].Branch != "reboot" || r.Components[0].PendingReboot == "" || len(r.RebootFor) == 0 {
		t.Fatalf("result %+v", r)
	}
	h.reads("app.db", "later")
	p := h.pending(0)
	if len(p) != 1 || p[0].ID != r.Components[0].PendingReboot || p[0].State != "pending" || !strings.Contains(p[0].What, "App") || len(p[0].Files) != 2 {
		t.Errorf("waiting: %+v", p)
	}
	if got := h.active("app"); got != "active" || len(h.lines("log")) != before {
		t.Errorf("the service is %s, and saw %q", got, h.lines("log")[before:])
	}

	h.restart()
	if got := h.lines("log")[before:]; !slices.Equal(got, []string{"start app first"}) {
		t.Errorf("the service saw %q", got)
	}
	h.reads("app-2.db", "second")
	if p := h.pending(0); len(p) > 0 {
		t.Errorf("still waiting: %+v", p)
	}
	h.noUnit()

	// Withdrawn, it stays as it is.
	write(t, h.data("app.db"), "kept")
	id := restored(t, h.sombra(0, "restore", "--json", "latest")).Components[0].PendingReboot
	h.sombra(0, "restore", "--pending", "--cancel", id)
	h.restart()
	h.reads("app.db", "kept")
	if left, _ := filepath.Glob(h.data(".sombra-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestWhatCanBeReplacedDoesNotWait (R-RES-11).
func TestWhatCanBeReplacedDoesNotWait(t *testing.T) {
	h := methodHost(t, "REPLACE_AT_REBOOT_IF_CANNOT_REPLACE", "")
	h.backup()
	write(t, h.data("app.db"), "later")
	r := restored(t, h.sombra(0, "restore", "--json", "latest"))
	if len(r.Components) != 1 || r.Components[0].Branch != "original" {
		t.Errorf("result %+v", r)
	}
	h.reads("app.db", "first")
	if p := h.pending(0); len(p) > 0 {
		t.Errorf("waiting: %+v", p)
	}
}

// TestARestoreWithoutRoomToStageChangesNothing: it fails, and leaves neither staged
// files nor anything that waits.
func TestARestoreWithoutRoomToStageChangesNothing(t *testing.T) {
	voltest.Need(t, "ext4")
	v := voltest.Ext4(t, 0)
	dir := scratch(t)
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	voltest.Bind(t, v.Root, data) // made before the host, and so goes after it
	h := newBooted(t, dir, map[string]string{"app.service": service(dir, "app", "")})
	h.method("REPLACE_AT_REBOOT", "")
	first := strings.Repeat("first 12", 1<<18)
	write(t, h.data("app.db"), first)
	h.start()
	h.sombra(0, "init")
	h.backup()
	write(t, h.data("app.db"), "later")
	v.Fill(t, 1<<20)
	out, code := h.run(h.bin("sombra"), "restore", "latest")
	if code != 1 && code != 3 || !strings.Contains(out, "no space left") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	h.reads("app.db", "later")
	if p := h.pending(0); len(p) > 0 {
		t.Errorf("waiting: %+v", p)
	}
	h.noUnit()
	if left, _ := filepath.Glob(h.data(".sombra-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	v.Empty(t)
	h.sombra(0, "restore", "latest")
	h.restart()
	h.reads("app.db", first)
}
