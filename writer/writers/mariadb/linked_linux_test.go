package mariadb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// frozen is a writer at whose Thaw something happens first.
type frozen struct {
	*writer.Remote
	do func() error
}

func (f frozen) Thaw(ctx context.Context, e *writer.Event) error {
	return errors.Join(f.do(), f.Remote.Thaw(ctx, e))
}

// copied copies a directory's content with owners and modes.
func copied(from, to string) error {
	out, err := exec.Command("cp", "-a", "--", from+"/.", to).CombinedOutput()
	if err != nil {
		return errors.New(string(out))
	}
	return nil
}

// chain is a full and a log backup of a server, as files.
type chain struct {
	*rig
	real, full, logs string // directories: the data's, and what was saved
	doc              *metadata.WriterMetadata
	owner            writer.Owner
	base, last       played
}

// newChain backs up a server that knows its data directory by a symbolic link: one
// number is in the full backup, two more are in the log backup, and a fourth is lost.
func newChain(t *testing.T) *chain {
	t.Helper()
	dir, err := dbtest.Scratch("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &chain{real: filepath.Join(dir, "volume"), full: filepath.Join(dir, "full"), logs: filepath.Join(dir, "logs")}
	link := filepath.Join(dir, "data")
	if err := errors.Join(os.Mkdir(c.real, 0o700), os.Symlink(c.real, link)); err != nil {
		t.Fatal(err)
	}
	c.rig = newRig(t, dbtest.MariaDBOptions{Dir: link})
	c.sql("INSERT INTO d.t VALUES (1)")
	c.owner = c.spec().Owner
	w, _, err := c.host(t, c.spec())
	if err != nil {
		t.Fatal(err)
	}
	// A server that stands still for the while of a copy is as good as one instant.
	at := frozen{Remote: w, do: func() error {
		defer syscall.Kill(c.m.PID, syscall.SIGCONT)
		return errors.Join(syscall.Kill(c.m.PID, syscall.SIGSTOP), copied(c.real, c.full))
	}}
	if c.base, err = play(t.Context(), at, vss.BackupTypeFull, "", true); err != nil {
		t.Fatal(err)
	}
	if c.doc, err = w.Identify(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.sql("INSERT INTO d.t VALUES (2)", "INSERT INTO d.t VALUES (3)")
	var saved error
	c.last, err = playUntil(t.Context(), w, vss.BackupTypeLog, c.base.stamp, true, func() { saved = copied(spoolBelow(c.real), c.logs) })
	if err := errors.Join(err, saved); err != nil {
		t.Fatal(err)
	}
	c.sql("INSERT INTO d.t VALUES (4)")
	return c
}

// restore restores both backups, the one after the other.
func (c *chain) restore() error {
	return c.restoreTo(func(*metadata.Component) error { return nil })
}

// restoreTo does so with what wish sets in each component.
func (c *chain) restoreTo(wish func(*metadata.Component) error) error {
	c.t.Helper()
	t := c.t.(*testing.T)
	specs, err := Kind{}.Discover(t.Context(), writer.Discovery{Stored: []writer.Stored{{Metadata: c.doc, Owner: c.owner}}})
	if err != nil || len(specs) != 1 {
		t.Fatalf("Discover gives %d specs for a stored writer, %v", len(specs), err)
	}
	w, _, err := c.host(t, specs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []struct {
		played
		previous, from, to string
	}{{c.base, "", c.full, c.real}, {c.last, c.base.stamp, c.logs, spoolBelow(c.real)}} {
		e := restoreOf(t, c.doc, vss.BackupStamp(op.previous), op.previous == "")
		part, _ := e.Components.Component("", c.real)
		if err := errors.Join(part.SetBackupMetadata(op.notes), wish(part)); err != nil {
			t.Fatal(err)
		}
		if err := writer.Notify(t.Context(), w, writer.EventPreRestore, e); err != nil {
			return err
		}
		part, _ = e.Components.Component("", c.real)
		if err := errors.Join(copied(op.from, op.to), part.SetFileRestoreStatus(vss.FileRestoreStatusAll)); err != nil {
			t.Fatal(err)
		}
		if err := writer.Notify(t.Context(), w, writer.EventPostRestore, e); err != nil {
			return err
		}
	}
	return nil
}

// A server that has its data behind a symbolic link is rolled forward as any other:
// in its place, and on a host that has neither the data nor the link.
func TestAServerBehindALinkIsRolledForward(t *testing.T) {
	c := newChain(t)
	if err := c.restore(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.check(); err != nil || n != 3 {
		t.Fatalf("restored in place it holds %d numbers, %v; want 3", n, err)
	}
	c.killServer()
	c.m.Kill()
	if err := errors.Join(os.Remove(c.m.Dir), os.RemoveAll(c.real), os.Mkdir(c.real, 0o700), os.Chown(c.real, int(c.owner.UID), int(c.owner.GID))); err != nil {
		t.Fatal(err)
	}
	if err := c.restore(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(c.real, c.m.Dir); err != nil {
		t.Fatal(err)
	}
	if n, err := c.check(); err != nil || n != 3 {
		t.Fatalf("restored on an empty host it holds %d numbers, %v; want 3", n, err)
	}
}

// A server is restored to the point that was asked for, or the restore fails and keeps
// what was there: the next one puts all right.
func TestAChainIsRestoredToThePointAskedForOrNotAtAll(t *testing.T) {
	c := newChain(t)
	start, err := parseStamp(vss.BackupStamp(c.base.stamp))
	if err != nil {
		t.Fatal(err)
	}
	base, err := parseState(start.gtid)
	if err != nil || len(base) != 1 {
		t.Fatalf("the full backup is of GTID %q, %v", start.gtid, err)
	}
	gtid := func(domain, server uint32, after int) string {
		return fmt.Sprintf(`"Target GTID"="%d-%d-%d"`, domain, server, base[0].seq+uint64(after))
	}
	server := base[0].server
	for _, one := range []struct {
		options string
		roll    vss.RollForwardType
		want    uint64 // numbers in the table; 0: it is refused
		says    string
	}{
		{gtid(0, server, 3), 0, 0, "restore a later log backup"},
		{gtid(0, server, -1), 0, 0, "restore an earlier backup"},
		{gtid(0, server+1, 1), 0, 0, "give a transaction that is in the logs"},
		{fmt.Sprintf(`"Target Position"="%s:99999999"`, start.file), 0, 0, "restore a later log backup"},
		{gtid(0, server, 0), 0, 1, ""},
		{gtid(0, server, 1), 0, 2, ""},
		{gtid(0, server, 2), 0, 3, ""}, // the last one that the logs have
		{`"Target"="end"`, 0, 3, ""},
		{"", vss.RollForwardNone, 1, ""},
		{"", vss.RollForwardAll, 3, ""},
	} {
		err := c.restoreTo(func(part *metadata.Component) error {
			err := part.SetRestoreOptions(one.options)
			if one.roll != vss.RollForwardUndefined {
				err = errors.Join(err, part.SetRollForward(one.roll, ""))
			}
			return err
		})
		if one.want == 0 {
			c.wantStopped(err, one.says)
			if err != nil && (!strings.Contains(err.Error(), "left stopped") || !strings.Contains(err.Error(), asideName)) {
				t.Errorf("%s: %v, which does not say where things are", one.options, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s, roll-forward %v: %v", one.options, one.roll, err)
		}
		if n, err := c.check(); err != nil || n != one.want {
			t.Errorf("%s, roll-forward %v: it holds %d numbers, %v; want %d", one.options, one.roll, n, err, one.want)
		}
	}
}

// Logs that a backup has and that are not there are not passed over.
func TestLogsThatAreMissingAreNoSuccess(t *testing.T) {
	dir := t.TempDir()
	p := restoredFiles{dir: dir, logs: dir, base: "binlog", spool: spoolBelow(dir), due: true}
	if err := (&dbWriter{dir: dir}).replay(t.Context(), target{}, p, nil, nil); err == nil || !strings.Contains(err.Error(), p.spool) {
		t.Errorf("error %v, want one that names %s", err, p.spool)
	}
	if err := (&dbWriter{dir: dir}).replay(t.Context(), target{none: true}, p, nil, nil); err != nil {
		t.Errorf("with nothing to be replayed: %v", err)
	}
}
