package repository

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Retention says which of the records of a group are kept. A rule that is zero
// keeps nothing; records that no rule keeps are forgotten.
type Retention struct {
	// Last keeps so many of the newest complete records.
	Last int
	// Hourly keeps the newest complete record of each of the last so many hours
	// that have one; Daily, Weekly (ISO weeks), Monthly and Yearly likewise, in
	// local time.
	Hourly, Daily, Weekly, Monthly, Yearly int
	// Within keeps all complete records that are not older than that, counted
	// from the newest.
	Within time.Duration
	// Tags keeps every record that has one of these tags.
	Tags []string
	// Chain, if not nil, gives the records that restoring this one needs. They
	// are kept as long as it is.
	Chain func(*Record) []ID
}

// Empty says whether no rule keeps anything.
func (p *Retention) Empty() bool {
	return p.Last == 0 && p.Hourly == 0 && p.Daily == 0 && p.Weekly == 0 && p.Monthly == 0 && p.Yearly == 0 && p.Within == 0 && len(p.Tags) == 0
}

// Verdict is what becomes of a record, and why.
type Verdict struct {
	Record *Record
	// Keep has the reasons for which it is kept. It is forgotten if there are
	// none.
	Keep []string
}

// stretch is a rule that keeps one record of each stretch of time.
type stretch struct {
	name  string
	count int
	key   func(time.Time) string
}

// Apply judges the records of one group, in any order; it gives the verdicts
// newest first. Incomplete records take no complete one's place: they are kept
// while no complete one is newer, and by their tags. The newest complete record
// is always kept, and so is whatever a kept record's chain needs. all are the
// records of every group: a chain may lead into another one.
func (p *Retention) Apply(group, all []*Record) []Verdict {
	group = slices.Clone(group)
	slices.SortFunc(group, func(a, b *Record) int {
		return cmp.Or(b.Time.Compare(a.Time), slices.Compare(a.ID[:], b.ID[:]))
	})
	verdicts := make([]Verdict, len(group))
	newest := -1
	for i, rec := range group {
		verdicts[i].Record = rec
		if rec.State == Complete && newest < 0 {
			newest = i
		}
		if slices.ContainsFunc(rec.Tags, func(t string) bool { return slices.Contains(p.Tags, t) }) {
			verdicts[i].keep("tag")
		}
		if newest < 0 {
			verdicts[i].keep("newer than every complete one")
		}
	}
	for _, s := range p.slots() {
		p.applySlot(s, verdicts)
	}
	if newest >= 0 {
		limit := group[newest].Time.Add(-p.Within)
		for i, rec := range group {
			if p.Within > 0 && rec.State == Complete && !rec.Time.Before(limit) {
				verdicts[i].keep(fmt.Sprintf("within %v", p.Within))
			}
		}
		if len(verdicts[newest].Keep) == 0 {
			verdicts[newest].keep("the last complete one")
		}
	}
	p.KeepChains(verdicts, all)
	return verdicts
}

func (v *Verdict) keep(why string) { v.Keep = append(v.Keep, why) }

func (p *Retention) slots() []stretch {
	return []stretch{
		{"last", p.Last, nil},
		{"hourly", p.Hourly, func(t time.Time) string { return t.Format("2006-01-02 15") }},
		{"daily", p.Daily, func(t time.Time) string { return t.Format(time.DateOnly) }},
		{"weekly", p.Weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, w) }},
		{"monthly", p.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
		{"yearly", p.Yearly, func(t time.Time) string { return t.Format("2006") }},
	}
}

// applySlot keeps the newest record of each stretch.
func (p *Retention) applySlot(s stretch, verdicts []Verdict) {
	last := ""
	for i := range verdicts {
		rec := verdicts[i].Record
		if s.count == 0 {
			return
		}
		if rec.State != Complete {
			continue
		}
		key := fmt.Sprint(i)
		if s.key != nil {
			key = s.key(rec.Time.Local())
		}
		if key != last {
			verdicts[i].keep(s.name)
			s.count--
		}
		last = key
	}
}

// KeepChains keeps what kept records need, of these verdicts; it is called again
// when the verdicts of several groups are put together. Records that are in no
// verdict are kept.
func (p *Retention) KeepChains(verdicts []Verdict, all []*Record) {
	if p.Chain == nil {
		return
	}
	at := map[ID]int{}
	for i, v := range verdicts {
		at[v.Record.ID] = i
	}
	var kept []*Record
	for _, rec := range all {
		if i, judged := at[rec.ID]; !judged || len(verdicts[i].Keep) > 0 {
			kept = append(kept, rec)
		}
	}
	for len(kept) > 0 {
		rec := kept[len(kept)-1]
		kept = kept[:len(kept)-1]
		for _, id := range p.Chain(rec) {
			if i, ok := at[id]; ok && len(verdicts[i].Keep) == 0 {
				verdicts[i].keep("base of " + rec.ID.Short())
				kept = append(kept, verdicts[i].Record)
			}
		}
	}
}
