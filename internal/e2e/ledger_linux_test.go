package e2e

import (
	"os"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/ledger"
	"github.com/sombra-backup/sombra/requester"
)

// dirtClient rewrites a file all the time, so that a shadow copy of its volume
// takes a while: the volumes' copies are then far enough apart for everything
// that does not hold to show.
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

// judge restores a backup, starts the databases on what was restored, and says
// how it differs from one instant.
func (l *books) judge(res *requester.Result, check bool) []ledger.Violation {
	l.t.Helper()
	dir, done := l.restore(res)
	defer done()
	found := l.recover(dir, check)
	bad := ledger.Check(found)
	if l.noFreeze {
		return bad
	}
	l.at.update()
	// What was acknowledged before the last application was held must be there,
	// and what was begun when all volumes had been copied cannot be.
	r := res.Receipt
	for _, f := range found {
		bad = append(bad, ledger.CheckTime(f, &l.at.history, r.Instant.Add(-r.Hold), r.Instant)...)
	}
	return bad
}

// TestLedgerShowsOneInstant: eight clients commit numbers, each to PostgreSQL,
// MariaDB, Redis, SQLite and a file in turn, on four volumes of three file
// systems, each commit only after the one before was acknowledged. In every
// backup, when the databases have been started on what was restored, no client's
// number is in a store and not in the one before, none lags by more than one,
// everything acknowledged before the freeze is there and nothing begun after it.
func TestLedgerShowsOneInstant(t *testing.T) {
	l := newBooks(t)
	n := rounds(200)
	bad, waited := 0, 0
	for i := range n {
		res := l.backup()
		violations := l.judge(res, i%5 == 0)
		for _, v := range violations {
			t.Errorf("backup %d: %v", i, v)
		}
		if len(violations) > 0 {
			bad++
		}
		waited += l.at.history.Across(res.Receipt.Instant)
	}
	l.at.stop()
	l.live()
	slowest, _ := l.at.history.Slowest()
	t.Logf("%d backups of %d stores on 4 volumes, %d of them show more than one instant; %d commits of %d clients, none failed; %d were under way when a copy was taken, all were completed; the longest took %v (%s)",
		n, len(l.places), bad, l.at.history.Len(), ledgerClients, waited, slowest.Acked.Sub(slowest.Begun).Round(time.Millisecond), slowest.Store)
}

// live compares what the live stores hold, when the clients have ended, with
// what they acknowledged.
func (l *books) live() {
	l.t.Helper()
	found, err := read(l.t.Context(), l.places)
	if err != nil {
		l.t.Fatal(err)
	}
	now := time.Now()
	for _, f := range found {
		for _, v := range ledger.CheckTime(f, &l.at.history, now, now) {
			l.t.Errorf("the live store: %v", v)
		}
	}
}

// TestLedgerNeedsFreezing is the control: the same test finds violations when
// nothing is frozen.
func TestLedgerNeedsFreezing(t *testing.T) {
	l := newBooks(t)
	l.noFreeze = true
	for i := range 100 {
		if bad := l.judge(l.backup(), false); len(bad) > 0 {
			t.Logf("backup %d: %v", i, bad)
			return
		}
	}
	t.Error("no violation in 100 backups without freezing: the test proves nothing")
}
