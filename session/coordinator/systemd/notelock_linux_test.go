package systemd

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestALockOfAStoppedProcessIsTakenOver: a process that is stopped while it has a
// unit's note does not keep others from it, and one that runs does.
func TestALockOfAStoppedProcessIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.service.lock")
	cmd := exec.Command("flock", "--no-fork", path, "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		l, err := tryLock(path)
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			break
		}
		l.file.Close()
		if time.Now().After(end) {
			t.Fatal("flock does not lock")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*lockPatience)
	defer cancel()
	if _, _, err := lockNote(ctx, dir, "app.service"); err == nil {
		t.Fatal("a lock was taken from a process that runs")
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n, unlock, err := lockNote(ctx, dir, "app.service")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if !n.lock.holds() {
		t.Error("it is not held")
	}
	n.hold([]string{"app.service"})
	if err := n.write(); err != nil {
		t.Error(err)
	}
	again, err := tryLock(path)
	if err != nil || again != nil {
		t.Errorf("it was locked twice: %v, %v", again, err)
	}
}
