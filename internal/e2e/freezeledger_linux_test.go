package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/ledger"
	"github.com/sombra-backup/sombra/internal/voltest"
)

// ledgerFS are the file systems of the ledger's volumes, in their order.
var ledgerFS = []string{"btrfs", "xfs", "ext4", "btrfs"}

// imagesApart is how long after one disk the next is copied, as clouds do it.
const imagesApart = 60 * time.Millisecond

// imageDisks copies the disks below the ledger's volumes, one after another.
func (l *books) imageDisks() (images []string) {
	l.t.Helper()
	dir := scratch(l.t)
	for i, root := range l.paths {
		image := filepath.Join(dir, fmt.Sprint("disk", i))
		volume := voltest.Volume{Root: root}
		if out, err := exec.Command("cp", "--sparse=always", volume.Image(), image).CombinedOutput(); err != nil {
			l.t.Fatalf("copy a disk: %v\n%s", err, out)
		}
		images = append(images, image)
		time.Sleep(imagesApart)
	}
	return images
}

// freezeDisks freezes the file systems of all volumes, one after another, as a
// guest agent does.
func (l *books) freezeDisks() (thaw func()) {
	l.t.Helper()
	var thaws []func()
	for _, root := range l.paths {
		thaws = append(thaws, freezeVolume(l.t, root))
		time.Sleep(imagesApart)
	}
	return func() {
		for _, thaw := range thaws {
			thaw()
		}
	}
}

// onDisks starts the databases on copies of the disks, as on a virtual machine made
// of a snapshot, and reads them.
func (l *books) onDisks(images []string) (found []ledger.Found) {
	l.t.Helper()
	dir, err := dbtest.Scratch("/var/tmp")
	must(l.t, err)
	defer os.RemoveAll(dir)
	for i, image := range images {
		var options []string
		if ledgerFS[i] == "xfs" {
			options = append(options, "nouuid")
		}
		v, done := voltest.MountImage(l.t, ledgerFS[i], image, options...)
		defer done()
		at := filepath.Join(dir, l.paths[i])
		must(l.t, os.MkdirAll(filepath.Dir(at), 0o755))
		must(l.t, os.Symlink(v.Root, at))
	}
	// On another machine the process of that number is none.
	if err := os.Remove(filepath.Join(dir, l.pgData, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.t.Fatal(err)
	}
	return l.recover(dir, true)
}

// TestSnapshotsOfAllDisksShowOneInstant: the ledger's applications are held by
// freeze, its four disks are copied one after another, and the databases started
// on the copies: no client's number is in a store and not in the one before, all
// that was acknowledged before is there, and nothing begun after. Once with the
// file systems frozen while the disks are copied, as by guest agents, where nobody
// is stopped; once without, where processes are.
func TestSnapshotsOfAllDisksShowOneInstant(t *testing.T) {
	l := newBooks(t)
	var config strings.Builder
	fmt.Fprintf(&config, "paths: [%s]\nwriters:\n", strings.Join(l.paths, ", "))
	for _, w := range l.writers {
		fmt.Fprintf(&config, "  - {kind: %s, name: %s, config: %s}\n", w.Kind, w.Name, w.Config)
	}
	l.by.configure(config.String())
	times := 1
	if os.Getenv("SOMBRA_TORTURE") != "" {
		times = 20
	}
	if os.Getenv(withoutFreeze) != "" {
		for range times {
			before := time.Now()
			images := l.imageDisks()
			for _, v := range ledgerViolations(l, l.onDisks(images), before, time.Now()) {
				t.Fatalf("without freeze: %v", v)
			}
		}
		return
	}
	for range times {
		for _, atomic := range []bool{true, false} {
			args := append([]string{"freeze"}, l.paths...)
			if atomic {
				args = append(args, "--atomic")
			}
			before := time.Now()
			l.by.must(args...).says(fmt.Sprintf("%d writers held", len(l.places)))
			took := time.Since(before)
			unfreeze := func() {}
			if atomic {
				unfreeze = l.freezeDisks()
			}
			after := time.Now()
			images := l.imageDisks()
			unfreeze()
			thaw := l.by.must("thaw").says(fmt.Sprintf("%d writers held throughout", len(l.places)))
			if stopped := strings.Contains(thaw.out, "processes stopped"); stopped == atomic {
				t.Errorf("atomic %t: the receipt is\n%s", atomic, thaw.out)
			}
			for _, v := range ledgerViolations(l, l.onDisks(images), before, after) {
				t.Errorf("atomic %t: %v", atomic, v)
			}
			t.Logf("atomic %t: freeze took %v, held for %v", atomic, took.Round(time.Millisecond), time.Since(before).Round(time.Millisecond))
		}
	}
	l.at.stop()
	l.live()
}

// ledgerViolations says how what was found differs from one instant between two
// times.
func ledgerViolations(l *books, found []ledger.Found, before, after time.Time) []ledger.Violation {
	bad := ledger.Check(found)
	l.at.update()
	for _, f := range found {
		bad = append(bad, ledger.CheckTime(f, &l.at.history, before, after)...)
	}
	return bad
}

// withoutFreeze has the test above leave freeze and thaw out.
const withoutFreeze = "SOMBRA_E2E_WITHOUT_FREEZE"

// TestSnapshotsOfDisksNeedFreeze is the control: the same test without freeze, in a
// process of its own, finds more than one instant, or databases that are damaged
// or do not start at all.
func TestSnapshotsOfDisksNeedFreeze(t *testing.T) {
	if os.Getenv("SOMBRA_TORTURE") == "" {
		t.Skip("a control that takes minutes: runs in torture (SOMBRA_TORTURE=1)")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestSnapshotsOfAllDisksShowOneInstant$", "-test.v")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), withoutFreeze+"=1")
	out, err := cmd.CombinedOutput()
	found := strings.Contains(string(out), ": client ") || strings.Contains(string(out), "what was restored")
	if err == nil || !found {
		t.Fatalf("without freeze the test finds nothing, so that it proves nothing: %v\n%s", err, out)
	}
	t.Logf("without freeze:\n%s", out)
}
