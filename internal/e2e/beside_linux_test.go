package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
)

// One new target for the directory of a cluster restores it beside the one that
// runs, which is not touched; what was restored is recovered, and starts by itself.
func TestPostgresIsRestoredBesideTheLiveCluster(t *testing.T) {
	m := newMachine(t)
	c := newPostgres(t, m, dbtest.PostgresOptions{}, "      logs: true\n")
	c.add(10)
	m.must("backup", "--type", "full", c.Dir)
	c.add(5)
	m.must("backup", "--type", "log", "--strict-type", c.Dir)
	c.add(100)
	served := func() string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(c.Dir, "postmaster.pid"))
		if err != nil {
			t.Fatal(err)
		}
		return string(bytes.Split(b, []byte("\n"))[0])
	}
	pid, control := served(), inodeOf(t, filepath.Join(c.Dir, "global", "pg_control"))
	beside := c.Dir + "-beside"
	info, err := os.Stat(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Mkdir(beside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(beside, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.halt(beside) })
	m.must("restore", "latest", "--new-target", c.Dir+"="+beside)
	c.has(115)
	if now := served(); now != pid {
		t.Errorf("the live server is process %s and was %s", now, pid)
	}
	if now := inodeOf(t, filepath.Join(c.Dir, "global", "pg_control")); now != control {
		t.Error("the live cluster's files were replaced")
	}
	c.nothingAside(c.Dir)
	other, err := dbtest.StartPostgres(t.Context(), dbtest.PostgresOptions{Dir: beside})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}()
	if other.Socket == c.Socket {
		t.Fatal("both servers have the same socket")
	}
	restored := &pgCluster{Postgres: other, t: t, m: m}
	restored.has(15)
	restored.nothingAside(beside)
	restored.add(1)
	c.has(115)
	restored.has(16)
}

func inodeOf(t *testing.T, name string) string {
	t.Helper()
	i, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	s := i.Sys().(*syscall.Stat_t)
	return fmt.Sprint(s.Dev, s.Ino)
}
