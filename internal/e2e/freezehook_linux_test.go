package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// contrib is where the scripts are that come with the program.
func contrib(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs("../../contrib")
	must(t, err)
	return filepath.Join(dir, name)
}

// hookRig is a machine whose applications are held by a script of ours, with a
// database on a volume of its own.
type hookRig struct {
	*machine
	*load
	t       *testing.T
	volume  *voltest.Volume
	fstype  string
	scripts string // copies of ours, which read settings beside them
}

func newHookRig(t *testing.T, fstype string) *hookRig {
	t.Helper()
	h := &hookRig{t: t, fstype: fstype, volume: newVolume(t, fstype), machine: newMachine(t), scripts: scratch(t)}
	h.load = newLoad(t, filepath.Join(h.volume.Root, "app.db"), "wal")
	h.configure(onlyConfigured + "writers:\n" + h.database())
	h.set("")
	return h
}

// onlyConfigured keeps servers that other tests run on this machine from being held:
// the scripts hold all that runs.
const onlyConfigured = "no_discovery: true\n"

// database is the database's entry among the writers of a configuration.
func (h *hookRig) database() string {
	return fmt.Sprintf("  - {kind: sqlite, config: {path: %q}}\n", h.db)
}

// refusing adds a writer that fails in an event.
func (h *hookRig) refusing(event string) {
	h.t.Helper()
	h.testWriter(scratch(h.t), fmt.Sprintf(`<FailEvent writerEvent=%q retryable="no"/>`, event), "", onlyConfigured)
	file := filepath.Join(h.machine.dir, "sombra.yaml")
	text, err := os.ReadFile(file)
	must(h.t, err)
	h.configure(string(text) + h.database())
}

// set writes the scripts' settings.
func (h *hookRig) set(more string) {
	h.t.Helper()
	write(h.t, filepath.Join(h.scripts, "settings"), "sombra="+program+"\n"+more+"\n")
}

// script copies a script, with the places of the system that it uses changed.
func (h *hookRig) script(name string) string {
	h.t.Helper()
	data, err := os.ReadFile(contrib(h.t, name))
	must(h.t, err)
	text := strings.ReplaceAll(string(data), "/etc/default/sombra-freeze", filepath.Join(h.scripts, "settings"))
	text = strings.ReplaceAll(text, "/var/log/qga-fsfreeze-hook.log", filepath.Join(h.scripts, "log"))
	if strings.Contains(text, "/etc/default") || strings.Contains(text, "/var/log") && !strings.Contains(h.scripts, "/var/log") {
		h.t.Fatalf("%s still uses the system's own files", name)
	}
	to := filepath.Join(h.scripts, filepath.FromSlash(name))
	write(h.t, to, text)
	must(h.t, os.Chmod(to, 0o700))
	return to
}

// run runs a script as a guest agent does, and gives its exit code.
func (h *hookRig) run(script string, args ...string) (code int, output string) {
	h.t.Helper()
	cmd := exec.Command(script, args...)
	cmd.Env = h.env()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// agent is a QEMU guest agent.
type agent struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// newAgent starts Debian's agent with a hook. It runs in a mount namespace in
// which no scratch volume but one is mounted, since to thaw it thaws whatever it
// sees.
func (h *hookRig) newAgent(hook string) *agent {
	h.t.Helper()
	path, err := exec.LookPath("qemu-ga")
	if err != nil {
		path = "/usr/sbin/qemu-ga"
	}
	if _, err := os.Stat(path); err != nil {
		voltest.Skip(h.t, "qemu-ga is not installed: see scripts/install-test-deps")
	}
	dir := scratch(h.t)
	socket := filepath.Join(dir, "agent.sock")
	const start = `awk -v keep="$1" '$0 ~ / - [^ ]+ \/dev\/loop/ && $5 != keep {print $5}' /proc/self/mountinfo |
		while read -r m; do umount -l "$m"; done
		shift; exec "$@"`
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", start, "sh", h.volume.Root,
		path, "-m", "unix-listen", "-p", socket, "-F"+hook, "-t", dir, "-f", filepath.Join(dir, "pid"), "-l", filepath.Join(dir, "log"))
	cmd.Env = h.env()
	cmd.Stderr = os.Stderr
	must(h.t, cmd.Start())
	h.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	a := &agent{t: h.t}
	waitFor(h.t, 10*time.Second, "the agent listens", func() bool {
		a.conn, err = net.Dial("unix", socket)
		return err == nil
	})
	h.t.Cleanup(func() { a.conn.Close() })
	a.in = bufio.NewReader(a.conn)
	h.seesOnlyTheVolume(cmd.Process.Pid)
	return a
}

