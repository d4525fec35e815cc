package coordinator_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// keepSet makes a persistent set of the rig's volume, and returns its id.
func keepSet(t *testing.T, r *rig, ctxt vss.SnapshotContext) vss.GUID {
	t.Helper()
	c := deadline(t)
	s := r.open()
	must(t, s.InitializeForBackup(c, nil))
	must(t, s.SetContext(c, ctxt))
	if ctxt&vss.SnapshotContext(vss.AttrNoWriters) == 0 {
		must(t, r.from("InitializeForBackup", "PrepareForBackup"))
	} else {
		must(t, s.GatherWriterMetadata(c, nil))
		_, err := s.StartSnapshotSet(c)
		must(t, err)
		r.snap, err = r.add(c)
		must(t, err)
	}
	must(t, s.DoSnapshotSet(c, nil))
	p, err := s.SnapshotProperties(c, r.snap)
	must(t, err)
	must(t, s.Close())
	return p.SetID
}

// reopened is another session on the state of a rig.
func reopened(t *testing.T, r *rig) session.Session {
	t.Helper()
	o := r.o
	o.InProcess = nil
	s := open(t, o)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// TestGarbageInTheJournal keeps nothing from working but what it stands for, and
// is told.
func TestGarbageInTheJournal(t *testing.T) {
	r := newRig(t, "one")
	log := new(logBuffer)
	r.o.Log = log.logger()
	keepSet(t, r, vss.ContextAppRollback)
	journal := filepath.Join(r.o.StateDir, "journal")
	kept, err := filepath.Glob(filepath.Join(journal, "*.json"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%v, %v", kept, err)
	}
	good, err := os.ReadFile(kept[0])
	must(t, err)
	name := func() string { return filepath.Join(journal, vss.NewGUID().String()+".json") }
	wrong := []string{name(), name(), name(), name(), name()}
	must(t, os.WriteFile(wrong[0], []byte("{"), 0o600))
	must(t, os.WriteFile(wrong[1], good, 0o600)) // under a name not its own
	must(t, os.Mkdir(wrong[2], 0o700))
	must(t, syscall.Mkfifo(wrong[3], 0o600))
	must(t, os.WriteFile(wrong[4], nil, 0o600))
	must(t, os.Truncate(wrong[4], 1<<40))

	s := reopened(t, r)
	c := deadline(t)
	list, err := s.QuerySnapshots(c)
	if err != nil || len(list) != 1 {
		t.Errorf("%d shadow copies, error %v", len(list), err)
	}
	tree, err := s.Tree(c, r.snap)
	must(t, err)
	must(t, tree.Close())
	must(t, s.InitializeForBackup(c, nil))
	_, err = s.StartSnapshotSet(c)
	must(t, err)
	if n, err := s.DeleteSnapshots(c, r.snap, vss.ObjectSnapshot); n != 1 || err != nil {
		t.Errorf("%d deleted, error %v", n, err)
	}
	for _, w := range wrong {
		if !strings.Contains(log.String(), w) {
			t.Errorf("the log does not name %s", w)
		}
		if _, err := os.Lstat(w); err != nil {
			t.Errorf("what could not be read was taken away: %v", err)
		}
	}
}

// TestInterruptedJournalWrite: a journal file that was being written when its
// process died is no entry.
func TestInterruptedJournalWrite(t *testing.T) {
	r := newRig(t, "one")
	journal := filepath.Join(r.o.StateDir, "journal")
	must(t, os.MkdirAll(journal, 0o700))
	must(t, os.WriteFile(filepath.Join(journal, "."+vss.NewGUID().String()+".json.123.new"), []byte("{"), 0o600))
	log := new(logBuffer)
	r.o.Log = log.logger()
	must(t, r.to("BackupComplete"))
	if strings.Contains(log.String(), "cannot be read") {
		t.Errorf("it is taken for an entry: %s", log)
	}
}

// TestStateDirectoryMustBeOurs: what its journal names is deleted with our rights.
func TestStateDirectoryMustBeOurs(t *testing.T) {
	r := newRig(t)
	must(t, os.Mkdir(r.o.StateDir, 0o700))
	must(t, os.Chmod(r.o.StateDir, 0o777))
	if _, err := openErr(r.o); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("one that all can write to: %v", err)
	}
	must(t, os.Chmod(r.o.StateDir, 0o755))
	s, err := openErr(r.o)
	must(t, err)
	must(t, s.Close())
	if os.Geteuid() == 0 {
		must(t, os.Chown(r.o.StateDir, nobody, nobody))
		if _, err := openErr(r.o); err == nil || !strings.Contains(err.Error(), "belongs to user") {
			t.Errorf("another user's: %v", err)
		}
	}
	r.o.StateDir = "/proc/self/no"
	if _, err := openErr(r.o); err == nil || !strings.Contains(err.Error(), r.o.StateDir) {
		t.Errorf("one that cannot be made: %v", err)
	}
}

// TestFullStateDirectory: without a journal nothing is made, and what was made
// goes when it cannot be kept.
func TestFullStateDirectory(t *testing.T) {
	voltest.Need(t)
	v := voltest.Tmpfs(t, 1<<20)
	for _, at := range []string{"StartSnapshotSet", "PostCommit"} {
		t.Run(at, func(t *testing.T) {
			r := newRig(t, "one")
			r.o.StateDir = filepath.Join(v.Root, at)
			c := deadline(t)
			s := r.open()
			must(t, s.InitializeForBackup(c, nil))
			must(t, s.SetContext(c, vss.ContextAppRollback))
			must(t, r.from("InitializeForBackup", "StartSnapshotSet"))
			var err error
			if at == "StartSnapshotSet" {
				v.Fill(t, 0)
				err = r.from(at, "AddToSnapshotSet")
			} else {
				r.prov.at = func(step string) error {
					if step == at {
						v.Fill(t, 0)
					}
					return nil
				}
				err = r.from("StartSnapshotSet", "DoSnapshotSet")
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("error %v, want %v", err, syscall.ENOSPC)
			}
			v.Empty(t)
			must(t, s.Close())
			if l := left(r.o.StateDir, r.dir); len(l) > 0 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
}

// TestPersistentSets go through their whole life: made, found by another session,
// read, exposed, deleted; on a provider of whole volumes and on one that copies.
func TestPersistentSets(t *testing.T) {
	voltest.Need(t, "btrfs", "xfs")
	volumes := map[string]*voltest.Volume{"btrfs": voltest.Btrfs(t, voltest.SmallBtrfs), "reflink": voltest.XFS(t, voltest.SmallXFS)}
	for name, v := range volumes {
		for _, ctxt := range []vss.SnapshotContext{vss.ContextAppRollback, vss.ContextNASRollback, vss.ContextClientAccessibleWriters} {
			t.Run(name+"/"+ctxt.String(), func(t *testing.T) { persistent(t, v, name, ctxt) })
		}
	}
}

func persistent(t *testing.T, v *voltest.Volume, name string, ctxt vss.SnapshotContext) {
	r := newRig(t, "one")
	r.o.Providers = providers()
	r.dir = filepath.Join(v.Root, t.Name())
	w := r.writers[0]
	w.Dir = filepath.Join(r.dir, "data")
	must(t, os.MkdirAll(w.Dir, 0o755))
	file := filepath.Join(w.Dir, "f")
	must(t, os.WriteFile(file, []byte("then"), 0o640))
	set := keepSet(t, r, ctxt)
	wrote := r.log.Count("one", writer.EventFreeze) == 1
	if with := ctxt != vss.ContextNASRollback; wrote != with {
		t.Errorf("writers took part: %v, want %v", wrote, with)
	}
	must(t, os.WriteFile(file, []byte("and now"), 0o640))

	s := reopened(t, r)
	c := deadline(t)
	list, err := s.QuerySnapshots(c)
	must(t, err)
	if len(list) != 1 || list[0].ID != r.snap || list[0].SetID != set || list[0].Context != ctxt || list[0].Count != 1 ||
		list[0].Provider.Name != name || list[0].Volume != r.volume || list[0].State != vss.SnapshotCreated {
		t.Fatalf("found %+v", list)
	}
	loc, err := s.ResolvePath(c, file)
	must(t, err)
	wantCopied(t, s, r.snap, loc.Name, "then")

	at := filepath.Join(scratch(t), "exposed")
	must(t, os.Mkdir(at, 0o755))
	if got, err := s.ExposeSnapshot(c, r.snap, at); err != nil || got != at {
		t.Fatalf("exposed at %q, %v", got, err)
	}
	t.Cleanup(func() { syscall.Unmount(at, syscall.MNT_DETACH) })
	if got, err := os.ReadFile(filepath.Join(at, loc.Name)); err != nil || string(got) != "then" {
		t.Errorf("exposed file: %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(at, "x"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing to an exposed copy: %v", err)
	}
	if _, err := s.ExposeSnapshot(c, r.snap, at); !errors.Is(err, vss.ErrObjectAlreadyExists) {
		t.Errorf("exposed twice: %v", err)
	}
	if p, err := reopened(t, r).SnapshotProperties(c, r.snap); err != nil || p.Exposed != at {
		t.Errorf("properties %+v, %v", p, err)
	}
	must(t, s.UnexposeSnapshot(c, r.snap))
	if list, _ := os.ReadDir(at); len(list) > 0 {
		t.Errorf("still exposed: %v", list)
	}
	wantNoLive(t, s, r)

	if n, err := s.DeleteSnapshots(c, set, vss.ObjectSnapshotSet); n != 1 || err != nil {
		t.Errorf("%d deleted, %v", n, err)
	}
	if list, err := s.QuerySnapshots(c); len(list) != 0 || err != nil {
		t.Errorf("still there: %+v, %v", list, err)
	}
	if _, err := s.Tree(c, r.snap); !errors.Is(err, vss.ErrObjectNotFound) {
		t.Errorf("tree of a deleted copy: %v", err)
	}
	if l := left(r.o.StateDir, r.dir); len(l) > 0 {
		t.Errorf("left behind: %v", l)
	}
	if _, err := os.Lstat(filepath.Join(v.Root, ".sombra")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the area is left: %v", err)
	}
}

func wantCopied(t *testing.T, s session.Session, snap vss.GUID, name, want string) {
	t.Helper()
	tree, err := s.Tree(deadline(t), snap)
	must(t, err)
	defer tree.Close()
	f, err := tree.Open(deadline(t), name)
	must(t, err)
	defer f.Close()
	e, err := f.Stat(deadline(t))
	must(t, err)
	got, err := io.ReadAll(io.NewSectionReader(f, 0, e.Size))
	if err != nil || string(got) != want || e.Source != session.FromShadow {
		t.Errorf("%s is %q from %v, %v; want %q from the copy", name, got, e.Source, err, want)
	}
}

// wantNoLive checks that a copy whose journal has no scope shows the copy alone.
func wantNoLive(t *testing.T, s session.Session, r *rig) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(r.o.StateDir, "journal", "*.json"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	data, err := os.ReadFile(names[0])
	must(t, err)
	text := string(data)
	from := strings.Index(text, `"scope":`)
	to := strings.Index(text, `"needs_scope"`)
	if from < 0 || to < 0 {
		return // a provider of whole volumes
	}
	must(t, os.WriteFile(names[0], []byte(text[:from]+text[to:]), 0o600))
	must(t, os.WriteFile(filepath.Join(r.dir, "later"), []byte("x"), 0o644))
	loc, err := s.ResolvePath(deadline(t), filepath.Join(r.dir, "later"))
	must(t, err)
	tree, err := s.Tree(deadline(t), r.snap)
	must(t, err)
	defer tree.Close()
	if _, err := tree.Lstat(deadline(t), loc.Name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was never copied is shown: %v", err)
	}
	if _, err := tree.Lstat(deadline(t), path.Join(path.Dir(loc.Name), "data/f")); err != nil {
		t.Errorf("what was copied: %v", err)
	}
}

// TestAreaOfSomebodyElse: on a volume whose root belongs to a user, what lies
// where the area should be is refused, before and after the copy is made.
func TestAreaOfSomebodyElse(t *testing.T) {
	needRoot(t)
	voltest.Need(t, "btrfs", "xfs")
	prepare := map[string]func(t *testing.T, area, outside string){
		"a link": func(t *testing.T, area, outside string) { must(t, os.Symlink(outside, area)) },
		"his directory": func(t *testing.T, area, _ string) {
			must(t, os.Mkdir(area, 0o777))
			must(t, os.Chown(area, nobody, nobody))
		},
		"a file":           func(t *testing.T, area, _ string) { must(t, os.WriteFile(area, nil, 0o666)) },
		"a link to a root": func(t *testing.T, area, _ string) { must(t, os.Symlink("/", area)) },
	}
	for fs, v := range map[string]*voltest.Volume{"btrfs": voltest.Btrfs(t, voltest.SmallBtrfs), "xfs": voltest.XFS(t, voltest.SmallXFS)} {
		must(t, os.Chown(v.Root, nobody, nobody))
		area := filepath.Join(v.Root, ".sombra")
		for name, lay := range prepare {
			t.Run(fs+"/"+name, func(t *testing.T) {
				r := areaRig(t, v)
				outside := scratch(t)
				lay(t, area, outside)
				defer os.RemoveAll(area)
				if err := r.to("AddToSnapshotSet"); !errors.Is(err, vss.ErrProviderVeto) && !errors.Is(err, vss.ErrVolumeNotSupported) {
					t.Errorf("error %v", err)
				}
				must(t, r.s.Close())
				if list, _ := os.ReadDir(outside); len(list) > 0 {
					t.Errorf("something was made outside: %v", list)
				}
			})
		}
		t.Run(fs+"/swapped afterwards", func(t *testing.T) {
			r := areaRig(t, v)
			must(t, r.to("DoSnapshotSet"))
			must(t, os.Rename(area, area+".old"))
			must(t, os.Symlink(area+".old", area))
			if tree, err := r.s.Tree(deadline(t), r.snap); !errors.Is(err, vss.ErrProviderVeto) {
				t.Errorf("read through a link: %v", err)
				if err == nil {
					tree.Close()
				}
			}
			must(t, os.Remove(area))
			must(t, os.Rename(area+".old", area))
			tree, err := r.s.Tree(deadline(t), r.snap)
			must(t, err)
			must(t, tree.Close())
		})
	}
}

func areaRig(t *testing.T, v *voltest.Volume) *rig {
	r := newRig(t, "one")
	r.o.Providers = []provider.Provider{providers()[0], providers()[1]}
	w := r.writers[0]
	w.Dir = filepath.Join(v.Root, "data")
	must(t, os.MkdirAll(w.Dir, 0o755))
	must(t, os.WriteFile(filepath.Join(w.Dir, "f"), []byte("x"), 0o644))
	return r
}
