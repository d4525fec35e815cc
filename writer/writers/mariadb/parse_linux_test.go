package mariadb

import (
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
	for _, s := range []string{"mariadb1 data binlog.000001 1234 0-1-5", "mariadb1 logs binlog.000002 4 -", "mariadb1 data - 0 -", "mariadb1 data ../x.1 4 -", ""} {
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

func FuzzOptionFile(f *testing.F) {
	f.Add("[client]\nuser=a\npassword=b\n")
	f.Add("[client\nuser\n=\n[]")
	f.Fuzz(func(t *testing.T, text string) { parseOptions(text) })
}
