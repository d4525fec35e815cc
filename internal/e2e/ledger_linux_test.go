package e2e

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/session"
)

// ledgerClient commits numbers: n into a SQLite database on one volume and, only
// after that is acknowledged, into a file on another, which it fsyncs under the
// lock of the file's writer.
func ledgerClient(args []string) error {
	dbPath, file, lock := args[0], args[1], args[2]
	db, err := sql.Open("sqlite", "file:"+dbPath+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(20000)&_txlock=immediate")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS ledger (n INTEGER PRIMARY KEY)"); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	l, err := os.OpenFile(lock, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	for n := int64(1); ; n++ {
		if _, err := db.Exec("INSERT INTO ledger VALUES (?)", n); err != nil {
			return fmt.Errorf("transaction %d: %w", n, err)
		}
		if err := unix.Flock(int(l.Fd()), unix.LOCK_SH); err != nil {
			return err
		}
		_, err := f.WriteAt(fmt.Appendf(nil, "%020d\n", n), 0)
		if err == nil {
			err = f.Sync()
		}
		if err := errors.Join(err, unix.Flock(int(l.Fd()), unix.LOCK_UN)); err != nil {
			return err
		}
	}
}

// dirtClient rewrites a file beside the database all the time, so that a shadow
// copy of its volume takes a while: the two volumes' copies are then far enough
// apart for everything that does not hold to show.
func dirtClient(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for n := int64(0); ; n++ {
		if _, err := f.WriteAt(block, n%256*int64(len(block))); err != nil {
			return err
		}
		time.Sleep(4 * time.Millisecond)
	}
}

const ledgerWriter = `<TestWriter usage="USER_DATA" lockFile="%s">
  <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always" rebootRequired="no"/>
  <Component componentType="filegroup" componentName="Number" selectable="yes">
    <ComponentFile path="%s" filespec="number" recursive="no"/>
  </Component>
</TestWriter>
`

// ledger is the two volumes with the client at work.
type ledger struct {
	*rig
	db, file string
}

func newLedger(t *testing.T) *ledger {
	voltest.Need(t, "btrfs", "xfs")
	v1, v2 := voltest.Btrfs(t, 4<<30), voltest.XFS(t, 512<<20)
	l := &ledger{rig: newRig(t), db: filepath.Join(v1.Root, "ledger.db"), file: filepath.Join(v2.Root, "data", "number")}
	if err := os.Mkdir(filepath.Dir(l.file), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, config := filepath.Join(l.state, "number.lock"), filepath.Join(l.state, "number.xml")
	if err := os.WriteFile(config, fmt.Appendf(nil, ledgerWriter, lock, filepath.Dir(l.file)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]string{"file": config})
	if err != nil {
		t.Fatal(err)
	}
	l.writers = []session.WriterConfig{{Kind: "testwriter", Name: "number", Config: data}}
	l.paths = []string{v1.Root, v2.Root}
	child(t, "test-ledger", l.db, l.file, lock)
	child(t, "test-dirt", filepath.Join(v1.Root, "dirt"))
	waitFor(t, 30*time.Second, "the client writes", func() bool {
		data, _ := os.ReadFile(l.file)
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		return err == nil && n > 20
	})
	return l
}

// copied gives the highest number in the copy of the database and the number in
// the copy of the file.
func (l *ledger) copied(dir string) (inDB, inFile int64) {
	l.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, l.db))
	if err != nil {
		l.t.Fatal(err)
	}
	defer db.Close()
	var check string
	var count int64
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		l.t.Fatalf("copy of the database: integrity check %q, %v", check, err)
	}
	if err := db.QueryRow("SELECT count(*), max(n) FROM ledger").Scan(&count, &inDB); err != nil {
		l.t.Fatal(err)
	}
	if count != inDB {
		l.t.Fatalf("copy of the database: %d rows up to %d", count, inDB)
	}
	data, err := os.ReadFile(filepath.Join(dir, l.file))
	if err != nil {
		l.t.Fatal(err)
	}
	if inFile, err = strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err != nil {
		l.t.Fatal(err)
	}
	return inDB, inFile
}

// violations takes n backups and counts those in which the file holds a number
// that the database lacks, or lags by more than one.
func (l *ledger) violations(n int, stopAtFirst bool) (bad int) {
	l.t.Helper()
	for i := range n {
		dir := l.extract(l.backup())
		inDB, inFile := l.copied(dir)
		if inFile > inDB || inDB-inFile > 1 {
			bad++
			l.t.Logf("backup %d: database %d, file %d", i, inDB, inFile)
			if stopAtFirst {
				return bad
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			l.t.Fatal(err)
		}
	}
	return bad
}

// TestLedgerShowsOneInstant: a client commits numbered transactions into SQLite
// on one volume and, only after each is acknowledged, writes and fsyncs the
// number to a file on another volume that a second writer claims. In every
// backup the copy of the file holds no number that the copy of the database
// lacks, and lags by one at most.
func TestLedgerShowsOneInstant(t *testing.T) {
	l := newLedger(t)
	n := rounds(100)
	if bad := l.violations(n, false); bad > 0 {
		t.Errorf("%d of %d backups do not show one instant", bad, n)
	}
	t.Logf("%d backups, none shows more than one instant", n)
}

// TestLedgerNeedsFreezing is the control: the same test finds violations when
// nothing is frozen.
func TestLedgerNeedsFreezing(t *testing.T) {
	l := newLedger(t)
	l.noFreeze = true
	if l.violations(100, true) == 0 {
		t.Error("no violation in 100 backups without freezing: the test proves nothing")
	}
}
