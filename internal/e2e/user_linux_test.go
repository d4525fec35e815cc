package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// userOf gives a machine to an ordinary user, with all he needs and no more.
func userOf(t *testing.T) *machine {
	t.Helper()
	voltest.Need(t) // only root can become another user
	m := bareMachine(t, "")
	m.repo = filepath.Join(m.dir, "repository")
	m.user = &syscall.Credential{Uid: nobody, Gid: nobody}
	giveTo(t, m.dir)
	return m
}

// giveTo gives everything below a directory to the ordinary user.
func giveTo(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(p, nobody, nobody)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOrdinaryUserBacksUpAndRestores: without any rights, on plain ext4, a user
// backs up his directory and his live database at one command, and gets both
// back.
func TestOrdinaryUserBacksUpAndRestores(t *testing.T) {
	v := voltest.Ext4(t, 0)
	m := userOf(t)
	m.must("init")
	home := filepath.Join(v.Root, "home")
	tree, db := filepath.Join(home, "tree"), filepath.Join(home, "app.db")
	makeTree(t, tree)
	giveTo(t, home)
	l := newLoadAs(t, db, "wal", m.user)
	m.must("plan", home).says("not root", "app for 1 component")
	before := time.Now()
	o := m.must("backup", "--json", home)
	after := time.Now()
	if list := m.left(v.Root); len(list) > 0 {
		t.Errorf("left after the backup: %v", list)
	}
	l.stop()
	want := treeOf(t, tree, false)

	dir := filepath.Join(m.dir, "extract")
	m.must("extract", o.summary().ID, dir)
	same(t, "extracted", treeOf(t, filepath.Join(dir, tree), false), want)
	l.shows(readCopy(t, filepath.Join(dir, db)), before, after)

	if err := os.RemoveAll(tree); err != nil {
		t.Fatal(err)
	}
	write(t, db, "no database any more")
	write(t, db+"-wal", "nor is this its log")
	giveTo(t, home)
	m.must("restore", "latest").says(db + ": restored")
	same(t, "restored", treeOf(t, tree, false), want)
	l.shows(readCopy(t, db), before, after)
	m.must("check", "--read-data")
}

// TestDemoPasses: the demonstration passes on plain ext4, for root and for an
// ordinary user.
func TestDemoPasses(t *testing.T) {
	for _, who := range []string{"root", "an ordinary user"} {
		t.Run(who, func(t *testing.T) {
			v := voltest.Ext4(t, 256<<20)
			m := bareMachine(t, "")
			if who != "root" {
				m = userOf(t)
			}
			dir := filepath.Join(v.Root, "demo")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if who != "root" {
				giveTo(t, dir)
			}
			o := m.must("demo", "--dir", dir).says("the demo has passed", "freeze receipt")
			t.Log(o.out)
			if list := names(t, dir); len(list) > 0 {
				t.Errorf("the demo has left %v", list)
			}
		})
	}
}
