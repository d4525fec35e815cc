package repository

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// in sets the local time zone for a test.
func in(t *testing.T, zone string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Local
	time.Local = loc
	t.Cleanup(func() { time.Local = old })
	return loc
}

// dated makes a record of "2026-01-02 15:04 word...", the time being local. The
// words are tags, but for "incomplete" and "of=N", which names a base. Its id
// begins with n.
func dated(t *testing.T, n int, text string) *Record {
	t.Helper()
	words := strings.Fields(text)
	at, err := time.ParseInLocation("2006-01-02 15:04", words[0]+" "+words[1], time.Local)
	if err != nil {
		t.Fatal(err)
	}
	rec := &Record{ID: ID{byte(n)}}
	rec.Time, rec.State = at, Complete
	for _, w := range words[2:] {
		if w == "incomplete" {
			rec.State = Incomplete
		} else if base, ok := strings.CutPrefix(w, "of="); ok {
			rec.Parents = append(rec.Parents, ID{base[0] - '0'})
		} else {
			rec.Tags = append(rec.Tags, w)
		}
	}
	return rec
}

// keptOf gives the numbers of the records that a policy keeps, in order.
func keptOf(verdicts []Verdict) (kept []int) {
	for _, v := range verdicts {
		if len(v.Keep) > 0 {
			kept = append(kept, int(v.Record.ID[0]))
		}
	}
	slices.Sort(kept)
	return kept
}

func parents(rec *Record) []ID { return rec.Parents }

