package requester

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
)

// pastOf gives histories over records, oldest first, of which each is written as
// "TYPE[=CAME TO][<BASE][!]": the base as the number of a record, "!" for one that
// failed, "?" for one whose history cannot be read, "copy" for a copy.
func pastOf(t *testing.T, specs ...string) (*histories, []*PastRecord) {
	t.Helper()
	var list []*PastRecord
	for i, spec := range specs {
		id := repository.ID{byte(i + 1)}
		r := PastRecord{ID: id, Host: "h", Time: time.Unix(int64(i), 0).UTC(), Type: "incremental"}
		if spec == "?" {
			p := &r
			p.load = func() ([]HistoryLine, error) { return nil, errors.New("damaged") }
			list = append(list, p)
			continue
		}
		spec, failed := strings.CutSuffix(spec, "!")
		spec, base, based := strings.Cut(spec, "<")
		asked, came, _ := strings.Cut(spec, "=")
		if came == "" {
			came = asked
		}
		l := HistoryLine{HistoryKey: keyOf("a"), Asked: asked, Type: came, Succeeded: !failed}
		l.Host = "h"
		switch {
		case asked == "copy" || asked == "differential":
		case asked == "log":
			l.Counts = "log"
		default:
			l.Counts = came
		}
		if based {
			var n byte
			if _, err := fmt.Sscan(base, &n); err != nil {
				t.Fatal(err)
			}
			l.Base = repository.ID{n}.String()
		}
		r.Type = asked
		list = append(list, NewPastRecord(r, []HistoryLine{l}))
	}
	h := &histories{host: "h", past: NewPastRecords(list), lines: map[HistoryKey][]pastLine{}, full: map[HistoryKey]int{}}
	for i := range list {
		h.list = append(h.list, list[len(list)-1-i])
	}
	return h, list
}

// TestComponentHistory reads histories: "F/I/L" are the numbers of the records
// that a differential, an incremental and a log backup build upon, "-" for none.
func TestComponentHistory(t *testing.T) {
	for _, c := range []struct {
		name    string
		records []string
		want    string
		inc     bool
		diff    bool
		unsure  bool
	}{
		{name: "nothing", want: "-/-/-"},
		{name: "R-TYPE-2 a full", records: []string{"full"}, want: "1/1/1"},
		{name: "R-TYPE-3 a copy is no base", records: []string{"full", "copy"}, want: "1/1/1"},
		{name: "R-TYPE-4 D-19", records: []string{"full", "incremental<1", "differential<1", "incremental<2"}, want: "1/4/4", inc: true, diff: true},
		{name: "R-TYPE-5 a differential is no base", records: []string{"full", "differential<1"}, want: "1/1/1", diff: true},
		{name: "a log advances the log position alone", records: []string{"full", "incremental<1", "log<2", "log<3"}, want: "1/2/4", inc: true},
		{name: "the newest full", records: []string{"full", "incremental<1", "full"}, want: "3/3/3"},
		{name: "an incremental that came to a full", records: []string{"full", "incremental<1", "incremental=full"}, want: "3/3/3"},
		{name: "a differential that came to a full", records: []string{"full", "differential=full"}, want: "1/1/1"},
		{name: "a differential alone", records: []string{"differential=full"}, want: "-/-/-"},
		{name: "a log that came to a full", records: []string{"log=full", "log<1"}, want: "-/-/2"},
		{name: "R-SEL-18 what failed", records: []string{"full", "incremental<1!", "full!"}, want: "1/1/1"},
		{name: "a failed link", records: []string{"full", "incremental<1!", "incremental<2"}, want: "1/-/-", inc: true},
		{name: "a base that is gone", records: []string{"full", "incremental<9"}, want: "1/-/-", inc: true},
		{name: "a base deeper down that is gone", records: []string{"full", "incremental<9", "log<2"}, want: "1/-/-", inc: true},
		{name: "an older one is no substitute", records: []string{"full", "incremental<1", "incremental<9"}, want: "1/-/-", inc: true},
		{name: "its own base", records: []string{"full", "incremental<2"}, want: "1/-/-", inc: true},
		{name: "a base that is younger", records: []string{"full", "incremental<3", "incremental<2"}, want: "1/-/-", inc: true},
		{name: "one that cannot be read", records: []string{"full", "incremental<1", "?"}, want: "1/2/2", inc: true, unsure: true},
		{name: "one that cannot be read, before all that counts", records: []string{"?", "full", "incremental<2"}, want: "2/3/3", inc: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, list := pastOf(t, c.records...)
			key := keyOf("a")
			key.Host = "h"
			got, sure, err := h.of(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			name := func(b *Base) string {
				for i, r := range list {
					if b != nil && r.ID == b.Record {
						return fmt.Sprint(i + 1)
					}
				}
				return "-"
			}
			shown := name(got.Full) + "/" + name(got.Incremental) + "/" + name(got.Log)
			if shown != c.want || got.Incrementals != c.inc || got.Differentials != c.diff || sure == c.unsure {
				t.Errorf("%s, incrementals %v, differentials %v, sure %v", shown, got.Incrementals, got.Differentials, sure)
			}
			if (h.warning() != "") != c.unsure {
				t.Errorf("warning %q", h.warning())
			}
			other := keyOf("b")
			other.Host = "h"
			if got, _, err := h.of(t.Context(), other); err != nil || got != (ComponentHistory{}) {
				t.Errorf("another component: %+v, %v", got, err)
			}
		})
	}
}

