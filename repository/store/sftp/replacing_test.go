package sftp_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	protocol "github.com/pkg/sftp"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/sftp"
	"github.com/sombra-backup/sombra/repository/store/storetest"
)

// opensshServer is the server program of OpenSSH.
const opensshServer = "/usr/lib/openssh/sftp-server"

// openDirect gives a store of a server program that is run without ssh.
func openDirect(t *testing.T, dir string, noSync bool, command ...string) *sftp.Store {
	st := sftp.Open(sftp.Location{Host: "host", Dir: dir, NoSync: noSync}, sftp.Options{Command: command})
	t.Cleanup(func() { st.Close() })
	return st
}

// replacing serves the protocol without hard links, by a server whose rename
// replaces.
func replacing() {
	if err := protocol.SetSFTPExtensions("statvfs@openssh.com"); err != nil {
		panic(err)
	}
	srv, err := protocol.NewServer(struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout})
	if err != nil {
		panic(err)
	}
	srv.Serve()
}

// A server that has no hard links is said to replace, whatever it does; what is
// there is not replaced for that.
func TestAServerWithoutHardLinksIsSaidToReplace(t *testing.T) {
	if _, err := os.Stat(opensshServer); err != nil {
		t.Fatalf("the server of OpenSSH is needed: %v", err)
	}
	for name, tt := range map[string]struct {
		noSync, replaces bool
		command          []string
	}{
		"OpenSSH":                    {command: []string{"sh", "-c", "exec " + opensshServer}},
		"OpenSSH without hard links": {replaces: true, command: []string{"sh", "-c", "exec " + opensshServer + " -P hardlink"}},
		"a rename that replaces":     {replaces: true, noSync: true, command: []string{"env", "HOSTILE_SFTP=replacing", os.Args[0]}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "repository")
			a, b := openDirect(t, dir, tt.noSync, tt.command...), openDirect(t, dir, tt.noSync, tt.command...)
			if _, err := a.Stat(t.Context(), "config"); !errors.Is(err, store.ErrNotExist) {
				t.Fatal(err)
			}
			if store.MayReplace(a) != tt.replaces {
				t.Errorf("it may replace: %v", !tt.replaces)
			}
			if err := a.Put(t.Context(), "config", []byte("one")); err != nil {
				t.Fatal(err)
			}
			if err := b.Put(t.Context(), "config", []byte("two")); !errors.Is(err, store.ErrExist) {
				t.Errorf("a second put: %v, want ErrExist", err)
			}
			p := make([]byte, 3)
			if n, err := b.ReadAt(t.Context(), "config", p, 0); n != 3 || string(p) != "one" {
				t.Errorf("it became %q: %v", p[:n], err)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
	// OpenSSH's own rename refuses where the file system has hard links.
	storetest.RunTwo(t, func(t *testing.T) (a, b store.Store) {
		dir := filepath.Join(t.TempDir(), "repository")
		command := []string{"sh", "-c", "exec " + opensshServer + " -P hardlink"}
		return openDirect(t, dir, false, command...), openDirect(t, dir, false, command...)
	})
}
