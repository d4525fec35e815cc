//go:build unix

package repository

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/repository/store/mem"
)

// TestPrintsOthersCouldHaveWrittenAreNotUsed: who can put the print of an older
// version of a block back would have a change taken for none. Neither a file nor
// a directory that others can write to is believed, nor a link followed.
func TestPrintsOthersCouldHaveWrittenAreNotUsed(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, state, file string){
		"file":      func(t *testing.T, _, file string) { chmod(t, file, 0o660) },
		"directory": func(t *testing.T, state, _ string) { chmod(t, filepath.Join(state, "blocks"), 0o770) },
		"state":     func(t *testing.T, state, _ string) { chmod(t, state, 0o777) },
		"link": func(t *testing.T, _, file string) {
			moved := filepath.Join(t.TempDir(), "moved")
			if err := os.Rename(file, moved); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(moved, file); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := mem.New()
			newTestRepository(t, st)
			state := t.TempDir()
			r := openWithState(t, st, state)
			first := randomData(300_000, 1)
			b := begin(t, r, nil)
			content := putFile(t, b, first)
			commit(t, b, testInfo())
			older, err := os.ReadFile(mustPrints(t, r, content))
			if err != nil {
				t.Fatal(err)
			}
			second := bytes.Clone(first)
			second[3*minBlock]++
			content, _ = storeAgain(t, r, content, second)
			file := mustPrints(t, r, content)
			now, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			copy(now[printHeader:], older[printHeader:])
			if err := os.WriteFile(file, now, 0o600); err != nil {
				t.Fatal(err)
			}
			open(t, state, file)
			// What is stored must be the file as it is: as it was at first.
			storeAgain(t, r, content, first)
		})
	}
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// mustPrints names the file with the prints of a content, which is there.
func mustPrints(t *testing.T, r *Repository, c Content) string {
	t.Helper()
	path, _ := r.printPath(c)
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("prints: %v, %v", info, err)
	}
	return path
}
