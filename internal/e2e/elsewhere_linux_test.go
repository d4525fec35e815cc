package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/local"
	"github.com/sombra-backup/sombra/requester"
)

// onOtherMachine runs what follows it with another host name, another machine
// id, and another, empty volume at the place of the first one.
const onOtherMachine = `set -e
hostname elsewhere
mount --bind "$1" "$2"
if [ -e /etc/machine-id ]; then mount --bind "$3" /etc/machine-id; fi
shift 3
exec "$@"`

// moved is a repository on a machine that did not make it.
type moved struct {
	*machine
	res  requester.Result
	db   string // its path on both machines
	tree string // that of the tree
	// before and after bracket the backup.
	before, after time.Time
	want          map[string]string
	l             *load
	// place is where the volume's content lies on the other machine.
	place string
	root  string
}

// newMoved backs a live database and a tree up on one machine, destroys all that
// this machine had, and sets up another with nothing but the repository.
func newMoved(t *testing.T) *moved {
	v, other := voltest.Ext4(t, 0), voltest.XFS(t, 0)
	first := newMachine(t)
	s := &moved{root: v.Root, place: other.Root, tree: filepath.Join(v.Root, "srv", "tree"), db: filepath.Join(v.Root, "srv", "app.db")}
	makeTree(t, s.tree)
	s.want = treeOf(t, s.tree, false)
	s.l = newLoad(t, s.db, "wal")
	s.before = time.Now()
	s.res = first.must("backup", "--json", v.Root).summary()
	s.after = time.Now()
	s.l.stop()

	repo := filepath.Join(scratch(t), "from", "elsewhere")
	if err := os.MkdirAll(filepath.Dir(repo), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Rename(first.repo, repo), os.RemoveAll(first.dir), os.RemoveAll(filepath.Join(v.Root, "srv"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.machine = bareMachine(t, repo)
	id := filepath.Join(s.dir, "machine-id")
	write(t, id, strings.Repeat("0123456789abcdef", 2)+"\n")
	s.through = []string{"unshare", "--mount", "--uts", "sh", "-c", onOtherMachine, "sh", s.place, v.Root, id}
	if out, err := exec.Command("unshare", "--mount", "--uts", "true").CombinedOutput(); err != nil {
		voltest.Skip(t, "no namespaces: %v: %s", err, out)
	}
	return s
}

// came checks that database and tree are below a directory as they were.
func (s *moved) came(dir, root string) {
	s.t.Helper()
	at := func(p string) string { return filepath.Join(dir, strings.TrimPrefix(p, root)) }
	same(s.t, "tree", treeOf(s.t, at(s.tree), false), s.want)
	s.l.shows(readCopy(s.t, at(s.db)), s.before, s.after)
	if _, err := os.Stat(at(s.db) + "-shm"); err == nil {
		s.t.Error("a -shm file was restored")
	}
}

// TestRestoreOnAnotherMachine: with the repository and the password alone, on a
// machine that has neither the configuration, the state, the database nor the
// volume it was on, everything comes back through the writers.
func TestRestoreOnAnotherMachine(t *testing.T) {
	s := newMoved(t)
	s.must("backups").says(s.res.ID[:8])
	s.must("show", "latest").says("app.db")
	o := s.must("restore", "latest").says("SQLite", s.db+": restored")
	t.Log(o.out)
	s.came(s.place, s.root)

	dir := filepath.Join(s.dir, "extract")
	s.must("extract", "latest", dir)
	s.came(dir, "")
	s.must("check", "--read-data")
}

// TestRestoreWithDocumentsDamaged: where the documents of a record cannot be
// read a restore with writers is refused, names the document and the way out,
// and changes nothing; restore --no-writers works from the file table.
func TestRestoreWithDocumentsDamaged(t *testing.T) {
	s := newMoved(t)
	s.damageDocuments()
	o := s.sombra("restore", "latest").exits(1).says("document", "--no-writers")
	t.Log(o.err)
	if entries, err := os.ReadDir(s.place); err != nil || len(entries) > 0 {
		t.Errorf("a restore that was refused has made %v, %v", entries, err)
	}
	o = s.sombra("restore", "--no-writers", "latest").exits(0)
	t.Log(o.out)
	s.came(s.place, s.root)
	s.sombra("check", "--read-data").exits(1).says("document bcd.xml", "damaged")
}

// damageDocuments flips a bit wherever the record's documents lie and nothing
// else of the record does.
func (s *moved) damageDocuments() {
	s.t.Helper()
	documents := s.pieces(func(ctx context.Context, _ *repository.Repository, rec *repository.Record) error {
		for name := range rec.Documents {
			if _, err := rec.Document(ctx, name, 1<<30); err != nil {
				return err
			}
		}
		return nil
	})
	rest := s.pieces(func(ctx context.Context, repo *repository.Repository, rec *repository.Record) error {
		for e, err := range rec.Table().All(ctx) {
			if err != nil {
				return err
			}
			if err := repo.Verify(ctx, e.Content); err != nil {
				return err
			}
		}
		return nil
	})
	damaged := 0
	for _, d := range documents {
		if !slices.ContainsFunc(rest, d.overlaps) {
			d.flip(s.t, s.repo)
			damaged++
		}
	}
	if damaged == 0 {
		s.t.Fatal("there is nothing of the documents alone")
	}
}

// pieces are the parts of packs that are read by an opened record.
func (s *moved) pieces(read func(context.Context, *repository.Repository, *repository.Record) error) []piece {
	s.t.Helper()
	files, err := local.Open(s.repo)
	if err != nil {
		s.t.Fatal(err)
	}
	w := &watched{Store: files}
	repo, err := repository.Open(s.t.Context(), w, []byte("e2e"), repository.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer repo.Close()
	rec, err := repo.Record(s.t.Context(), s.res.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	w.pieces = nil
	if err := read(s.t.Context(), repo, rec); err != nil {
		s.t.Fatal(err)
	}
	return w.pieces
}

// watched notes what is read of a store.
type watched struct {
	store.Store
	pieces []piece
}

func (w *watched) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	w.pieces = append(w.pieces, piece{name, offset, int64(len(p))})
	return w.Store.ReadAt(ctx, name, p, offset)
}

// piece is a part of an object.
type piece struct {
	object         string
	offset, length int64
}

func (p piece) overlaps(q piece) bool {
	return p.object == q.object && p.offset < q.offset+q.length && q.offset < p.offset+p.length
}

// flip changes a bit in its middle.
func (p piece) flip(t *testing.T, repo string) {
	t.Helper()
	name := filepath.Join(repo, p.object)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	was := bytes.Clone(data)
	data[p.offset+min(p.length, int64(len(data))-p.offset)/2] ^= 0x10
	if bytes.Equal(was, data) {
		t.Fatal("nothing was changed")
	}
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