// seesOnlyTheVolume makes sure that of all volumes of tests the agent sees but one.
func (h *hookRig) seesOnlyTheVolume(pid int) {
	h.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	must(h.t, err)
	var loops []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.Contains(line, " /dev/loop") {
			loops = append(loops, f[4])
		}
	}
	if !slices.Equal(loops, []string{h.volume.Root}) {
		h.t.Fatalf("the agent sees the volumes %v", loops)
	}
}

// ask has the agent do something. What it says is wrong is the error.
func (a *agent) ask(command string, arguments any) error {
	a.t.Helper()
	line, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	must(a.t, err)
	must(a.t, a.conn.SetDeadline(time.Now().Add(longest)))
	_, err = a.conn.Write(append(line, '\n'))
	must(a.t, err)
	text, err := a.in.ReadString('\n')
	must(a.t, err)
	var answer struct {
		Error *struct{ Desc string }
	}
	unmarshal(a.t, text, &answer)
	if answer.Error != nil {
		return errors.New(answer.Error.Desc)
	}
	return nil
}

// freeze freezes the volume, and never anything else.
func (a *agent) freeze(root string) error {
	return a.ask("guest-fsfreeze-freeze-list", map[string]any{"mountpoints": []string{root}})
}

func (a *agent) thaw() error { return a.ask("guest-fsfreeze-thaw", map[string]any{}) }

// qemuHook installs the hook and what runs it.
func (h *hookRig) qemuHook() string {
	h.script("qemu/fsfreeze-hook.d/sombra")
	return h.script("qemu/fsfreeze-hook")
}

// TestQEMUGuestAgentHoldsApplications: Debian's agent, asked to freeze and thaw as
// a hypervisor asks it, runs our hook. The image copied in between has a database
// with every transaction acknowledged before, on a file system that need not
// replay anything.
func TestQEMUGuestAgentHoldsApplications(t *testing.T) {
	for _, fstype := range imaged() {
		t.Run(fstype, func(t *testing.T) {
			h := newHookRig(t, fstype)
			a := h.newAgent(h.qemuHook())
			must(t, a.freeze(h.volume.Root))
			frozen := time.Now()
			answer := h.blocked()
			image := copyImage(t, h.volume)
			thawed := time.Now()
			must(t, a.thaw())
			if tx := answer(); tx.acked.Before(thawed) {
				t.Error("a write was acknowledged while everything was frozen")
			}
			h.await(10*time.Second, 5)
			h.onImage(fstype, image, frozen)
			h.nothingLeft(h.load)
			h.logSays("1 writer held throughout")
		})
	}
}

func (h *hookRig) logSays(want string) {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.scripts, "log"))
	if err != nil || !strings.Contains(string(data), want) {
		h.t.Errorf("the hooks' log does not say %q: %v\n%s", want, err, data)
	}
}

// TestQEMUGuestAgentIsToldOfFailures: by the script that runs the hooks. Nothing
// is frozen then, or the hypervisor learns at the thaw that it was for nothing.
func TestQEMUGuestAgentIsToldOfFailures(t *testing.T) {
	t.Parallel()
	t.Run("a writer fails", func(t *testing.T) {
		t.Parallel()
		h := newHookRig(t, "ext4")
		a := h.newAgent(h.qemuHook())
		h.refusing("Freeze")
		if err := a.freeze(h.volume.Root); err == nil || !strings.Contains(err.Error(), "3") {
			t.Errorf("freeze: %v, want exit code 3", err)
		}
		h.await(5*time.Second, 5)
		h.set("partial=accept")
		must(t, a.freeze(h.volume.Root))
		h.blocked()
		must(t, a.thaw())
		h.await(5*time.Second, 5)
		h.logSays("NOT HELD")
	})
	t.Run("another hook fails", func(t *testing.T) {
		t.Parallel()
		h := newHookRig(t, "ext4")
		a := h.newAgent(h.qemuHook())
		last := filepath.Join(h.scripts, "qemu/fsfreeze-hook.d/zz")
		write(t, last, "#!/bin/sh\nexit 7\n")
		must(t, os.Chmod(last, 0o700))
		if err := a.freeze(h.volume.Root); err == nil || !strings.Contains(err.Error(), "7") {
			t.Errorf("freeze: %v, want exit code 7", err)
		}
		h.await(5*time.Second, 5) // ours was thawed
		h.sombra("thaw").exits(1).says("nothing is frozen")
	})
	t.Run("the lease is over", func(t *testing.T) {
		t.Parallel()
		h := newHookRig(t, "ext4")
		a := h.newAgent(h.qemuHook())
		h.set("options='--atomic --lease 1s'")
		must(t, a.freeze(h.volume.Root))
		time.Sleep(1500 * time.Millisecond)
		if err := a.thaw(); err == nil || !strings.Contains(err.Error(), "4") {
			t.Errorf("thaw: %v, want exit code 4", err)
		}
		h.await(5*time.Second, 5)
		h.logSays("NOT application-consistent")
	})
}

