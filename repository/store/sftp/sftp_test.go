package sftp_test

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/retry"
	"github.com/sombra-backup/sombra/repository/store/sftp"
	"github.com/sombra-backup/sombra/repository/store/storetest"
	"github.com/sombra-backup/sombra/repository/store/storetest/server"
)

var folders atomic.Int64

// place is a folder of the server that is not there yet.
func place(srv *server.SSH) string {
	return filepath.Join(srv.Dir, string(rune('a'+folders.Add(1)%26)), "repository", string(rune('a'+folders.Add(1)/26)))
}

func open(t *testing.T, srv *server.SSH, dir string) *sftp.Store {
	t.Helper()
	l, err := sftp.Parse(&url.URL{Scheme: "sftp", Host: srv.Host, Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	st := sftp.Open(l, sftp.Options{Command: srv.Command})
	t.Cleanup(func() { st.Close() })
	return st
}

func TestStoreKeepsThePromisesOfStorage(t *testing.T) {
	srv := server.StartSSH(t)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, srv, place(srv)) })
	storetest.RunTwo(t, func(t *testing.T) (store.Store, store.Store) {
		dir := place(srv)
		return open(t, srv, dir), open(t, srv, dir)
	})
}

func TestServersWithAnUnknownOrAnotherHostKeyAreRefused(t *testing.T) {
	srv := server.StartSSH(t)
	for name, known := range map[string]string{
		"unknown": "",
		"another": "[127.0.0.1]:" + srv.Addr[len("127.0.0.1:"):] + " ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n",
	} {
		if err := os.WriteFile(srv.KnownHosts, []byte(known), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := open(t, srv, place(srv)).Stat(t.Context(), "config")
		if err == nil || !store.IsPermanent(err) || !strings.Contains(err.Error(), "erification failed") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALostConnectionIsMadeAnew(t *testing.T) {
	srv := server.StartSSH(t)
	st := open(t, srv, place(srv))
	data := bytes.Repeat([]byte("data"), 1<<20)
	if err := st.Put(t.Context(), "a", data); err != nil {
		t.Fatal(err)
	}
	st.Close()
	if _, err := st.Stat(t.Context(), "a"); err != nil {
		t.Errorf("after the connection was closed: %v", err)
	}
	// Lost while something is on its way: that fails, for another try to mend.
	patient := retry.New(st, retry.Options{First: time.Millisecond})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			time.Sleep(30 * time.Millisecond)
			st.Close()
		}
	}()
	for i := 0; ; i++ {
		name := fmt.Sprintf("b/%d", i)
		if err := patient.Put(t.Context(), name, data); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, len(data))
		if n, err := patient.ReadAt(t.Context(), name, p, 0); n != len(p) || err != nil || !bytes.Equal(p, data) {
			t.Fatalf("%s reads as %d bytes: %v", name, n, err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestAConnectionThatStandsStillIsGivenUp(t *testing.T) {
	l := sftp.Location{Host: "host", Dir: "/x"}
	st := sftp.Open(l, sftp.Options{Command: []string{"sh", "-c", "sleep 600"}, Stall: 200 * time.Millisecond})
	defer st.Close()
	begun := time.Now()
	_, err := st.Stat(t.Context(), "a")
	if err == nil || store.IsPermanent(err) || !strings.Contains(err.Error(), "stands still") {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestRemainsOfPutsAreSwept(t *testing.T) {
	srv := server.StartSSH(t)
	dir := place(srv)
	st := open(t, srv, dir)
	if err := st.Put(t.Context(), "data/aa/x", []byte("x")); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-48 * time.Hour)
	old, young := filepath.Join(dir, "data", "aa", ".sombra-tmp-old"), filepath.Join(dir, "data", "aa", ".sombra-tmp-young")
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, []byte("part"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	if err := st.Sweep(t.Context(), 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(old))
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v: want x and what is young", entries, err)
	}
	for _, name := range []string{dir, filepath.Join(dir, "data")} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"sftp://u@h:22/x", "sftp://h/~/x?fsync=no", "sftp://h/~", "sftp://h//a/../..", "sftp://-h/x", "sftp://[::1]:22/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		l, err := sftp.Parse(u)
		if err != nil {
			return
		}
		if l.Host == "" || l.Host[0] == '-' || strings.HasPrefix(l.User, "-") || l.Dir == "" || strings.HasPrefix(l.Dir, "..") {
			t.Errorf("%q became %+v", s, l)
		}
	})
}
