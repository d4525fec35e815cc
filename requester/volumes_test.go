//go:build linux

package requester_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
)

func TestBackupOnBtrfsWithNestedSubvolumesAndBinds(t *testing.T) {
	voltest.Need(t, "btrfs")
	v := voltest.Btrfs(t, 0)
	w := newWorldIn(t, filepath.Join(v.Root, "data"))
	voltest.Subvolume(t, w.path("nested"))
	w.write("app/db", "the data")
	w.write("plain", "plain")
	w.write("nested/deep/app.db", "more data")
	w.write("nested/plain", "nested plain")
	w.mkdir("bound")
	voltest.Bind(t, w.path("app"), w.path("bound"))
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "main", true), files(m, "", "main", w.path("app"), "*", true),
			files(m, "", "main", w.path("nested/deep"), "*", false)}
	})
	w.writers = []*docWriter{d}
	before := tree(t, w.dir)
	res := w.backup(requester.Request{Paths: []string{w.dir}, Consistency: session.LevelApp})
	if res.Outcome != requester.Complete || res.Level != "crash" {
		t.Fatalf("outcome %v, level %s: %s %+v", res.Outcome, res.Level, leftOut(res.LeftOut), res.Failures)
	}
	if res.Receipt == nil || len(res.Receipt.Volumes) != 2 {
		t.Errorf("receipt %+v: both subvolumes must be in the set", res.Receipt)
	}
	n := 0
	for e, err := range res.Record.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(e.Path, "/db") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("db is %d times in the table: a bind mount must not double it", n)
	}
	for _, f := range []string{"app/db", "plain", "nested/deep", "nested/plain"} {
		if err := os.RemoveAll(w.path(f)); err != nil {
			t.Fatal(err)
		}
	}
	w.writers = []*docWriter{d.again()}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Complete {
		t.Errorf("restore: outcome %v: %s %+v", back.Outcome, leftOut(back.LeftOut), back.Failures)
	}
	after := tree(t, w.dir)
	for _, f := range []string{"app/db", "plain", "nested/deep/app.db", "nested/plain"} {
		if after[f] != before[f] {
			t.Errorf("%s: %.100s, want %.100s", f, after[f], before[f])
		}
	}
	if _, err := os.Lstat(filepath.Join(v.Root, ".sombra")); err == nil {
		if list, _ := os.ReadDir(filepath.Join(v.Root, ".sombra")); len(list) > 0 {
			t.Errorf("shadow copies are left: %v", list)
		}
	}
}

func TestBackupOnXFSByReflink(t *testing.T) {
	voltest.Need(t, "xfs")
	v := voltest.XFS(t, 0)
	w := newWorldIn(t, filepath.Join(v.Root, "data"))
	w.write("app/db", "the data")
	w.write("plain", "plain")
	if err := os.Link(w.path("app/db"), w.path("alias")); err != nil {
		t.Fatal(err)
	}
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "main", true), files(m, "", "main", w.path("app"), "*", true)}
	})
	w.writers = []*docWriter{d}
	before := tree(t, w.dir)
	res := w.backup(requester.Request{Paths: []string{w.dir}})
	if res.Outcome != requester.Complete {
		t.Fatalf("outcome %v: %s %+v", res.Outcome, leftOut(res.LeftOut), res.Failures)
	}
	if got := res.Plan.Volumes[0].Provider; got != "reflink" {
		t.Errorf("provider %q", got)
	}
	w.wipe()
	w.writers = []*docWriter{d.again()}
	if back := w.restore(res.Record, requester.RestoreRequest{}); back.Outcome != requester.Complete {
		t.Errorf("restore: outcome %v: %+v", back.Outcome, back.Failures)
	}
	diffTrees(t, tree(t, w.dir), before)
	a, _ := os.Stat(w.path("app/db"))
	b, err := os.Stat(w.path("alias"))
	if err != nil || !os.SameFile(a, b) {
		t.Errorf("the other name of a component's file is no hard link (R-SET-19): %v", err)
	}
}
