package reboot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/session"
)

// TestTheJournalIsRootsAlone: a directory or file that others may write to says
// nothing.
func TestTheJournalIsRootsAlone(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	id := r.stage("w", "a")
	name := filepath.Join(r.store.dir, id+".json")
	r.must(os.Chmod(name, 0o666))
	if list, err := r.store.Pending(t.Context()); err == nil || len(list) > 0 {
		t.Errorf("a file that others may write to: %v, %v", list, err)
	}
	r.must(os.Chmod(name, 0o600))
	r.must(os.Chmod(r.store.dir, 0o777))
	if _, err := r.store.Pending(t.Context()); err == nil {
		t.Error("a directory that others may write to")
	}
	r.reboot()
	if err := r.store.Apply(t.Context(), func(Outcome) {}); err == nil {
		t.Error("it is worked off")
	}
	r.reads("a", "old a")
}

// TestAJournalThatIsNotThereIsNoEmptyOne: its file system is not mounted.
func TestAJournalThatIsNotThereIsNoEmptyOne(t *testing.T) {
	r := newRig(t)
	r.write("a", "old a")
	r.stage("w", "a")
	r.reboot()
	away := r.store.dir + "-away"
	r.must(os.Rename(r.store.dir, away))
	if err := r.store.Apply(t.Context(), func(Outcome) {}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	r.must(os.Rename(away, r.store.dir))
	if _, err := os.Lstat(r.store.unitPath()); err != nil {
		t.Errorf("the unit is gone: %v", err)
	}
	r.apply()
	r.reads("a", "new a")
	r.clean()
}

func FuzzParseSet(f *testing.F) {
	good := `{"format":1,"id":"8f7d3c10-0000-4000-8000-000000000001","created":"2026-11-22T08:00:00Z","what":"w","state":"pending","files":[` +
		`{"directory":"/srv","name":"a","staged":".sombra-at-reboot-ABCDEFGHIJKLMNOPQRSTUVWXYZ","type":"file","size":1,"sha256":"` + strings.Repeat("ab", 32) + `","mode":420,"uid":0,"gid":0,"inode":7}]}`
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, `"a"`, `{"base64":"/w=="}`, 1)))
	f.Add([]byte(strings.Replace(good, `"a"`, `"../a"`, 1)))
	f.Add([]byte(`{"format":2}`))
	if _, err := parseSet([]byte(good)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSet(data)
		if err != nil {
			return
		}
		for _, x := range s.Files {
			if !filepath.IsAbs(string(x.Directory)) || strings.Contains(string(x.Name), "/") || !session.IsStagedName(string(x.Staged)) ||
				slices.Contains([]string{"", ".", ".."}, string(x.Name)) {
				t.Errorf("taken: %+v", x)
			}
		}
		s.shown()
	})
}
