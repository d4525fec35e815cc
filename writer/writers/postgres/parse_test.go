package postgres

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// FuzzParseStamp reads stamps as a medium may have them: what is taken is written
// the same way again.
func FuzzParseStamp(f *testing.F) {
	s := stamp{System: 7710944409527363600, Timeline: 3, LSN: "1/2345678", Slot: "sombra_0123456789abcdef", Base: instant{FirstLSN: "1/0", First: time.Unix(1, 0).UTC()}}
	f.Add(string(s.encode()))
	f.Add(`{"system":"1","timeline":1,"lsn":"0/0"}`)
	f.Add(`{"lsn":"x"}`)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseStamp(vss.BackupStamp(text))
		if err != nil {
			return
		}
		again, err := parseStamp(s.encode())
		if err != nil || again.System != s.System || again.Timeline != s.Timeline || again.position() != s.position() || again.Slot != s.Slot {
			t.Errorf("%q is %+v, and written again %+v, %v", text, s, again, err)
		}
	})
}

// TestTargetMayBeWhereTheBackupEnds: where a page of the log ends, the server names the
// beginning of the next one to who asks for its position, and its backup ends behind
// that page's header.
func TestTargetMayBeWhereTheBackupEnds(t *testing.T) {
	n := &notes{Base: instant{LastLSN: "0/C000028"}}
	for at, good := range map[lsn]bool{0xBFFFFF0: false, 0xC000000: true, 0xC000028: true, 0xC000060: true, 0xBFFE000: false} {
		if err := (&target{kind: toLSN, lsn: at}).check(n, false); (err == nil) != good {
			t.Errorf("target %s: %v", at, err)
		}
	}
}

// FuzzParseTarget reads restore options as users write them.
func FuzzParseTarget(f *testing.F) {
	f.Add(`"target"="end"`, int32(0), "")
	f.Add(`"target-time"="2026-11-22T14:30:00Z","start"="no"`, int32(0), "")
	f.Add(`"target-lsn"="16/B374D848"`, int32(3), "16/B374D848")
	f.Add("", int32(3), "2026-11-22T14:30:00+01:00")
	f.Fuzz(func(t *testing.T, options string, roll int32, point string) {
		goal, err := parseTarget(options, vss.RollForwardType(roll), point)
		if err == nil && goal.kind != toTime && !goal.time.IsZero() || err == nil && goal.kind != toLSN && goal.lsn != 0 {
			t.Errorf("%q, %d, %q is %+v, which has two targets", options, roll, point, goal)
		}
	})
}

// FuzzParseControl reads control files of any content.
func FuzzParseControl(f *testing.F) {
	f.Add(make([]byte, 8192))
	if b, err := os.ReadFile(filepath.Join("testdata", "pg_control")); err == nil {
		f.Add(b)
	} else {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseControl(b)
		if err == nil && (c.Segment == 0 || c.Segment&(c.Segment-1) != 0) {
			t.Errorf("segments of %d bytes", c.Segment)
		}
	})
}

// The control file of a real cluster, and what pg_controldata says of it.
func TestParseControl(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "pg_control"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseControl(b)
	if err != nil {
		t.Fatal(err)
	}
	if c.System != 7710944409527363600 || c.State != shutDown || c.Redo.String() != "0/17414D0" || c.Timeline != 1 || c.Segment != 16<<20 ||
		c.MaxConnections != 100 || c.MaxWorkers != 8 || c.MaxSenders != 10 || c.MaxPrepared != 0 || c.MaxLocks != 64 || c.WALLevel != 1 || c.TrackCommitTimes {
		t.Errorf("read as %+v", c)
	}
	b[20]++
	if _, err := parseControl(b); err == nil {
		t.Error("a changed byte is not noticed")
	}
}

func TestParseTarget(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 30, 0, 0, time.UTC)
	for _, tt := range []struct {
		options string
		roll    vss.RollForwardType
		point   string
		want    target
		bad     bool
	}{
		{"", vss.RollForwardUndefined, "", target{}, false},
		{`"target"="end"`, vss.RollForwardUndefined, "", target{kind: toEnd}, false},
		{`"TARGET"="instant", "start"="no"`, vss.RollForwardUndefined, "", target{kind: toInstant, start: startNever}, false},
		{"", vss.RollForwardAll, "", target{kind: toEnd}, false},
		{"", vss.RollForwardPartial, "2026-11-22T14:30:00Z", target{kind: toTime, time: at}, false},
		{"", vss.RollForwardPartial, "1/A0", target{kind: toLSN, lsn: 1<<32 + 0xa0}, false},
		{`"target-lsn"="1/A0"`, vss.RollForwardNone, "", target{}, true},
		{`"target"="end","target-lsn"="1/A0"`, vss.RollForwardUndefined, "", target{}, true},
		{`"target-time"="noon"`, vss.RollForwardUndefined, "", target{}, true},
		{`"x":"target"="end"`, vss.RollForwardUndefined, "", target{}, true},
		{`"strat"="yes"`, vss.RollForwardUndefined, "", target{}, true},
	} {
		got, err := parseTarget(tt.options, tt.roll, tt.point)
		if (err != nil) != tt.bad || !tt.bad && (got.kind != tt.want.kind || !got.time.Equal(tt.want.time) || got.lsn != tt.want.lsn || got.start != tt.want.start) {
			t.Errorf("%s, %v %s: %+v, %v", tt.options, tt.roll, tt.point, got, err)
		}
	}
}
