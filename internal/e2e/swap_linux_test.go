package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// nobody is a user without any rights.
const nobody = 65534

// swapClient exchanges two names in a directory for as long as it lives. It
// notes how often it has done so.
func swapClient(args []string) error {
	dir, err := unix.Open(args[0], unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	count, err := os.Create(args[3])
	if err != nil {
		return err
	}
	for n, noted := 0, time.Now(); ; {
		if unix.Renameat2(dir, args[1], dir, args[2], unix.RENAME_EXCHANGE) == nil {
			n++
		}
		if time.Since(noted) > 20*time.Millisecond {
			noted = time.Now()
			if _, err := count.WriteAt(fmt.Appendf(nil, "%d\n", n), 0); err != nil {
				return err
			}
		}
	}
}

// swap has an ordinary user exchange two names in his directory. What is
// returned tells how often, and ends it.
func swap(t *testing.T, dir, a, b string) (stop func() int) {
	t.Helper()
	note := filepath.Join(scratch(t), "count")
	giveTo(t, filepath.Dir(note))
	cmd := childAs(t, &syscall.Credential{Uid: nobody, Gid: nobody}, "test-swap", dir, a, b, note)
	waitFor(t, 10*time.Second, "the attacker is at work", func() bool { _, err := os.Stat(note); return err == nil })
	return func() (n int) {
		time.Sleep(50 * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		data, _ := os.ReadFile(note)
		fmt.Sscan(string(data), &n)
		return n
	}
}

// swapped is a user's directory in a backup, and one of root's that he wants
// changed.
type swapped struct {
	*machine
	home, canary string
	want         map[string]string
}

func newSwapped(t *testing.T) *swapped {
	v := voltest.Ext4(t, 0)
	s := &swapped{machine: newMachine(t), home: filepath.Join(v.Root, "home"), canary: filepath.Join(v.Root, "canary")}
	for i := range 300 {
		write(t, filepath.Join(s.home, "sub", fmt.Sprintf("file-%d", i)), "the user's")
	}
	giveTo(t, s.home)
	s.must("backup", s.home)
	return s
}

// bait fills the canary with what root would overwrite if it were led there.
func (s *swapped) bait(dir string) {
	s.t.Helper()
	for i := range 300 {
		write(s.t, filepath.Join(dir, fmt.Sprintf("file-%d", i)), "root's")
	}
	s.want = treeOf(s.t, s.canary, true)
}

// TestSwappedDirectoryLeadsRestoreNowhere: while root restores, the owner of a
// directory in it exchanges it for a link to one of root's, all the time. Nothing
// in that one ever changes, whether root restores in place or extracts into a
// directory of that user.
func TestSwappedDirectoryLeadsRestoreNowhere(t *testing.T) {
	voltest.Need(t, "ext4")
	t.Run("in place", func(t *testing.T) {
		s := newSwapped(t)
		s.bait(s.canary)
		s.attack(s.home, "sub", s.canary, func() *outcome { return s.sombra("restore", "latest") })
		s.must("restore", "latest")
	})
	t.Run("extract", func(t *testing.T) {
		s := newSwapped(t)
		first, rest, _ := strings.Cut(strings.TrimPrefix(s.home, "/"), "/")
		s.bait(filepath.Join(s.canary, rest, "sub"))
		target := filepath.Join(filepath.Dir(s.home), "target")
		write(t, filepath.Join(target, first, "his"), "own")
		if err := os.Chown(target, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		s.attack(target, first, s.canary, func() *outcome { return s.sombra("extract", "latest", target) })
		s.must("extract", "latest", target)
	})
}

// attack runs a command again and again while the attacker exchanges name in dir
// for a link.
func (s *swapped) attack(dir, name, to string, command func() *outcome) {
	s.t.Helper()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(to, link); err != nil {
		s.t.Fatal(err)
	}
	codes := map[int]int{}
	swaps := 0
	for range rounds(50) {
		stop := swap(s.t, dir, name, "link")
		codes[command().code]++
		swaps += stop()
		same(s.t, "canary", treeOf(s.t, s.canary, true), s.want)
	}
	s.t.Logf("%d exchanges; exit codes %v", swaps, codes)
	if swaps < 1000 {
		s.t.Errorf("only %d exchanges", swaps)
	}
	if _, err := os.Readlink(filepath.Join(dir, name)); err == nil {
		if err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, name), unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
			s.t.Fatal(err)
		}
	}
}
