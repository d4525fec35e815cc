package mariadb

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

// TestNothingIsServedWhereAnybodyCanPutFiles: in a directory such as /tmp, which is
// root's and open to all, anybody can make what looks like a data directory, with
// links that would have the writer, as root, change somebody else's files.
func TestNothingIsServedWhereAnybodyCanPutFiles(t *testing.T) {
	ctx, dir, victim := context.Background(), t.TempDir(), t.TempDir()
	for _, name := range []string{"aria_log_control", "ibdata1"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "mysql"), 0o755); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(victim, "binlog.000001")
	if err := os.WriteFile(theirs, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, spoolBelow(dir)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(dir, 0o1777); err != nil {
		t.Fatal(err)
	}
	specs, err := Kind{}.Discover(ctx, writer.Discovery{Auto: true, Paths: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		w, err := Kind{}.New(ctx, s)
		if err != nil {
			continue
		}
		t.Errorf("%s is served", s.Name)
		w.Abort(ctx, &writer.Event{})
	}
	if _, err := os.Stat(theirs); err != nil {
		t.Errorf("a file that is somebody else's: %v", err)
	}
}

// TestSpoolThatIsALinkIsNotFollowed: what the links lead to is not the writer's.
func TestSpoolThatIsALinkIsNotFollowed(t *testing.T) {
	ctx, dir, elsewhere := context.Background(), t.TempDir(), t.TempDir()
	other := filepath.Join(elsewhere, "binlog.000001")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "mysql"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, spoolBelow(dir)); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(spec{settings: settings{Datadir: dir}, Restore: true})
	if err != nil {
		t.Fatal(err)
	}
	w, err := Kind{}.New(ctx, writer.Spec{Config: raw})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(ctx, &writer.Event{}); err == nil {
		t.Error("a link in the place of the spool directory is no error")
	}
	if err := (&dbWriter{}).replay(ctx, target{none: true}, restoredFiles{spool: spoolBelow(dir)}, nil, nil); err == nil {
		t.Error("nor is it one to a restore")
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("a log elsewhere: %v", err)
	}
}

// TestServerThatAnswersWithoutEndIsCutOff: it is its owner's, who is nobody to have
// this machine run out of memory.
func TestServerThatAnswersWithoutEndIsCutOff(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var sent atomic.Int64
	go func() {
		c, err := l.Accept()
		const most = 1<<24 - 1 // of a packet, which goes on in the next one
		for i, b := 0, make([]byte, 4+most); err == nil && sent.Load() < 200<<20; i++ {
			copy(b, []byte{0xff, 0xff, 0xff, byte(i)})
			sent.Add(int64(len(b)))
			_, err = c.Write(b)
		}
		if err == nil {
			c.Close()
		}
	}()
	s, err := dial(&settings{}, socket, login{user: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.db.PingContext(ctx); err == nil {
		t.Fatal("it let us in")
	}
	if n := sent.Load() >> 20; n > 100 {
		t.Errorf("%d MiB were taken", n)
	}
}
