package postgres

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/writer"
)

// TestServerThatWorksInNoDataDirectoryIsNoCluster: a server that just starts, or
// only prints its version, works in whatever directory it was called in. Nobody's
// backup fails for want of a cluster there.
func TestServerThatWorksInNoDataDirectoryIsNoCluster(t *testing.T) {
	dir := t.TempDir()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "postgres")
	if err := os.WriteFile(name, program, 0o755); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(dir, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	found := func() (data []string) {
		specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Auto: true, Paths: []string{dir}})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range specs {
			data = append(data, s.Name)
		}
		return data
	}
	cmd := exec.Command(name, "60")
	cmd.Dir = elsewhere
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if list := found(); len(list) > 0 {
		t.Errorf("taken for clusters: %v", list)
	}
	if err := os.WriteFile(filepath.Join(elsewhere, "PG_VERSION"), []byte("15\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if list := found(); len(list) != 1 { // that it is looked at
		t.Errorf("with a version file: %v", list)
	}
}