func TestRetentionKeepsWhatTheRulesSay(t *testing.T) {
	// Records are numbered from 1, oldest first unless the times say otherwise.
	days := []string{"2026-01-01 10:00", "2026-01-02 10:00", "2026-01-02 22:00", "2026-01-03 10:00", "2026-01-05 10:00"}
	for _, c := range []struct {
		name    string
		rules   Retention
		records []string
		want    []int
	}{
		{"nothing is asked for: the last", Retention{}, days, []int{5}},
		{"last", Retention{Last: 2}, days, []int{4, 5}},
		{"last, more than there are", Retention{Last: 20}, days, []int{1, 2, 3, 4, 5}},
		{"hourly", Retention{Hourly: 2}, []string{"2026-01-01 10:05", "2026-01-01 10:55", "2026-01-01 11:00", "2026-01-01 11:59", "2026-01-01 13:30"}, []int{4, 5}},
		{"hourly: hours without one do not count", Retention{Hourly: 3}, []string{"2026-01-01 10:05", "2026-01-01 10:55", "2026-01-01 11:59", "2026-01-04 13:30"}, []int{2, 3, 4}},
		{"daily: the newest of each day", Retention{Daily: 3}, days, []int{3, 4, 5}},
		{"daily: days without one do not count", Retention{Daily: 4}, days, []int{1, 3, 4, 5}},
		{"daily: midnight belongs to the new day", Retention{Daily: 2}, []string{"2026-01-01 23:59", "2026-01-02 00:00", "2026-01-02 23:59"}, []int{1, 3}},
		{"weekly: weeks begin on Monday", Retention{Weekly: 2}, []string{"2026-01-04 10:00", "2026-01-05 10:00", "2026-01-11 10:00", "2026-01-12 10:00"}, []int{3, 4}},
		{"weekly: a week has two years", Retention{Weekly: 2}, []string{"2025-12-28 10:00", "2025-12-29 10:00", "2026-01-01 10:00"}, []int{1, 3}},
		{"weekly: the same week's number a year before", Retention{Weekly: 2}, []string{"2025-03-05 10:00", "2026-03-04 10:00"}, []int{1, 2}},
		{"monthly", Retention{Monthly: 2}, []string{"2025-12-31 10:00", "2026-01-01 10:00", "2026-01-31 10:00", "2026-02-01 10:00"}, []int{3, 4}},
		{"monthly: the same month of another year", Retention{Monthly: 2}, []string{"2025-01-10 10:00", "2026-01-10 10:00"}, []int{1, 2}},
		{"yearly", Retention{Yearly: 2}, []string{"2023-06-01 10:00", "2024-12-31 23:59", "2026-01-01 00:00", "2026-02-01 00:00"}, []int{2, 4}},
		{"rules add up", Retention{Last: 1, Daily: 2, Yearly: 1}, days, []int{4, 5}},
		{"rules add up, each for itself", Retention{Daily: 2, Monthly: 2}, []string{"2025-11-30 10:00", "2025-12-31 10:00", "2026-01-01 10:00", "2026-01-02 10:00"}, []int{2, 3, 4}},
		{"within counts from the newest, not from now", Retention{Within: 71 * time.Hour}, days, []int{3, 4, 5}},
		{"within includes its end", Retention{Within: 48 * time.Hour}, days, []int{4, 5}},
		{"tags", Retention{Tags: []string{"keep", "other"}}, []string{"2026-01-01 10:00 keep", "2026-01-02 10:00 no", "2026-01-03 10:00 no other", "2026-01-04 10:00"}, []int{1, 3, 4}},
		{"tags keep incomplete ones, too", Retention{Last: 1, Tags: []string{"keep"}}, []string{"2026-01-01 10:00 incomplete keep", "2026-01-02 10:00"}, []int{1, 2}},
		{"incomplete ones take no place", Retention{Last: 2}, []string{"2026-01-01 10:00", "2026-01-02 10:00 incomplete", "2026-01-03 10:00"}, []int{1, 3}},
		{"incomplete ones stay while they are newer", Retention{Last: 1}, []string{"2026-01-01 10:00", "2026-01-02 10:00", "2026-01-03 10:00 incomplete", "2026-01-04 10:00 incomplete"}, []int{2, 3, 4}},
		{"none is complete", Retention{Last: 1}, []string{"2026-01-01 10:00 incomplete", "2026-01-02 10:00 incomplete"}, []int{1, 2}},
		{"the last complete one stays though no rule keeps it", Retention{Tags: []string{"keep"}}, []string{"2026-01-01 10:00 keep", "2026-01-02 10:00", "2026-01-03 10:00"}, []int{1, 3}},
		{"ties: of the same instant the least id counts as the newest", Retention{Last: 1}, []string{"2026-01-01 10:00", "2026-01-01 10:00", "2026-01-01 10:00"}, []int{1}},
		{"ties: they take a place each", Retention{Last: 2}, []string{"2026-01-01 10:00", "2026-01-01 10:00", "2026-01-01 10:00"}, []int{1, 2}},
		{"ties: one of a day", Retention{Daily: 5}, []string{"2026-01-01 10:00", "2026-01-01 10:00"}, []int{1}},
		{"a record from the future is the newest and moves within", Retention{Within: 48 * time.Hour}, []string{"2026-01-01 10:00", "2026-01-02 10:00", "2099-01-01 10:00"}, []int{3}},
		{"a record from the future takes one place only", Retention{Daily: 2}, []string{"2026-01-01 10:00", "2026-01-02 10:00", "2099-01-01 10:00"}, []int{2, 3}},
		{"one record", Retention{Daily: 1}, []string{"2026-01-01 10:00"}, []int{1}},
		{"no record", Retention{Last: 1}, nil, nil},
		{"chains", Retention{Last: 1, Chain: parents}, []string{"2026-01-01 10:00", "2026-01-02 10:00 of=1", "2026-01-03 10:00", "2026-01-04 10:00 of=2"}, []int{1, 2, 4}},
		{"chains of what a tag keeps", Retention{Last: 1, Tags: []string{"keep"}, Chain: parents}, []string{"2026-01-01 10:00", "2026-01-02 10:00 of=1 keep", "2026-01-03 10:00"}, []int{1, 2, 3}},
		{"chains through incomplete ones", Retention{Last: 1, Chain: parents}, []string{"2026-01-01 10:00 incomplete", "2026-01-02 10:00 of=1"}, []int{1, 2}},
		{"a chain into itself comes to an end", Retention{Last: 1, Chain: parents}, []string{"2026-01-01 10:00 of=2", "2026-01-02 10:00 of=1", "2026-01-03 10:00 of=1"}, []int{1, 2, 3}},
		{"a base that is not there", Retention{Last: 1, Chain: parents}, []string{"2026-01-01 10:00", "2026-01-02 10:00 of=9"}, []int{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, "UTC")
			var group []*Record
			for i, text := range c.records {
				group = append(group, dated(t, i+1, text))
			}
			for range 2 { // in whatever order they come
				if got := keptOf(c.rules.Apply(group, group)); !slices.Equal(got, c.want) {
					t.Errorf("kept %v, want %v", got, c.want)
				}
				slices.Reverse(group)
			}
			// What is forgotten by the rules is forgotten at once: who applies
			// them to what is left forgets nothing more.
			left := slices.DeleteFunc(slices.Clone(group), func(r *Record) bool { return !slices.Contains(c.want, int(r.ID[0])) })
			if got := keptOf(c.rules.Apply(left, left)); !slices.Equal(got, c.want) {
				t.Errorf("kept %v when applied again, want %v", got, c.want)
			}
		})
	}
}

