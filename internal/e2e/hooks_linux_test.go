package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// TestScriptsRunAroundTheShadowCopy backs up a path as people do, with scripts
// configured that declare no files (R-SEL-5): each is called with freeze before
// the shadow copy and with thaw after it, and the copy shows what it was between.
func TestScriptsRunAroundTheShadowCopy(t *testing.T) {
	voltest.Need(t, "btrfs")
	v := voltest.Btrfs(t, 0)
	data := filepath.Join(v.Root, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	h := newHooks(t, data)
	if err := os.WriteFile(filepath.Join(data, "state"), []byte("running"), 0o644); err != nil {
		t.Fatal(err)
	}

	plan := h.run(0, "plan", "--json", data)
	if !strings.Contains(plan, "declares no files") {
		t.Errorf("the plan does not say why the scripts run: %s", plan)
	}
	if log := h.log(); log != "" {
		t.Errorf("a plan ran the scripts: %s", log)
	}

	h.run(0, "backup", "--json", data)
	if log := h.log(); log != "10-app freeze,20-db freeze,20-db thaw,10-app thaw," {
		t.Errorf("the scripts were called %q", log)
	}
	if live, _ := os.ReadFile(filepath.Join(data, "state")); string(live) != "running" {
		t.Errorf("afterwards the application is %q", live)
	}
	h.run(0, "restore", "latest", "--target", filepath.Join(h.dir, "out"))
	var state []byte
	filepath.WalkDir(filepath.Join(h.dir, "out"), func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "state" {
			state, err = os.ReadFile(p)
		}
		return err
	})
	if string(state) != "held" {
		t.Errorf("the shadow copy shows %q: it was not made between freeze and thaw", state)
	}

	h.reset()
	h.run(0, "backup", "--exclude-writer", "shop", data)
	if log := h.log(); log != "" {
		t.Errorf("excluded by name, and yet run: %s", log)
	}

	h.reset()
	h.script("15-broken", `[ "$1" = freeze ] && echo cannot hold the shop >&2 && exit 7; exit 0`)
	out := h.run(3, "backup", "--json", data)
	if log := h.log(); log != "10-app freeze,10-app thaw," {
		t.Errorf("after a script that failed the others were called %q", log)
	}
	if !strings.Contains(out, "cannot hold the shop") {
		t.Errorf("what the script said is not told: %s", out)
	}
}

// hooks is a directory of scripts, a repository and a configuration of both.
type hooks struct {
	t            *testing.T
	dir, scripts string
	data         string
	env          []string
}

func newHooks(t *testing.T, data string) *hooks {
	t.Helper()
	// Not below /tmp: scripts are trusted only where nobody else may write.
	dir, err := os.MkdirTemp("/var/lib", "sombra-e2e-hooks-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &hooks{t: t, dir: dir, data: data, scripts: filepath.Join(dir, "hooks.d")}
	if err := os.Mkdir(h.scripts, 0o755); err != nil {
		t.Fatal(err)
	}
	note := fmt.Sprintf(`echo "$(basename "$0") $1" >> %s/log`, dir)
	h.script("10-app", note)
	h.script("20-db", fmt.Sprintf(`%s
case "$1" in freeze) printf held > %[2]s/state;; thaw) printf running > %[2]s/state;; esac`, note, data))
	config := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("repository: %s\nstate_dir: %s\nwriters:\n  - kind: hooks\n    name: shop\n    config: {directory: %s}\n",
		filepath.Join(dir, "repo"), filepath.Join(dir, "state"), h.scripts)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.env = append(os.Environ(), "SOMBRA_CONFIG="+config, "SOMBRA_PASSWORD=secret")
	h.run(0, "init")
	return h
}

func (h *hooks) script(name, body string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.scripts, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

// log gives the calls, each with a comma after it.
func (h *hooks) log() string {
	data, _ := os.ReadFile(filepath.Join(h.dir, "log"))
	return strings.ReplaceAll(string(data), "\n", ",")
}

func (h *hooks) reset() { os.Remove(filepath.Join(h.dir, "log")) }

// run runs the command and gives what it wrote.
func (h *hooks) run(exit int, args ...string) string {
	h.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = h.env
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != exit {
		h.t.Fatalf("sombra %q: exit %d (%v), want %d\n%s", args, code, err, exit, out)
	}
	return string(out)
}
