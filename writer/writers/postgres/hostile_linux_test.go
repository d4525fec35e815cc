package postgres

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/writer"
)

// TestAProgramOfTheServersNameDoesNotTakeItsPlace: whoever gets into the directory of
// another's data can run a program there that is called like the server.
func TestAProgramOfTheServersNameDoesNotTakeItsPlace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory to another user")
	}
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	find := func() bool { return slices.ContainsFunc(servers(), func(s server) bool { return s.data == data }) }
	decoy := dbtest.Decoy{Name: "postgres", Dir: data, Files: []string{"PG_VERSION"}}
	for uid, want := range map[int]bool{0: true, 12345: false} {
		got, err := decoy.Found(t.TempDir(), uid, find)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("in a directory of user id %d it is found: %v, want %v", uid, got, want)
		}
	}
}

// TestRecoveryStaysInTheRestoredDirectory: restored settings name the directory that
// the cluster was in. There the live one may lie, and a restore beside it must not
// touch that.
func TestRecoveryStaysInTheRestoredDirectory(t *testing.T) {
	dir, scratch := t.TempDir(), t.TempDir()
	text := "data_directory = '/var/lib/somebody-elses'\narchive_command = 'touch /tmp/x'\nrestore_command = 'touch /tmp/x'\nlisten_addresses = '*'\n"
	for _, name := range []string{"postgresql.conf", "postgresql.auto.conf"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := newWriter(config{Data: "/var/lib/somebody-elses"}, writer.Spec{})
	for _, d := range []string{dir, scratch, filepath.Dir(dir), filepath.Dir(scratch)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	args, err := w.recoveryArgs(places{data: dir, wal: filepath.Join(dir, "pg_wal"), beside: true}, target{kind: toInstant}, "", scratch)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := w.programs()
	if err != nil {
		t.Fatal(err)
	}
	for setting, want := range map[string]string{"data_directory": dir, "archive_command": "", "restore_command": "/bin/false", "listen_addresses": ""} {
		cmd := exec.Command(filepath.Join(bin, "postgres"), append([]string{"-C", setting}, args...)...)
		cmd.Dir = "/"
		if os.Geteuid() == 0 { // as which the server says nothing
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
		}
		got, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s = %q, %v; want %q", setting, got, err, want)
		}
	}
}

// TestServerThatAnswersWithoutEndIsCutOff: it is its owner's, who is nobody to have
// this machine run out of memory.
func TestServerThatAnswersWithoutEndIsCutOff(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var sent atomic.Int64
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = c.Read(make([]byte, 4096)) // the greeting
		}
		for b := bytes.Repeat([]byte("S\x00\x00\x00\x08a\x00b\x00"), 1<<16); err == nil && sent.Load() < 200<<20; {
			sent.Add(int64(len(b)))
			_, err = c.Write(b)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w := newWriter(config{Data: dir, Role: "x"}, writer.Spec{})
	if _, err := w.connect(ctx, &postmaster{socket: dir, port: 5432}); err == nil {
		t.Fatal("it let us in")
	}
	if n := sent.Load() >> 20; n > 100 {
		t.Errorf("%d MiB were taken", n)
	}
}

func TestProcessOfAnotherUserIsNotThisOnes(t *testing.T) {
	if !runsAs(os.Getpid(), os.Geteuid()) || runsAs(os.Getpid(), os.Geteuid()+1) || runsAs(1<<30, os.Geteuid()) {
		t.Error("whose a process is was not told")
	}
}
