package mariadb

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

// Points are found in a server's own logs, over several domains: what lies before the
// point is replayed whatever its domain, and what the logs do not have is refused.
func TestPointsAreFoundInTheLogs(t *testing.T) {
	r := newRig(t, dbtest.MariaDBOptions{})
	c, err := r.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	do := func(queries ...string) {
		t.Helper()
		for _, q := range queries {
			if _, err := c.ExecContext(t.Context(), q); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
		}
	}
	here := func() (file string, pos int64, gtid string) {
		t.Helper()
		var x, y any
		if err := c.QueryRowContext(t.Context(), "SHOW MASTER STATUS").Scan(&file, &pos, &x, &y); err != nil {
			t.Fatal(err)
		}
		if err := c.QueryRowContext(t.Context(), "SELECT @@gtid_binlog_pos").Scan(&gtid); err != nil {
			t.Fatal(err)
		}
		return file, pos, gtid
	}
	do("RESET MASTER", "INSERT INTO d.t VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (2)") // 0-1-1, 0-1-2
	first, start, _ := here()
	do("INSERT INTO d.t VALUES (3)", "SET SESSION gtid_domain_id=7", "INSERT INTO d.t VALUES (4)") // 0-1-3, 7-1-1
	_, mid, both := here()
	do("SET SESSION gtid_domain_id=0", "INSERT INTO d.t VALUES (5)")                                           // 0-1-4
	do("FLUSH BINARY LOGS", "SET SESSION gtid_domain_id=7", "INSERT INTO d.t VALUES (6)", "FLUSH BINARY LOGS") // 7-1-2
	if both != "0-1-3,7-1-1" {
		t.Fatalf("the server is at GTID %s", both)
	}
	base, _, _ := cutNumber(first)
	p := restoredFiles{logs: t.TempDir(), base: base}
	whole, err := os.ReadFile(filepath.Join(r.m.Dir, first))
	if err == nil {
		err = os.WriteFile(filepath.Join(p.logs, first), whole[:start], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	logs, where := r.logs()[1:3], map[string]string{}
	for _, name := range logs {
		where[name] = filepath.Join(r.m.Dir, name)
	}
	for _, one := range []struct {
		target, stop string // with a dash nothing is replayed
		logs         int
		says         string
	}{
		{target: "0-1-2", stop: "-"},
		{target: fmt.Sprintf("%s:%d", first, start), stop: "-"},
		{target: "7-1-1", stop: fmt.Sprint(mid), logs: 1},
		{target: both, stop: fmt.Sprint(mid), logs: 1},
		{target: "7-1-2", logs: 2},
		{target: "0-1-4,7-1-2", logs: 2},
		{target: fmt.Sprintf("%s:%d", first, mid), stop: fmt.Sprint(mid), logs: 1},
		{target: fmt.Sprintf("%s:%d", logs[1], logStart), stop: "4", logs: 2},
		{target: "0-1-1", says: "restore an earlier backup"},
		{target: "0-2-2", says: "restore an earlier backup"},
		{target: "0-1-5", says: `begins after GTID 0-1-2 and ends with GTID 0-1-4,7-1-2; restore a later log backup`},
		{target: "9-1-1", says: "restore a later log backup"},
		{target: "0-2-4", says: "give a transaction that is in the logs"},
		{target: "0-1-3,7-1-2", says: "nowhere in between"},
		{target: fmt.Sprintf("%s:%d", first, start-1), says: "which begins at " + first},
		{target: fmt.Sprintf("%s:%d", logs[0], mid+1), says: "within an event, which begins at " + fmt.Sprint(mid)},
		{target: logs[0] + ":99999999", says: "a position in the log that follows"},
		{target: logs[1] + ":99999999", says: "restore a later log backup"},
		{target: base + ".999999:4", says: "is not in what can be replayed"},
	} {
		to, err := parsePoint(one.target)
		if err != nil {
			t.Fatal(err)
		}
		args, err := p.plan(to, logs, where)
		switch {
		case one.says != "":
			if err == nil || !strings.Contains(err.Error(), one.says) || !strings.Contains(err.Error(), one.target) {
				t.Errorf("%s: %v, %v; it should say %q", one.target, args, err, one.says)
			}
		case err != nil || one.stop == "-" && args != nil:
			t.Errorf("%s: %v, %v", one.target, args, err)
		case one.stop != "-":
			if got := args[len(args)-one.logs-1]; got != "--" || one.stop != "" && args[2] != "--stop-position="+one.stop {
				t.Errorf("%s: %v; want it to stop at %s in log %d", one.target, args, one.stop, one.logs)
			}
		}
	}
}

// A point that no log has is refused by the stamps, before anything is touched.
func TestPointsOutsideTheBackupAreRefused(t *testing.T) {
	data := &stamp{status: status{"binlog.000003", 500, "0-1-40,1-2-7"}}
	logs := &stamp{logs: true, status: status{"binlog.000005", 4, "0-1-60,1-2-7"}}
	n := notes{LogBase: "/data/binlog"}
	for _, c := range []struct {
		point string
		stamp *stamp
		last  bool
		says  string
	}{
		{"0-1-39", data, false, "earlier backup"},
		{"0-9-40", data, false, "earlier backup"},
		{"0-1-40", data, false, ""},
		{"0-1-41", data, false, ""},
		{"5-1-1", data, false, ""},
		{"0-1-41", data, true, "no logs to go forward with"},
		{"2026-11-22T10:30:00Z", data, true, "no logs to go forward with"},
		{"0-1-60", logs, true, ""},
		{"0-1-61", logs, true, "later log backup"},
		{"5-1-1", logs, true, "later log backup"},
		{"0-1-61", logs, false, ""},
		{"0-1-61", nil, true, ""},
		{"binlog.000002:600", data, false, "earlier backup"},
		{"binlog.000003:499", data, false, "earlier backup"},
		{"binlog.000003:500", data, false, ""},
		{"binlog.000005:4", logs, true, "later log backup"},
		{"binlog.000004:99", logs, true, ""},
		{"bin.000004:99", logs, true, "binlog.000001"},
	} {
		to, err := parsePoint(c.point)
		if err != nil {
			t.Fatal(err)
		}
		err = to.within(n, c.stamp, c.last)
		if (err != nil) != (c.says != "") || err != nil && (!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.point)) {
			t.Errorf("%s, last %v: %v; it should say %q", c.point, c.last, err, c.says)
		}
	}
}

// Who names two points gets neither of them.
func TestTwoTargetsAreRefused(t *testing.T) {
	doc := metadata.NewBackupComponents()
	for i, c := range []struct {
		options string
		roll    vss.RollForwardType
		point   string
		want    target
		says    []string
	}{
		{options: `"Target"="end"`},
		{roll: vss.RollForwardAll},
		{options: `"Target"="end"`, roll: vss.RollForwardAll},
		{options: `"Target"="instant"`, want: target{none: true}},
		{roll: vss.RollForwardNone, want: target{none: true}},
		{options: `"Target"="instant"`, roll: vss.RollForwardNone, want: target{none: true}},
		{options: `"Target GTID"="0-1-2"`, roll: vss.RollForwardPartial, point: "0-1-2", want: target{gtid: "0-1-2"}},
		{options: `"Target GTID"="0-1-2","Target"="end"`, says: []string{"GTID 0-1-2", "end"}},
		{options: `"Target"="end","Target Position"="b.000001:4"`, says: []string{"position b.000001:4", "end"}},
		{options: `"Target"="instant"`, roll: vss.RollForwardAll, says: []string{"instant", "end"}},
		{options: `"Target Time"="2026-11-22T10:30:00Z"`, roll: vss.RollForwardNone, says: []string{"time 2026-11-22T10:30:00Z", "instant"}},
		{options: `"Target GTID"="0-1-2"`, roll: vss.RollForwardPartial, point: "0-1-3", says: []string{"0-1-2", "0-1-3"}},
		{options: `"Target GTID"="0-1-2,0-1-3"`, says: []string{"two transactions of domain 0"}},
	} {
		part, err := doc.AddComponent(metadata.WriterKey{InstanceID: vss.NewGUID(), ClassID: vss.NewGUID(), Schema: vss.SchemaRollForwardRestore}, vss.ComponentTypeDatabase, "", fmt.Sprint(i))
		if err == nil && c.options != "" {
			err = part.SetRestoreOptions(c.options)
		}
		if err == nil && c.roll != vss.RollForwardUndefined {
			err = part.SetRollForward(c.roll, c.point)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseTarget(part)
		if len(c.says) == 0 && (err != nil || got != c.want) {
			t.Errorf("%s, roll-forward %v %s: %+v, %v; want %+v", c.options, c.roll, c.point, got, err, c.want)
		}
		for _, text := range c.says {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s, roll-forward %v %s: %+v, %v; it should say %q", c.options, c.roll, c.point, got, err, text)
			}
		}
	}
}

// TestALogOfAServerThatWasKilledEndsInAnEvent: what follows in the next log is found all
// the same, and what the torn one ends with does not count.
func TestALogOfAServerThatWasKilledEndsInAnEvent(t *testing.T) {
	event := func(kind, flags byte, body ...byte) []byte {
		return append([]byte{1, 0, 0, 0, kind, 9, 0, 0, 0, byte(eventHeader + len(body)), 0, 0, 0, 0, 0, 0, 0, flags, 0}, body...)
	}
	format := func(flags byte) []byte { return event(eventFormat, flags, make([]byte, 40)...) }
	begins := func(n byte) []byte { return event(eventGTID, 0, n, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1) }
	list := func(n byte) []byte {
		return event(eventGTIDList, 0, 1, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, n, 0, 0, 0, 0, 0, 0, 0)
	}
	query := event(2, 0, 1, 2, 3)
	dir := t.TempDir()
	write := func(name string, log []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	torn := func(flags byte) []byte {
		log := logOf(logMagic, format(flags), list(4), begins(5), query, begins(6), query)
		return log[:len(log)-2]
	}
	// The server rolled 7-9-6 back when it came up, and gave the number once more.
	next := logOf(logMagic, format(0), list(5), begins(6), query, begins(7), query)
	where := int64(len(logOf(logMagic, format(0), list(5), begins(6), query)))
	killed, closed, last := write("killed", torn(flagInUse)), write("closed", torn(0)), write("last", next)
	want := gtidState{7: {7, 9, 6}}
	if p, err := findGTID([]string{killed, last}, logStart, want); err != nil || p.log != 1 || p.pos != where {
		t.Errorf("it is at %+v, %v; want position %d of the log after the torn one", p, err, where)
	}
	if p, err := findGTID([]string{closed, last}, logStart, want); err == nil {
		t.Errorf("in a log that was closed, and is not whole, it is at %+v", p)
	}
	if p, err := findGTID([]string{killed}, logStart, gtidState{7: {7, 9, 7}}); !errors.Is(err, errTorn) {
		t.Errorf("after the end of a torn log it is at %+v, %v", p, err)
	}
}

// FuzzBinaryLog reads logs as a medium may have them.
func FuzzBinaryLog(f *testing.F) {
	event := func(kind byte, body ...byte) []byte {
		head := []byte{1, 0, 0, 0, kind, 9, 0, 0, 0, byte(eventHeader + len(body)), 0, 0, 0, 0, 0, 0, 0, 0, 0}
		return append(head, body...)
	}
	log := logOf(logMagic, event(15, make([]byte, 40)...), event(eventGTIDList, append([]byte{1, 0, 0, 0}, make([]byte, 16)...)...),
		event(eventGTID, 5, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1), event(2, 1, 2, 3))
	state := make(gtidState)
	if end, err := walkEvents(bytes.NewReader(log), state, func(int64, *gtid) bool { return true }); err != nil || end != int64(len(log)) || state.String() != "0-0-0,7-9-5" {
		f.Fatalf("a log of %d bytes ends at %d, %v: %v", len(log), end, err, state)
	}
	if _, err := walkEvents(bytes.NewReader(append(log, event(eventEncryption, 1)...)), state, func(int64, *gtid) bool { return true }); !errors.Is(err, errEncrypted) {
		f.Fatalf("an encrypted log: %v", err)
	}
	f.Add(log)
	f.Add(log[:len(log)-2])
	f.Add(logOf(logMagic, event(eventGTID, 1)))
	f.Add(logOf(logMagic, event(eventGTIDList, 255, 255, 255, 255, 1)))
	f.Add(logOf(logMagic, make([]byte, eventHeader)))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		last := int64(-1)
		end, err := walkEvents(bytes.NewReader(data), make(gtidState), func(at int64, _ *gtid) bool {
			if at <= last || at+eventHeader > int64(len(data)) {
				t.Errorf("an event at %d after one at %d, of %d bytes", at, last, len(data))
			}
			last = at
			return true
		})
		if err == nil && end != int64(len(data)) {
			t.Errorf("%d bytes end at %d", len(data), end)
		}
	})
}

func logOf(magic string, events ...[]byte) []byte {
	return append([]byte(magic), bytes.Join(events, nil)...)
}