// TestScriptsOfOtherHypervisors run as those run them: the script before, the
// file systems frozen, the snapshot, the file systems thawed, the script after.
func TestScriptsOfOtherHypervisors(t *testing.T) {
	t.Parallel()
	for name, scripts := range map[string][2]string{
		"vmware": {"vmware/pre-freeze-script", "vmware/post-thaw-script"},
		"azure":  {"azure/sombra-pre-script", "azure/sombra-post-script"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHookRig(t, "ext4")
			before, after := h.script(scripts[0]), h.script(scripts[1])
			expect := func(want int, script string, args ...string) {
				t.Helper()
				if code, out := h.run(script, args...); code != want {
					t.Fatalf("%s: exit code %d, want %d\n%s", script, code, want, out)
				}
			}
			expect(0, before, "freeze")
			frozen := time.Now()
			unfreeze := freezeVolume(t, h.volume.Root)
			answer := h.blocked()
			image := copyImage(t, h.volume)
			unfreeze()
			expect(0, after, "thaw")
			answer()
			h.await(10*time.Second, 5)
			h.onImage("ext4", image, frozen)

			// Nothing to thaw; the lease is over; a writer fails.
			expect(1, after, "thaw")
			h.set("options='--lease 1s'")
			expect(0, before, "freeze")
			time.Sleep(1500 * time.Millisecond)
			expect(4, after, "thaw")
			if name == "vmware" { // it could not take its snapshot
				expect(0, before, "freeze")
				expect(0, after, "freezeFail")
				h.await(5*time.Second, 5)
			}
			h.refusing("Freeze")
			h.set("")
			expect(3, before, "freeze")
			h.await(5*time.Second, 5)
			h.set("partial=accept")
			expect(0, before, "freeze")
			h.blocked()
			expect(0, after, "thaw")
			h.await(5*time.Second, 5)

			// A writer that fails after thaw spoils no snapshot.
			h.set("")
			h.refusing("BackupComplete")
			expect(0, before, "freeze")
			h.blocked()
			expect(0, after, "thaw")
			h.await(5*time.Second, 5)
			h.sombra("freeze").exits(0)
			h.sombra("thaw").exits(5)
		})
	}
}

// TestAzureConfigurationNamesTheScripts: it is the file that Azure Backup reads,
// and a backup whose scripts fail is to fail.
func TestAzureConfigurationNamesTheScripts(t *testing.T) {
	data, err := os.ReadFile(contrib(t, "azure/VMSnapshotScriptPluginConfig.json"))
	must(t, err)
	var c struct {
		Plugin   string `json:"pluginName"`
		Pre      string `json:"preScriptLocation"`
		Post     string `json:"postScriptLocation"`
		Continue *bool  `json:"continueBackupOnFailure"`
		Freeze   *bool  `json:"fsFreezeEnabled"`
		Timeout  int    `json:"timeoutInSeconds"`
	}
	must(t, json.Unmarshal(data, &c))
	if c.Plugin != "ScriptRunner" || c.Continue == nil || *c.Continue || c.Freeze == nil || !*c.Freeze || c.Timeout < 60 {
		t.Errorf("configuration: %+v", c)
	}
	for _, name := range []string{c.Pre, c.Post} {
		if _, err := os.Stat(contrib(t, "azure/"+filepath.Base(name))); err != nil || filepath.Dir(name) != "/etc/azure" {
			t.Errorf("script %s: %v", name, err)
		}
	}
}

// TestShellScriptsAreClean by shellcheck, as plain sh.
func TestShellScriptsAreClean(t *testing.T) {
	check, err := exec.LookPath("shellcheck")
	if err != nil {
		voltest.Skip(t, "shellcheck is not installed: see scripts/install-test-deps")
	}
	n := 0
	for _, pattern := range []string{"qemu/fsfreeze-hook", "qemu/fsfreeze-hook.d/*", "vmware/*", "azure/sombra-*"} {
		list, err := filepath.Glob(contrib(t, pattern))
		must(t, err)
		for _, name := range list {
			n++
			if out, err := exec.Command(check, "-s", "sh", name).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
			if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o111 == 0 {
				t.Errorf("%s cannot be run: %v", name, err)
			}
		}
	}
	if n != 6 {
		t.Errorf("%d scripts were checked", n)
	}
}
