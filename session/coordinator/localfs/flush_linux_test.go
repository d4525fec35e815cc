package localfs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/session"
)

// mapped makes a file with a page that is mapped and has been written to.
func mapped(t *testing.T, name string) []byte {
	t.Helper()
	if err := os.WriteFile(name, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(m) })
	m[0], m[20<<10] = 1, 1
	return m
}

// TestStoresAfterOpeningMoveTheTimes on the file systems on which times are
// believed: an open file of a live tree shows every store through a map, also into
// a page that was written to before.
func TestStoresAfterOpeningMoveTheTimes(t *testing.T) {
	voltest.Need(t, "ext4", "xfs", "btrfs")
	volumes := map[string]func() *voltest.Volume{
		"ext4":             func() *voltest.Volume { return voltest.Ext4(t, 0) },
		"xfs":              func() *voltest.Volume { return voltest.XFS(t, 0) },
		"btrfs":            func() *voltest.Volume { return voltest.Btrfs(t, 0) },
		"btrfs-compressed": func() *voltest.Volume { return voltest.Btrfs(t, 0, "compress-force=zstd") },
	}
	for name, make := range volumes {
		root := make().Root
		for _, whole := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,whole=%v", name, whole), func(t *testing.T) {
				tr, err := OpenTree(root, TreeOptions{Source: session.FromLive})
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Close()
				if whole {
					tr.(*tree).flush.spent.Store(int64(time.Hour))
				}
				m := mapped(t, filepath.Join(root, "mapped"))
				f, err := tr.Open(t.Context(), "mapped")
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if got := tr.(*tree).flush.done.Load() != 0; got != whole {
					t.Errorf("the whole file system was flushed: %v", got)
				}
				for _, at := range []int{0, 20 << 10, 40 << 10} {
					before, err := f.Stat(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(50 * time.Millisecond) // more than a step of any clock
					m[at]++
					after, err := f.Stat(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if !after.Changed.After(before.Changed) || !after.Modified.After(before.Modified) {
						t.Errorf("a store at %d left the times as they were", at)
					}
				}
			})
		}
	}
}
