package etcd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
)

// TestAProgramOfTheServersNameDoesNotTakeItsPlace: whoever gets into the directory of
// another's data can run a program there that is called like the server.
func TestAProgramOfTheServersNameDoesNotTakeItsPlace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory to another user")
	}
	data := t.TempDir()
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
	decoy := dbtest.Decoy{Name: "etcd", Dir: data, Files: []string{dbName}, Open: []*os.File{db}}
	for uid, want := range map[int]bool{0: true, 12345: false} {
		got, err := decoy.Found(t.TempDir(), uid, find)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("in a directory of user id %d it is found: %v, want %v", uid, got, want)
		}
	}
}
