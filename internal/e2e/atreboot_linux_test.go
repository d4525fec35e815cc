package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// earlyUnits are a service and a socket, which is there before all services.
func earlyUnits(dir string) map[string]string {
	return map[string]string{"app.service": service(dir, "app", "")}
}

// pendingSet is a line of restore --pending --json.
type pendingSet struct {
	ID, What, State, Error string
	Files                  []struct {
		Path, Staged string
		Size         int64
	}
}

func (h *booted) pending(want int) []pendingSet {
	h.t.Helper()
	var list []pendingSet
	for line := range strings.Lines(h.sombra(want, "restore", "--pending", "--json")) {
		if messageType(line) == "pending" {
			var p pendingSet
			unmarshal(h.t, line, &p)
			list = append(list, p)
		}
	}
	return list
}

// noUnit checks that nothing is left of the unit.
func (h *booted) noUnit() {
	h.t.Helper()
	names, err := filepath.Glob(filepath.Join(h.dir, "units", "*at-reboot*"))
	links, _ := filepath.Glob(filepath.Join(h.dir, "units", "*.wants", "*at-reboot*"))
	if err != nil || len(names)+len(links) > 0 {
		h.t.Errorf("left of the unit: %v %v", names, links)
	}
}

func (h *booted) unitName() string {
	h.t.Helper()
	names, err := filepath.Glob(filepath.Join(h.dir, "units", "sombra-at-reboot*.service"))
	if err != nil || len(names) != 1 {
		h.t.Fatalf("units: %v, %v", names, err)
	}
	return filepath.Base(names[0])
}

