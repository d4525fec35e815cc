package reflink

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// TestFileThatShrankIsClonedOverItsOldClone: a file that became shorter after it
// was looked at, so that the old clone reaches past its last, partial block, is
// cloned all the same. XFS refuses that clone as it is.
func TestFileThatShrankIsClonedOverItsOldClone(t *testing.T) {
	voltest.Need(t, "xfs", "btrfs")
	for _, fs := range []string{"xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			v := voltest.Make(t, fs, 400<<20)
			name := filepath.Join(v.Root, "f")
			long := bytes.Repeat([]byte("x"), 100_000)
			if err := os.WriteFile(name, long, 0o600); err != nil {
				t.Fatal(err)
			}
			src, err := os.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			dst, err := os.OpenFile(filepath.Join(v.Root, "clone"), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer dst.Close()
			m := method{}
			if _, err := m.Copy(context.Background(), src, dst, int64(len(long)), true); err != nil {
				t.Fatal(err)
			}
			if err := src.Truncate(50_001); err != nil {
				t.Fatal(err)
			}
			// The size is still that of when it was looked at.
			if _, err := m.Copy(context.Background(), src, dst, int64(len(long)), false); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(dst.Name())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, long[:50_001]) {
				t.Errorf("the clone has %d bytes, want %d", len(got), 50_001)
			}
		})
	}
}
