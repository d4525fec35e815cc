package providertest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// ordinaryUser is nobody's number on most systems; nothing depends on its being so.
const ordinaryUser = 65534

// Ordinary returns true if the test runs as an ordinary user. As root it runs
// the same test again as one, in a process of its own, fails if that fails, and
// returns false. Env is "NAME=value" settings for that process.
func Ordinary(t *testing.T, env ...string) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	dir, err := os.MkdirTemp("", "sombra-ordinary-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	tmp := filepath.Join(dir, "tmp")
	must(t, os.Mkdir(tmp, 0o700))
	must(t, os.Chown(tmp, ordinaryUser, ordinaryUser))
	exe := filepath.Join(dir, "test")
	copyExecutable(t, exe)
	cmd := exec.Command(exe, "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	cmd.Dir = tmp
	cmd.Env = append(append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "operation not permitted") && cmd.Process == nil {
		voltest.Skip(t, "root, but not allowed to become another user: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Fatalf("as user %d: %v\n%s", ordinaryUser, err, out)
	}
	return false
}

// copyExecutable puts the test binary where everybody can run it.
func copyExecutable(t *testing.T, to string) {
	t.Helper()
	src, err := os.Open("/proc/self/exe")
	must(t, err)
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(dst, src)
	must(t, err)
	must(t, dst.Close())
}