// TestStagedFilesTakeTheirPlacesAtTheNextStart (R-RES-10): before the service that
// uses them starts, and not before the host does, whatever else is started.
func TestStagedFilesTakeTheirPlacesAtTheNextStart(t *testing.T) {
	dir := scratch(t)
	h := newBooted(t, dir, earlyUnits(dir))
	h.unit("later.service", service(dir, "later", ""))
	write(t, h.data("app.db"), "old")
	write(t, h.data("later.db"), "old")
	h.start()
	id := strings.TrimSpace(h.target("stage", h.data("app.db")+"=new", h.data("sub.db")+"=made", "--", "commit").exits(0).out)
	p := h.pending(0)
	if len(p) != 1 || p[0].ID != id || p[0].State != "pending" || p[0].What != "Writer: component" || len(p[0].Files) != 2 || p[0].Files[0].Path != h.data("app.db") {
		t.Fatalf("waiting: %+v", p)
	}
	if out := h.sombra(0, "restore", "--pending"); !strings.Contains(out, "waits for the next start") || !strings.Contains(out, h.data("sub.db")) {
		t.Errorf("it says\n%s", out)
	}
	unit := h.unitName()

	// The start of a service pulls sysinit.target's wants in again.
	h.run("systemctl", "start", "later")
	if out, code := h.run("systemctl", "start", unit); code == 0 {
		t.Errorf("the unit is started by hand: %s", out)
	}
	if out := h.sombra(0, "at-reboot", "--state-dir", h.state()); !strings.Contains(out, "waits for the next start") {
		t.Errorf("it says\n%s", out)
	}
	h.reads("app.db", "old")

	// A backup before the start has what is in place, and nothing that is staged.
	h.sombra(0, "init")
	h.sombra(0, "backup", filepath.Dir(h.data("app.db")))
	if out := h.sombra(0, "ls", "latest"); !strings.Contains(out, h.data("app.db")) || strings.Contains(out, "at-reboot") {
		t.Errorf("the backup has\n%s", out)
	}

	h.restart()
	h.reads("app.db", "new")
	h.reads("sub.db", "made")
	if log := h.lines("log"); log[len(log)-1] != "start app new" {
		t.Errorf("the service saw: %q", log)
	}
	if said := h.journal(unit); !strings.Contains(said, "Writer: component ("+id+", 2 files): in place") {
		t.Errorf("the journal has %q", said)
	}
	if p := h.pending(0); len(p) > 0 {
		t.Errorf("still waiting: %+v", p)
	}
	h.noUnit()
	if left, _ := filepath.Glob(h.data(".sombra-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAStartKilledWhileSwappingIsFinishedByTheNext: SIGKILL to the host, anywhere
// in the middle.
func TestAStartKilledWhileSwappingIsFinishedByTheNext(t *testing.T) {
	dir := scratch(t)
	h := newBooted(t, dir, earlyUnits(dir))
	write(t, h.data("app.db"), "old")
	const files = 2000
	half := 0
	most := rounds(30) / 2
	for round := 0; round < most || half == 0; round++ {
		if round > 10*most {
			t.Fatal("no start ended in the middle")
		}
		text := fmt.Sprint("text ", round)
		h.start()
		h.target("stage", h.data("app.db")+"="+text, fmt.Sprintf("%s*%d=%s", h.data("part"), files, text), "--", "commit").exits(0)
		h.crash()

		// The first file changes when the swapping begins; the host ends some
		// way into it.
		h.startUntil(func() bool {
			data, _ := os.ReadFile(h.data("app.db"))
			return string(data) == text
		}, time.Duration(round%5)*5*time.Millisecond)
		done := 0
		for i := range files {
			if data, _ := os.ReadFile(h.data(fmt.Sprint("part", i))); string(data) == text {
				done++
			}
		}
		if done > 0 && done < files {
			half++
		}
		h.start()
		for i := range files {
			h.reads(fmt.Sprint("part", i), text)
		}
		h.reads("app.db", text)
		if log := h.lines("log"); log[len(log)-1] != "start app "+text {
			t.Errorf("round %d: the service saw: %q", round, log[max(0, len(log)-3):])
		}
		if p := h.pending(0); len(p) > 0 {
			t.Errorf("round %d: still waiting: %+v", round, p[0].State)
		}
		h.noUnit()
		h.crash()
	}
	t.Logf("%d starts ended in the middle", half)
	if left, _ := filepath.Glob(h.data(".sombra-*")); len(left) > 0 {
		t.Errorf("left behind: %d files", len(left))
	}
}

// startUntil starts the host and ends it a while after something has happened.
func (h *booted) startUntil(happened func() bool, after time.Duration) {
	h.t.Helper()
	nowhere, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	h.must(err)
	defer nowhere.Close()
	h.launch(nowhere)
	for deadline := time.Now().Add(longest); !happened(); {
		if time.Now().After(deadline) {
			h.t.Fatal("the host does not come so far")
		}
		time.Sleep(200 * time.Microsecond)
	}
	time.Sleep(after)
	h.findPID()
	h.crash()
}

// TestWhatCannotTakeItsPlaceIsKeptAndSaid: the unit fails, the host comes up all the
// same with what was there, and --pending tells why until it is withdrawn.
func TestWhatCannotTakeItsPlaceIsKeptAndSaid(t *testing.T) {
	dir := scratch(t)
	h := newBooted(t, dir, earlyUnits(dir))
	write(t, h.data("app.db"), "old")
	write(t, h.data("b"), "old")
	h.start()
	id := strings.TrimSpace(h.target("stage", h.data("app.db")+"=new", h.data("b")+"=new", "--", "commit").exits(0).out)
	unit := h.unitName()
	staged := h.pending(0)[0].Files[1].Staged
	h.crash()
	h.must(os.WriteFile(staged, []byte("NEW"), 0o640))
	h.start()
	h.reads("app.db", "old")
	h.reads("b", "old")
	if got := h.active(unit); got != "failed" {
		t.Errorf("the unit is %s", got)
	}
	if said := h.journal(unit); !strings.Contains(said, "FAILED, nothing has changed") || !strings.Contains(said, h.data("b")) || !strings.Contains(said, "damaged") {
		t.Errorf("the journal has %q", said)
	}
	if out := h.sombra(3, "restore", "--pending"); !strings.Contains(out, "FAILED") || !strings.Contains(out, "damaged") {
		t.Errorf("it says\n%s", out)
	}
	h.restart()
	h.reads("app.db", "old")
	if p := h.pending(3); len(p) != 1 || p[0].State != "failed" {
		t.Errorf("%+v", p)
	}
	h.sombra(0, "restore", "--pending", "--cancel", id[:8])
	h.sombra(1, "restore", "--pending", "--cancel", id[:8])
	if out := h.sombra(0, "restore", "--pending"); !strings.Contains(out, "nothing waits") {
		t.Errorf("it says\n%s", out)
	}
	if left, _ := filepath.Glob(h.data(".sombra-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	h.noUnit()
}

// TestWithdrawnFilesDoNotTakeTheirPlaces, nor those of a restore that was killed
// before it scheduled them.
func TestWithdrawnFilesDoNotTakeTheirPlaces(t *testing.T) {
	dir := scratch(t)
	h := newBooted(t, dir, earlyUnits(dir))
	write(t, h.data("app.db"), "old")
	h.start()
	id := strings.TrimSpace(h.target("stage", h.data("app.db")+"=new", "--", "commit").exits(0).out)
	h.sombra(0, "restore", "--pending", "--cancel", id)
	h.noUnit()

	cmd := h.command(h.bin("test"), "test-target", h.bin("sombra"), h.state(), "stage", h.data("app.db")+"=newer", "--", "hold")
	out, err := cmd.StdoutPipe()
	h.must(err)
	h.must(cmd.Start())
	out.Read(make([]byte, 1))
	if left, _ := filepath.Glob(h.data(".sombra-*")); len(left) != 1 {
		t.Errorf("staged: %v", left)
	}
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
	h.restart()
	h.reads("app.db", "old")
	h.target("stage", h.data("app.db")+"=x", "--", "close").exits(1)
	if left, _ := filepath.Glob(h.data(".sombra-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestTheProgramIsGoneAtTheStart: that is a failed unit, and nothing has changed.
func TestTheProgramIsGoneAtTheStart(t *testing.T) {
	dir := scratch(t)
	h := newBooted(t, dir, earlyUnits(dir))
	write(t, h.data("app.db"), "old")
	h.start()
	h.target("stage", h.data("app.db")+"=new", "--", "commit").exits(0)
	unit := h.unitName()
	h.must(os.Rename(h.bin("sombra"), h.bin("away")))
	h.restart()
	h.reads("app.db", "old")
	if got := h.active(unit); got != "failed" {
		t.Errorf("the unit is %s", got)
	}
	h.must(os.Rename(h.bin("away"), h.bin("sombra")))
	if p := h.pending(0); len(p) != 1 || p[0].State != "pending" {
		t.Errorf("%+v", p)
	}
	h.restart()
	h.reads("app.db", "new")
	h.noUnit()
}

// TestFilesOnLateMountsAreRefused: what is mounted after services start is not
// there when files are swapped in.
func TestFilesOnLateMountsAreRefused(t *testing.T) {
	dir := scratch(t)
	units := earlyUnits(dir)
	mount := func(name, more string) {
		h := filepath.Join(dir, "data", name)
		if err := os.MkdirAll(h, 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-escape", "--path", "--suffix=mount", h).Output()
		if err != nil {
			voltest.Skip(t, "no systemd-escape: %v", err)
		}
		units[strings.TrimSpace(string(out))] = "[Unit]\n" + more + "[Mount]\nWhat=" + filepath.Join(dir, "bin") + "\nWhere=" + h + "\nType=none\nOptions=bind"
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		voltest.Skip(t, "systemd is not installed: %v", err)
	}
	mount("remote", "DefaultDependencies=no\nBefore=remote-fs.target\n")
	mount("after", "DefaultDependencies=no\nAfter=app.service\n")
	h := newBooted(t, dir, units)
	write(t, h.data("app.db"), "old")
	h.start()
	h.target("stage", h.data("remote/x")+"=new", "--", "commit").exits(1).says("VSS_E_NOT_SUPPORTED", "_netdev")
	h.target("stage", h.data("after/x")+"=new", "--", "commit").exits(1).says("VSS_E_NOT_SUPPORTED", "mounted after app.service")
	h.target("stage", "/tmp/x=new", "--", "commit").exits(1).says("VSS_E_NOT_SUPPORTED", "memory")
	if left, _ := filepath.Glob(h.data("*/.sombra-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	h.noUnit()
}

// TestFilesOnOtherFileSystemsAreSwappedIn: on each kind, mounted below the host's
// directory.
func TestFilesOnOtherFileSystemsAreSwappedIn(t *testing.T) {
	voltest.Need(t, "btrfs", "xfs", "ext4")
	dir := scratch(t)
	data := func(name string) string { return filepath.Join(dir, "data", name) }
	words := []string{"stage", data("app.db") + "=new"}
	var names []string
	// The volumes are made before the host, and so go after it.
	for i, v := range []*voltest.Volume{voltest.Btrfs(t, 0), voltest.XFS(t, 0), voltest.Ext4(t, 0)} {
		name := fmt.Sprintf("volume %d/file", i)
		write(t, data(name), "covered")
		voltest.Bind(t, v.Root, filepath.Dir(data(name)))
		write(t, data(name), "old")
		names = append(names, name)
		words = append(words, data(name)+"=new")
	}
	h := newBooted(t, dir, earlyUnits(dir))
	write(t, h.data("app.db"), "old")
	h.start()
	h.target(append(words, "--", "commit")...).exits(0)
	text, err := os.ReadFile(filepath.Join(dir, "units", h.unitName()))
	if err != nil || !strings.Contains(string(text), `volume\x200.mount`) {
		t.Errorf("the unit does not wait for the mounts: %s, %v", text, err)
	}
	h.restart()
	h.reads("app.db", "new")
	for _, name := range names {
		h.reads(name, "new")
	}
}
