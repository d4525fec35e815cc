package requester

import (
	"slices"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// TestOrderOfRecordsWhereTheClockWasSetBack: each comes after its parents, and
// those made after the clock was set back go by it among themselves.
func TestOrderOfRecordsWhereTheClockWasSetBack(t *testing.T) {
	type rec struct {
		time    int64
		parents []byte
	}
	for _, c := range []struct {
		name string
		in   []rec
		want []byte
	}{
		{"by time", []rec{{3, nil}, {1, nil}, {2, nil}}, []byte{2, 3, 1}},
		{"a child of one later", []rec{{100, nil}, {50, []byte{1}}}, []byte{1, 2}},
		{"all at one time", []rec{{1, []byte{3}}, {1, nil}, {1, []byte{2}}}, []byte{2, 3, 1}},
		{"by their own clock after it", []rec{{100, nil}, {50, []byte{1}}, {60, []byte{2}}, {70, []byte{1}}, {80, []byte{4}}}, []byte{1, 2, 3, 4, 5}},
		{"and set back once more", []rec{{100, nil}, {50, []byte{1}}, {20, []byte{2}}, {30, []byte{3, 1}}}, []byte{1, 2, 3, 4}},
		{"till it was that time again", []rec{{100, nil}, {50, []byte{1}}, {100, []byte{2}}, {101, nil}, {99, nil}}, []byte{5, 1, 2, 3, 4}},
		{"parents that are not there", []rec{{2, []byte{9}}, {1, nil}}, []byte{2, 1}},
		{"a circle", []rec{{3, []byte{2}}, {2, []byte{1}}, {1, []byte{1}}}, []byte{3, 2, 1}},
	} {
		var list []*PastRecord
		for i, r := range c.in {
			p := &PastRecord{ID: repository.ID{byte(i + 1)}, Time: time.Unix(r.time, 0)}
			for _, n := range r.parents {
				p.Parents = append(p.Parents, repository.ID{n})
			}
			list = append(list, p)
		}
		var got []byte
		for _, r := range NewPastRecords(list).list {
			got = append(got, r.ID[0])
		}
		if c.name == "a circle" { // cut somewhere, and all are there
			slices.Sort(got)
			slices.Sort(c.want)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestClockSetBack: an incremental backup builds upon the one before, which the
// writer remembers, also if the record of the full one has a later time.
func TestClockSetBack(t *testing.T) {
	l := newListHost(t, everyMask)
	l.made = 1000
	l.write("db/a.dat", "0000", 0)
	first := l.backup(vss.BackupTypeFull)
	l.made = 10
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "0:1")}
	l.write("db/a.dat", "1000", 1)
	l.holds("the first", l.backup(vss.BackupTypeIncremental), "db/a.dat=1000|T 0:1")
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "1:1")}
	l.write("db/a.dat", "1200", 2)
	res := l.backup(vss.BackupTypeIncremental)
	l.holds("the second", res, "db/a.dat=1200|T 1:1")
	if !first.Record.Time.After(res.Record.Time) {
		t.Errorf("the clock was not set back: %v, then %v", first.Record.Time, res.Record.Time)
	}
	l.partial = nil
	l.write("db/a.dat", "5555", 3)
	full := l.backup(vss.BackupTypeFull)
	l.partial = []metadata.PartialFile{rangesOf("/db", "a.dat", "3:1")}
	l.write("db/a.dat", "5556", 4)
	for _, typ := range []vss.BackupType{vss.BackupTypeDifferential, vss.BackupTypeIncremental} {
		res := l.backup(typ)
		l.holds("after a full one, "+typ.Word(), res, "db/a.dat=5556|T 3:1")
		lines, err := ReadHistory(t.Context(), res.Record)
		if err != nil || lines[0].Base != full.ID {
			t.Errorf("%+v, %v; want base %s", lines, err, full.ID)
		}
	}
}

// TestKnownKeepsTheOrder: what a machine that cannot read the repository keeps has
// the order of records in it.
func TestKnownKeepsTheOrder(t *testing.T) {
	h, list := pastOf(t, "full", "incremental<1")
	list[0].Time, list[1].Time, list[1].Parents = time.Unix(100, 0), time.Unix(50, 0), []repository.ID{list[0].ID, {99}}
	data, err := h.known(nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseKnown(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := NewPastRecords(again).list; len(got) != 2 || got[1].ID != list[1].ID || len(got[1].Parents) != 1 {
		t.Errorf("the order is lost: %s", data)
	}
	if _, err := parseKnown([]byte(`[{"id":"` + list[0].ID.String() + `","parents":["x"]}]`)); err == nil {
		t.Error("a parent that is no id was read")
	}
}
