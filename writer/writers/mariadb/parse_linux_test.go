package mariadb

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

func TestPointsToRollForwardTo(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC)
	for text, want := range map[string]target{
		"2026-11-22T10:30:00Z": {time: at},
		"binlog.000012:3456":   {file: "binlog.000012", pos: 3456},
		"0-1-42,1-2-3":         {gtid: "0-1-42,1-2-3"},
	} {
		if got, err := parsePoint(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "noon", "2026-11-22T10:30:00.5Z", "../binlog.000012:1", "binlog:1", "-x.000001:4", "0-1", "0-1-42;x", "4294967296-1-1"} {
		if got, err := parsePoint(text); err == nil {
			t.Errorf("%q was read as %+v", text, got)
		}
	}
}

func FuzzStamp(f *testing.F) {
	for _, s := range []string{"mariadb2 data binlog.000001 325 - 1763820000.1.1763820000123456789", "mariadb2 logs binlog.000002 4 0-1-5 -", "mariadb1 data binlog.000001 1234 0-1-5", "mariadb1 logs binlog.000002 4 -", "mariadb1 data - 0 -", "mariadb1 data ../x.1 4 -", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseStamp(vss.BackupStamp(text))
		if err != nil {
			return
		}
		if s.file != "" && !isLogName(s.file) {
			t.Errorf("%q names log %q", text, s.file)
		}
		if again, err := parseStamp(vss.BackupStamp(s.String())); err != nil || again != s {
			t.Errorf("%q became %q, which is read as %+v, %v", text, s, again, err)
		}
	})
}

// Stamps of before logs were told by more than their names are read.
func TestEarlierStampsAreRead(t *testing.T) {
	got, err := parseStamp("mariadb1 logs binlog.000007 4 0-1-5")
	if want := (stamp{logs: true, status: status{"binlog.000007", 4, "0-1-5"}}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if !got.id.same(logID{1, 2, 3}) {
		t.Error("an unknown log is another one")
	}
}

func TestLogsOfOneNameAreToldApart(t *testing.T) {
	a := logID{when: 100, server: 1, born: 7}
	for b, same := range map[logID]bool{a: true, {100, 1, 0}: true, {100, 1, 8}: false, {101, 1, 7}: false, {100, 2, 7}: false, {}: true} {
		if a.same(b) != same || b.same(a) != same {
			t.Errorf("%v and %v: %v, want %v", a, b, a.same(b), same)
		}
	}
	path := filepath.Join(t.TempDir(), "binlog.000001")
	for _, text := range []string{"", "\xfebin", "\xfeBIN\x01\x00\x00\x00\x0f\x01\x00\x00\x00", "\xfebin\x01\x00\x00\x00\x02\x01\x00\x00\x00"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := readLogID(path); err == nil {
			t.Errorf("%q was taken for a log, %v", text, id)
		}
	}
}

func FuzzOptionFile(f *testing.F) {
	f.Add("[client]\nuser=a\npassword=b\n")
	f.Add("[client\nuser\n=\n[]")
	f.Fuzz(func(t *testing.T, text string) { parseOptions(text) })
}

// A time to roll forward to that the backups do not have is refused.
func TestTargetTimesOutsideTheBackupAreRefused(t *testing.T) {
	copied := time.Date(2026, 11, 22, 10, 0, 0, 500, time.UTC)
	until := copied.Add(time.Hour)
	for _, c := range []struct {
		name  string
		at    time.Time
		notes notes
		last  bool
		says  string
	}{
		{"before the copy", copied.Truncate(time.Second), notes{Instant: copied}, false, "earlier backup"},
		{"after the copy", copied.Truncate(time.Second).Add(time.Second), notes{Instant: copied}, false, ""},
		{"after the end of the logs", until.Add(time.Second), notes{LogsUntil: until}, true, "later log backup"},
		{"after the end of logs that others follow", until.Add(time.Second), notes{LogsUntil: until}, false, ""},
		{"within the logs", until.Truncate(time.Second), notes{LogsUntil: until}, true, ""},
		{"no time", time.Time{}, notes{Instant: copied, LogsUntil: until}, true, ""},
		{"of a backup that does not tell", until, notes{}, true, ""},
	} {
		err := target{time: c.at}.within(c.notes, nil, c.last)
		if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; it should say %q", c.name, err, c.says)
		}
	}
}

func TestEncryptedBinaryLogsAreNotSaved(t *testing.T) {
	f := facts{LogBin: true}
	if err := f.canLog(); err != nil {
		t.Error(err)
	}
	if f.encrypted = true; !errors.Is(f.canLog(), errEncrypted) {
		t.Errorf("encrypted logs: %v", f.canLog())
	}
}
