package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// What makes a backup impossible, or worth less, is said before one is made.
func TestPlanNamesWhatABackupWillMiss(t *testing.T) {
	good := needs{level: "replica", slots: 10, replication: true, checkpoint: true, change: true, pages: true}
	for _, tt := range []struct {
		name string
		conf config
		but  func(*needs)
		says string
	}{
		{"nothing", config{Logs: true}, func(*needs) {}, ""},
		{"wal_level", config{Logs: true}, func(n *needs) { n.level = "minimal" }, "wal_level is minimal"},
		{"wal_level without logs", config{}, func(n *needs) { n.level = "minimal" }, ""},
		{"no slots", config{Logs: true}, func(n *needs) { n.slots = 0 }, "max_replication_slots"},
		{"one slot left", config{Logs: true}, func(n *needs) { n.taken = 9 }, "9 of 10 are taken"},
		{"which backups need slots", config{Logs: true}, func(n *needs) { n.taken = 9 }, "as each full one does, fails"},
		{"which backups need none", config{Logs: true}, func(n *needs) { n.taken = 9 }, "log and incremental backups go on in the chain"},
		{"no slots without logs", config{}, func(n *needs) { n.slots = 0 }, ""},
		{"no REPLICATION", config{Logs: true}, func(n *needs) { n.replication = false }, "REPLICATION"},
		{"no pg_switch_wal", config{Logs: true}, func(n *needs) { n.change = false }, "pg_switch_wal"},
		{"no pg_backup_start", config{}, func(n *needs) { n.checkpoint = false }, "no checkpoint"},
		{"no checkpoint wanted", config{NoCheckpoint: true}, func(n *needs) { n.checkpoint = false }, ""},
		{"half pages mended", config{}, func(n *needs) { n.pages = false }, ""},
		{"half pages", config{NoCheckpoint: true}, func(n *needs) { n.pages = false }, "full_page_writes"},
	} {
		n := good
		tt.but(&n)
		err := (&pgWriter{conf: tt.conf}).lacks(&session{role: "r", database: "postgres"}, n)
		if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}

// The server itself is asked, and a backup then meets what was foretold.
func TestPlanAsksTheServerForItsSlots(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{Settings: map[string]string{"max_replication_slots": "0"}}, config{Logs: true})
	w, _, err := c.host()
	if err != nil {
		t.Fatal(err)
	}
	if plan := w.Describe().Weak; !strings.Contains(plan, "max_replication_slots") {
		t.Errorf("the plan says %q", plan)
	}
	if _, err := c.begin(w, vss.BackupTypeFull, "").send(writer.EventPrepareForBackup); err == nil {
		t.Error("the backup was prepared")
	}
}

// A target from Thaw on is one that the logs lead to, however long the rest of the
// backup takes.
func TestTargetMayLieRightAfterTheInstant(t *testing.T) {
	c := newCluster(t, dbtest.PostgresOptions{}, config{})
	w, _, err := c.host()
	if err != nil {
		t.Fatal(err)
	}
	b := c.begin(w, vss.BackupTypeFull, "")
	if _, err := b.send(wholeBackup[:4]...); err != nil {
		t.Fatal(err)
	}
	thawed := time.Now().Add(time.Millisecond)
	time.Sleep(2 * time.Millisecond)
	if _, err := b.send(writer.EventPostSnapshot); err != nil {
		t.Fatal(err)
	}
	text, _ := b.part.BackupMetadata()
	n, err := parseNotes(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&target{kind: toTime, time: thawed}).check(&n, false); err != nil {
		t.Error(err)
	}
	if err := (&target{kind: toTime, time: n.Base.First.Add(-time.Millisecond)}).check(&n, false); err == nil {
		t.Error("a target before the instant is not refused")
	}
}
