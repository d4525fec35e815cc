package launch

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tied is a process with a program tied to it, whose id it prints.
func tied() {
	cmd := exec.Command("/bin/sleep", "600")
	if _, err := Tied(cmd, syscall.SIGTERM); err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.Itoa(cmd.Process.Pid) + "\n")
	select {}
}

// TestTiedProgramEndsWithItsProcess, which is killed.
func TestTiedProgramEndsWithItsProcess(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "TEST_TIED=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 20)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	lives := func() bool {
		name, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		return strings.Contains(string(name), "sleep")
	}
	if !lives() {
		t.Fatalf("process %d does not run", pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // that it was killed is no error
	for end := time.Now().Add(10 * time.Second); lives(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("it outlives the process that it is tied to")
		}
	}
}

// TestScratchRemovesWhatTheKilledHaveLeft, and nothing else.
func TestScratchRemovesWhatTheKilledHaveLeft(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ended := exec.Command("/bin/true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	stays := []string{"sombra-pg-" + strconv.Itoa(os.Getppid()) + "-1", "sombra-pg-x-1", "sombra-other-" + strconv.Itoa(ended.Process.Pid) + "-1", "pg-1-1"}
	dead := "sombra-pg-" + strconv.Itoa(ended.Process.Pid) + "-7"
	for _, name := range append(stays, dead) {
		if err := os.MkdirAll(filepath.Join(tmp, name, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mine, err := Scratch("pg")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Scratch("pg")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(stays, filepath.Base(mine), filepath.Base(again)) {
		if _, err := os.Stat(filepath.Join(tmp, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(tmp, dead)); err == nil {
		t.Errorf("%s is still there", dead)
	}
}
