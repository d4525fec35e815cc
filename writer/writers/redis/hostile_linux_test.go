package redis

import (
	"os"
	"slices"
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
	find := func() bool {
		procs, err := servers()
		return err == nil && slices.ContainsFunc(procs, func(p process) bool { return p.dir == data })
	}
	decoy := dbtest.Decoy{Name: "redis-server", Dir: data}
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