// TestHistoriesAreBounded: not more records are looked into than there may be, and
// that is said.
func TestHistoriesAreBounded(t *testing.T) {
	specs := []string{"full"}
	for i := range maxHistoryRecords {
		specs = append(specs, fmt.Sprintf("log<%d", i%200+1))
	}
	h, _ := pastOf(t, specs...)
	loaded := 0
	for _, r := range h.list {
		load := r.load
		r.load = func() ([]HistoryLine, error) {
			loaded++
			return load()
		}
	}
	key := keyOf("a")
	key.Host = "h"
	got, _, err := h.of(t.Context(), key)
	if err != nil || got.Full != nil || loaded != maxHistoryRecords || !strings.Contains(h.warning(), "1000 backups") {
		t.Errorf("%+v, %v: %d records were read; warning %q", got, err, loaded, h.warning())
	}
}

// TestKnownKeepsWhatMatters: what a machine that cannot read the repository keeps
// gives the same histories, and no more than that.
func TestKnownKeepsWhatMatters(t *testing.T) {
	h, _ := pastOf(t, "full", "incremental<1", "full", "copy", "incremental<3", "differential<3", "log<5", "log<7!")
	data, err := h.known(nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := parseKnown(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 5 { // 3, 4, 5, 6, 7
		t.Errorf("%d records are kept", len(list))
	}
	again := &histories{host: "h", past: NewPastRecords(list), lines: map[HistoryKey][]pastLine{}, full: map[HistoryKey]int{}}
	for i := len(again.past.list) - 1; i >= 0; i-- {
		again.list = append(again.list, again.past.list[i])
	}
	key := keyOf("a")
	key.Host = "h"
	want, _, _ := h.of(t.Context(), key)
	got, _, err := again.of(t.Context(), key)
	if err != nil || *got.Full != *want.Full || *got.Incremental != *want.Incremental || *got.Log != *want.Log {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	line := HistoryLine{HistoryKey: key, Counts: "full", Succeeded: true}
	if data, err = h.known([]HistoryLine{line}); err != nil || strings.Contains(string(data), "incremental") {
		t.Errorf("after a full backup: %s, %v", data, err)
	}
}

func FuzzParseKnown(f *testing.F) {
	good, err := json.Marshal([]knownRecord{{ID: idOf("F").String(), Host: "h", Type: "full", Time: time.Unix(1, 2),
		Lines: []HistoryLine{{HistoryKey: keyOf("a"), Asked: "full", Type: "full", Counts: "full", Succeeded: true}}}})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(good), "", "null", "[", "[]", "[{}]", "[null,1]", `[{"id":"00"}] x`, strings.Repeat("[", 10000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseKnown(data)
		if err != nil {
			return
		}
		h := &histories{host: "h", past: NewPastRecords(list), list: list, lines: map[HistoryKey][]pastLine{}, full: map[HistoryKey]int{}}
		for _, r := range list {
			lines, err := r.all()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				if _, _, err := h.of(t.Context(), l.HistoryKey); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
