package precopy

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

func inDirectory(t *testing.T) (root string, req provider.Request) {
	root = t.TempDir()
	return root, request(&voltest.Volume{Root: root, FSType: "ext4"}, filepath.Join(t.TempDir(), "area"))
}

// TestLargeFilesAreComparedInTheHold: of a file over 64 MiB that changed only the
// blocks that differ are written again, a smaller one is copied whole.
func TestLargeFilesAreComparedInTheHold(t *testing.T) {
	root, req := inDirectory(t)
	large, small := filepath.Join(root, "db-large"), filepath.Join(root, "db-small")
	content := bytes.Repeat([]byte("0123456789abcdef"), compareAbove/16+1)
	must(t, os.WriteFile(large, content, 0o600))
	must(t, os.WriteFile(small, content[:1<<20], 0o600))
	s, err := New().BeginPrepare(t.Context(), req)
	must(t, err)
	defer s.Abort(t.Context())
	must(t, s.EndPrepare(t.Context()))
	for _, name := range []string{large, small} {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("changed"), 500_000)
		must(t, err)
		must(t, f.Close())
	}
	copy(content[500_000:], "changed")
	must(t, s.PreCommit(t.Context()))
	must(t, s.Commit(t.Context()))
	c, err := s.PostCommit(t.Context())
	must(t, err)
	if want := uint64(blockSize + 1<<20); c.Files != 2 || c.Bytes != want {
		t.Errorf("in the hold %d files and %d bytes were written, want one block of the large file and all of the small one: %d", c.Files, c.Bytes, want)
	}
	for name, want := range map[string][]byte{"db-large": content, "db-small": content[:1<<20]} {
		if got, err := os.ReadFile(filepath.Join(c.Root, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s in the copy is another, %v", name, err)
		}
	}
}

// TestAHoldThatWouldBeTooLongIsRefusedWithTheReason: what was changed lately will
// be changed again, and has to be copied while programs wait.
func TestAHoldThatWouldBeTooLongIsRefusedWithTheReason(t *testing.T) {
	root, req := inDirectory(t)
	must(t, os.WriteFile(filepath.Join(root, "db"), make([]byte, 50<<20), 0o600))
	req.HoldLimit = 90 * time.Millisecond // 50 MiB take 100 at the rate that is expected
	for _, step := range []string{"Estimate", "EndPrepare"} {
		req.Ref.SnapshotID = vss.NewGUID()
		s, err := New().BeginPrepare(t.Context(), req)
		must(t, err)
		if step == "Estimate" {
			_, err = s.Estimate(t.Context())
		} else {
			err = s.EndPrepare(t.Context())
		}
		if !errors.Is(err, vss.ErrHoldWritesTimeout) {
			t.Errorf("%s: %v, want VSS_E_HOLD_WRITES_TIMEOUT", step, err)
			continue
		}
		for _, part := range []string{root, "100ms", "1 files", "50.0 MiB", "90ms", "allow a longer hold"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v; want it to say %q", step, err, part)
			}
		}
		must(t, s.Abort(t.Context()))
		if _, err := os.Lstat(req.Ref.Area); !os.IsNotExist(err) {
			t.Errorf("the area is left: %v", err)
		}
	}
	req.HoldLimit = 200 * time.Millisecond
	s, err := New().BeginPrepare(t.Context(), req)
	must(t, err)
	e, err := s.Estimate(t.Context())
	must(t, err)
	if e.Hold < 100*time.Millisecond || e.Hold > 101*time.Millisecond {
		t.Errorf("the estimate is %v", e.Hold)
	}
	must(t, s.Abort(t.Context()))
}

// TestACommitThatTakesTooLongIsGivenUp: the estimate may be wrong, the limit is
// kept all the same.
func TestACommitThatTakesTooLongIsGivenUp(t *testing.T) {
	v := voltest.Tmpfs(t, 300<<20) // where all is copied in the hold
	must(t, os.WriteFile(filepath.Join(v.Root, "db"), nil, 0o600))
	req := request(v, filepath.Join(t.TempDir(), "area"))
	req.HoldLimit = 5 * time.Millisecond
	s, err := New().BeginPrepare(t.Context(), req)
	must(t, err)
	must(t, s.EndPrepare(t.Context()))
	must(t, os.WriteFile(filepath.Join(v.Root, "db"), bytes.Repeat([]byte("x"), 200<<20), 0o600))
	must(t, s.PreCommit(t.Context()))
	begin := time.Now()
	if err := s.Commit(t.Context()); !errors.Is(err, vss.ErrHoldWritesTimeout) {
		t.Errorf("%v, want VSS_E_HOLD_WRITES_TIMEOUT", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it was given up after %v; 5 ms were allowed", took)
	}
	must(t, s.Abort(t.Context()))
}
