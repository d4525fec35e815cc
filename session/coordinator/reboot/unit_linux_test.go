package reboot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// TestTheUnitIsOneThatSystemdTakes, with names that need quoting.
func TestTheUnitIsOneThatSystemdTakes(t *testing.T) {
	r := newRig(t)
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		voltest.Skip(t, "no systemd-analyze here")
	}
	program := filepath.Join(filepath.Dir(r.dir), "a pro$gram with% blanks")
	r.must(os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755))
	r.store.opts.Command = []string{program, "at-reboot", "--state-dir", `/a b$HOME%h"\`}
	text, err := r.store.unit([]string{"/", "/srv/a b", "/var"})
	r.must(err)
	name := filepath.Join(filepath.Dir(r.dir), "sombra-at-reboot.service")
	r.must(os.WriteFile(name, []byte(text), 0o644))
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", name).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s\n%s", err, out, text)
	}
	if !strings.Contains(text, `After=local-fs.target srv-a\x20b.mount var.mount`) {
		t.Errorf("mounts:\n%s", text)
	}
	for _, program := range []string{"/bin/x\ny", `/bin/x"y`, `/bin/x\y`} {
		r.store.opts.Command = []string{program}
		if _, err := r.store.unit(nil); err == nil {
			t.Errorf("%q stands in a unit", program)
		}
	}
}

// TestMountsAreFound: a directory's own mount, not one above it.
func TestMountsAreFound(t *testing.T) {
	v := voltest.Tmpfs(t, 1<<20)
	sub := filepath.Join(v.Root, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.EvalSymlinks(v.Root)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := mountAt(sub); err != nil || m.point != root || !volatileFS(m.fsType) {
		t.Errorf("%+v, %v, want %s", m, err, root)
	}
	if m, err := mountAt("/"); err != nil || m.point != "/" {
		t.Errorf("%+v, %v", m, err)
	}
}
