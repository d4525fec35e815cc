package redis

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/writer"
)

// TestServerThatJustStartsIsNotTakenForOneWithoutData: until it has read its
// configuration a server works where it was called. Nobody's backup fails for want
// of a server there.
func TestServerThatJustStartsIsNotTakenForOneWithoutData(t *testing.T) {
	dir := t.TempDir()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "redis-server")
	if err := os.WriteFile(name, program, 0o755); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(dir, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, "60")
	cmd.Dir = elsewhere
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	found := func() []writer.Spec {
		specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Auto: true, Paths: []string{dir}})
		if err != nil {
			t.Fatal(err)
		}
		return specs
	}
	if specs := found(); len(specs) > 0 {
		t.Errorf("taken for a server with data: %v", specs)
	}
	if err := os.WriteFile(filepath.Join(elsewhere, "dump.rdb"), []byte("REDIS"), 0o644); err != nil {
		t.Fatal(err)
	}
	if specs := found(); len(specs) != 1 { // one that cannot be reached is said
		t.Errorf("with data: %v", specs)
	}
}