// Days and hours are those of the local clock, also where it is put forward or
// back.
func TestRetentionCountsInLocalTime(t *testing.T) {
	for _, c := range []struct {
		name, zone string
		rules      Retention
		utc        []string
		want       []int
	}{
		{"a day of Auckland has two dates in UTC", "Pacific/Auckland", Retention{Daily: 1}, []string{"2026-01-01 10:30", "2026-01-01 11:30", "2026-01-02 10:30"}, []int{3}},
		{"the same in UTC", "UTC", Retention{Daily: 2}, []string{"2026-01-01 10:30", "2026-01-01 11:30", "2026-01-02 10:30"}, []int{2, 3}},
		{"the day before in Auckland", "Pacific/Auckland", Retention{Daily: 2}, []string{"2026-01-01 10:30", "2026-01-01 11:30", "2026-01-02 10:30"}, []int{1, 3}},
		// Berlin, 2026-10-25: 02:30 is there twice, 00:30 and 01:30 UTC.
		{"an hour that is there twice is one", "Europe/Berlin", Retention{Hourly: 2}, []string{"2026-10-24 23:30", "2026-10-25 00:30", "2026-10-25 01:30"}, []int{1, 3}},
		{"a day of 25 hours is one", "Europe/Berlin", Retention{Daily: 2}, []string{"2026-10-24 21:59", "2026-10-24 22:01", "2026-10-25 22:59", "2026-10-25 23:01"}, []int{3, 4}},
		// Berlin, 2026-03-29: from 02:00 to 03:00, at 01:00 UTC.
		{"an hour that is left out", "Europe/Berlin", Retention{Hourly: 2}, []string{"2026-03-28 23:59", "2026-03-29 00:59", "2026-03-29 01:00"}, []int{2, 3}},
		{"a day of 23 hours is one", "Europe/Berlin", Retention{Daily: 2}, []string{"2026-03-28 22:59", "2026-03-28 23:00", "2026-03-29 21:59", "2026-03-29 22:00"}, []int{3, 4}},
		{"a week across it", "Europe/Berlin", Retention{Weekly: 2}, []string{"2026-03-22 22:59", "2026-03-22 23:01", "2026-03-29 21:59", "2026-03-29 22:01"}, []int{3, 4}},
		{"the year begins at local midnight", "America/New_York", Retention{Yearly: 2}, []string{"2025-12-31 23:30", "2026-01-01 04:30", "2026-01-01 05:30"}, []int{2, 3}},
		{"the month ends at local midnight", "America/New_York", Retention{Monthly: 1}, []string{"2026-02-01 04:59", "2026-02-01 05:00"}, []int{2}},
		{"half hours", "Asia/Kathmandu", Retention{Hourly: 1}, []string{"2026-01-01 10:14", "2026-01-01 10:16"}, []int{2}},
		{"within does not know of clocks", "Europe/Berlin", Retention{Within: 24 * time.Hour}, []string{"2026-10-24 11:59", "2026-10-24 12:00", "2026-10-25 12:00"}, []int{2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, "UTC")
			var group []*Record
			for i, text := range c.utc {
				group = append(group, dated(t, i+1, text))
			}
			in(t, c.zone)
			if got := keptOf(c.rules.Apply(group, group)); !slices.Equal(got, c.want) {
				t.Errorf("kept %v, want %v", got, c.want)
			}
		})
	}
}

// Two groups are judged apart, and put together: what a record kept in the one
// needs of the other is kept.
func TestRetentionKeepsChainsAcrossGroups(t *testing.T) {
	in(t, "UTC")
	a := []*Record{dated(t, 1, "2026-01-01 10:00"), dated(t, 2, "2026-01-02 10:00"), dated(t, 3, "2026-01-03 10:00")}
	b := []*Record{dated(t, 4, "2026-01-01 11:00 of=1"), dated(t, 5, "2026-01-02 11:00 of=4"), dated(t, 6, "2026-01-03 11:00")}
	all := slices.Concat(a, b)
	p := &Retention{Last: 1, Chain: parents}
	verdicts := append(p.Apply(a, all), p.Apply(b, all)...)
	// While group a is judged alone, 4 may be kept for all it knows.
	if got := keptOf(verdicts); !slices.Equal(got, []int{1, 3, 6}) {
		t.Errorf("judged apart: kept %v", got)
	}
	p.Last = 2
	verdicts = append(p.Apply(a, all), p.Apply(b, all)...)
	p.KeepChains(verdicts, all)
	if got := keptOf(verdicts); !slices.Equal(got, []int{1, 2, 3, 4, 5, 6}) {
		t.Errorf("put together: kept %v", got)
	}
	// Each says why.
	for _, v := range verdicts {
		if v.Record.ID == (ID{1}) && !slices.Equal(v.Keep, []string{"base of " + ID{4}.Short()}) {
			t.Errorf("the base is kept as %v", v.Keep)
		}
	}
	// Without rules, and by name: a record that others need is not let go.
	named := []Verdict{{Record: a[0]}}
	p.KeepChains(named, all)
	if len(named[0].Keep) == 0 {
		t.Error("the base of a record that is in no verdict is let go")
	}
	// All of a chain may go together.
	named = []Verdict{{Record: a[0]}, {Record: b[0]}, {Record: b[1]}}
	p.KeepChains(named, all)
	if got := keptOf(named); len(got) != 0 {
		t.Errorf("a whole chain is forgotten, and %v of it kept", got)
	}
}
