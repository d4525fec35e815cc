package reboot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// TestAPowerCutAtAnyStepIsFinishedByTheNextStart: what was not synced is lost. The
// power is cut when Commit has returned, at each step of swapping, and at its end.
func TestAPowerCutAtAnyStepIsFinishedByTheNextStart(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			voltest.Need(t, fstype, "xfs")
			host := voltest.XFS(t, 4<<30)
			t.Setenv("SOMBRA_TEST_SCRATCH", host.Root) // where images and mount points lie
			v := voltest.Make(t, fstype, 512<<20)
			r := newRig(t)
			top := filepath.Dir(r.dir)
			// Data and journal are on the volume, which is always seen at one path.
			at := filepath.Join(top, "volume")
			r.must(os.Mkdir(at, 0o755))
			r.must(unix.Mount(v.Root, at, "", unix.MS_BIND, ""))
			bound := true
			unbind := func() {
				if bound {
					bound = false
					r.must(unix.Unmount(at, 0))
				}
			}
			defer unbind()
			r.dir = filepath.Join(at, "data")
			r.store.opts.StateDir, r.store.dir = filepath.Join(at, "state"), filepath.Join(at, "state", "reboot")
			for _, d := range []string{"data", "data/sub", "state"} {
				r.must(os.Mkdir(filepath.Join(at, d), 0o755))
			}
			names := []string{"a", "b", "sub/c"}
			r.write("a", "old a")
			r.write("sub/c", "old c")
			v.Sync(t)

			var images []string
			cut := func(string) {
				image := filepath.Join(host.Root, fmt.Sprint("cut", len(images)))
				r.must(voltest.Clone(v.Image(), image))
				images = append(images, image)
			}
			r.stage("w", names...)
			cut("committed")
			r.reboot()
			r.store.step = cut
			r.apply()
			r.store.step = func(string) {}
			cut("ended")
			unbind()

			options := []string{}
			if fstype == "xfs" {
				options = append(options, "nouuid") // the original is mounted
			}
			for i, image := range images {
				lost, done := voltest.MountImage(t, fstype, image, options...)
				r.must(unix.Mount(lost.Root, at, "", unix.MS_BIND, ""))
				bound = true
				for _, o := range r.apply() {
					if !o.Swapped || o.Err != nil {
						t.Errorf("cut %d: %+v", i, o)
					}
				}
				for _, n := range names {
					r.reads(n, "new "+n)
				}
				r.clean()
				unbind()
				done()
				if t.Failed() {
					t.Fatalf("cut %d of %d", i, len(images))
				}
			}
			t.Logf("%d cuts", len(images))
		})
	}
}
