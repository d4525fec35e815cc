package etcd

import (
	"os"
	"os/exec"
	"path/filepath"
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
	decoy, data := filepath.Join(t.TempDir(), "etcd"), t.TempDir()
	if err := os.WriteFile(decoy, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Join(data, dbName)), 0o755); err != nil {
		t.Fatal(err)
	}
	db, err := os.Create(filepath.Join(data, dbName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	find := func() bool {
		pid, err := runningIn(data)
		return err == nil && pid != 0
	}
	for _, c := range []struct {
		owner int
		want  bool
	}{{0, true}, {12345, false}} {
		for _, name := range []string{"member/snap/db", ""} {
			if err := os.Chown(filepath.Join(data, name), c.owner, c.owner); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(decoy, "600")
		cmd.Dir = data
		cmd.ExtraFiles = []*os.File{db}
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
