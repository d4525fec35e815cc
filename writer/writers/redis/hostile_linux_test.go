package redis

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestAProgramOfTheServersNameDoesNotTakeItsPlace: whoever gets into the directory of
// another's data can run a program there that is called like the server.
func TestAProgramOfTheServersNameDoesNotTakeItsPlace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory to another user")
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	decoy, data := filepath.Join(t.TempDir(), "redis-server"), t.TempDir()
	if err := os.WriteFile(decoy, program, 0o755); err != nil {
		t.Fatal(err)
	}

	find := func() bool {
		procs, err := servers()
		return err == nil && slices.ContainsFunc(procs, func(p process) bool { return p.dir == data })
	}
	for _, c := range []struct {
		owner int
		want  bool
	}{{0, true}, {12345, false}} {
		if err := os.Chown(data, c.owner, c.owner); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(decoy, "600")
		cmd.Dir = data

		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if got := find(); got != c.want {
			t.Errorf("in a directory of user id %d it is found: %v, want %v", c.owner, got, c.want)
		}
		cmd.Process.Kill()
		cmd.Wait() // it was killed
	}
}
