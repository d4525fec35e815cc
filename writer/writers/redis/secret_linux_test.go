package redis

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPasswordFilesThatTheWriterMayRead: it runs as the server's user. What that may
// not read the message says whose it must be. Files of the user's own are those of the
// other tests.
func TestPasswordFilesThatTheWriterMayRead(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, as it gives files to several users")
	}
	const user = 12345
	dir := scratch(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "password")
	if err := os.WriteFile(path, []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		gid  int
		mode os.FileMode
		want string // "" if it is read
	}{
		{user, 0o640, ""},
		{0, 0o600, "to root and that user's group (0640)"},
		{0, 0o640, "to root and that user's group (0640)"},
		{user, 0o644, "open to others"},
	} {
		if err := os.Chown(path, 0, c.gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		text, err := readAs(user, path)
		switch {
		case c.want != "":
			wantError(t, err, c.want)
		case err != nil || text != "sesame":
			t.Errorf("root's, of group %d, mode %v: %q, %v", c.gid, c.mode, text, err)
		}
	}
}

// readAs reads a password file with the rights to files that a user has. The thread
// that has them ends with it.
func readAs(id int, path string) (text string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		_, _ = unix.SetfsgidRetGid(id) // as the next one they tell what was before
		_, _ = unix.SetfsuidRetUid(id)
		text, err = readSecret(path)
	}()
	<-done
	return text, err
}
