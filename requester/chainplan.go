package requester

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// maxChain bounds the links of a chain.
const maxChain = 1 << 16

// ChainPlan is what restoring components of one record takes: one operation for
// each record (R-TYPE-20), oldest first. The last is the record itself.
type ChainPlan struct {
	Links []*ChainLink
	// Holes name the components whose chain is not whole, and what it lacks.
	// They are in no link.
	Holes []*Hole
}

// ChainLink is one operation: a record, and the components that have a part in
// it.
type ChainLink struct {
	Past  *PastRecord
	Parts []ChainPart
}

// ChainPart is a component's part in a link.
type ChainPart struct {
	Key  HistoryKey
	Type vss.BackupType // what it came to in the record
	// More: later links have a part of it (SetAdditionalRestores).
	More bool
}

// Part gives the part of a component, nil if it has none.
func (l *ChainLink) Part(key HistoryKey) *ChainPart {
	for i := range l.Parts {
		if l.Parts[i].Key == key {
			return &l.Parts[i]
		}
	}
	return nil
}

// Hole says why the chain of a component is not whole.
type Hole struct {
	Key   HistoryKey
	Label string // the component's name for people; may be empty
	// By is the record that cannot be restored, Needed the one that is at
	// fault: missing, or of no use.
	By     repository.ID
	Needed string // the id
	Why    string
	// Instead is the newest earlier record that the component can be restored
	// from, zero if there is none.
	Instead     repository.ID
	InsteadTime time.Time
}

// String says it in one line.
func (h *Hole) String() string {
	var b strings.Builder
	label := h.Label
	if label == "" {
		label = h.Key.label()
	}
	fmt.Fprintf(&b, "%s: record %s", label, h.Needed[:min(len(h.Needed), 8)])
	if h.Needed != h.By.String() {
		fmt.Fprintf(&b, ", which its backup %s continues,", h.By.Short())
	}
	b.WriteString(" " + h.Why)
	if h.Instead.IsZero() {
		b.WriteString("; no earlier backup of it can be restored either")
	} else {
		fmt.Fprintf(&b, "; the last one before it that can be restored is %s of %s", h.Instead.Short(), h.InsteadTime.Local().Format(time.DateTime))
	}
	return b.String()
}

// label names the component for people.
func (k HistoryKey) label() string {
	if k.InstanceName != "" {
		return k.InstanceName + `:\` + k.FullPath()
	}
	return k.Class.String() + `:\` + k.FullPath()
}

// ChainError says that chains are not whole. Nothing has been touched when it is
// returned.
type ChainError struct{ Holes []*Hole }

// Error names each hole.
func (e *ChainError) Error() string {
	var list []string
	for _, h := range e.Holes {
		list = append(list, h.String())
	}
	return "restore: " + strings.Join(list, "; ")
}

// PlanChains finds the links that restoring these components of a record takes:
//
//   - full: the record alone, whatever was before it (R-TYPE-2);
//   - copy: the record alone: it has the files of a full one and continues
//     nothing (R-TYPE-3);
//   - differential: the full one it was made against, and the record (R-TYPE-5);
//   - incremental: the last full one, all incremental ones since, and the record
//     (R-TYPE-4, D-19);
//   - log: what the last backup that is no log needs, the log backups since, and
//     the record (R-TYPE-6).
//
// What counts is what the component came to in the record, not what was asked:
// one saved whole for want of a base begins a chain. Of a component that the
// record tells no history of, the record is all there is.
func (p *PastRecords) PlanChains(chosen *PastRecord, keys []HistoryKey) (*ChainPlan, error) {
	plan := &ChainPlan{}
	m := chainMerge{at: map[*PastRecord]*ChainLink{}, before: map[*PastRecord][]*PastRecord{}}
	for _, key := range keys {
		chain, hole := p.chain(chosen, key)
		if hole != nil {
			p.instead(hole, chosen)
			plan.Holes = append(plan.Holes, hole)
			continue
		}
		m.add(key, chain)
	}
	if m.at[chosen] == nil { // for the data of no writer
		m.at[chosen] = &ChainLink{Past: chosen}
	}
	var err error
	plan.Links, err = m.order(chosen)
	return plan, err
}

// chainStep is a record of one component's chain.
type chainStep struct {
	past *PastRecord
	typ  vss.BackupType
}

// chain follows a component from the chosen record to the one its chain begins
// with; the result begins with that one.
func (p *PastRecords) chain(chosen *PastRecord, key HistoryKey) ([]chainStep, *Hole) {
	var steps []chainStep
	seen := map[*PastRecord]bool{}
	by := chosen
	for past := chosen; ; {
		fault := func(why string, args ...any) ([]chainStep, *Hole) {
			return nil, &Hole{Key: key, By: by.ID, Needed: past.ID.String(), Why: fmt.Sprintf(why, args...)}
		}
		line, err := past.Line(key)
		switch {
		case err != nil:
			return fault("cannot be used: %v", err)
		case line == nil && past == chosen:
			return []chainStep{{past, vss.BackupTypeUndefined}}, nil
		case line == nil:
			return fault("has no part of the component")
		case !line.Succeeded:
			return fault("has not saved the component whole")
		case past.spoiled[key] != "":
			return fault("%s", past.spoiled[key])
		}
		typ, _ := vss.ParseBackupType(line.Type)
		if len(steps) > 0 && !buildsUpon(steps[len(steps)-1].typ, typ) {
			return fault("is of type %s there, which type %s cannot continue", typ.Word(), steps[len(steps)-1].typ.Word())
		}
		if len(steps) >= maxChain || seen[past] {
			return fault("makes a chain without a beginning")
		}
		seen[past] = true
		steps = append(steps, chainStep{past, typ})
		if alone(typ) || line.Base == "" && typ != vss.BackupTypeLog {
			slices.Reverse(steps)
			return steps, nil
		}
		if line.Base == "" {
			return fault("is a log backup, and does not say what it continues")
		}
		base := p.Base(past, line)
		if base == nil {
			return nil, &Hole{Key: key, By: past.ID, Needed: line.Base, Why: "is not in the repository"}
		}
		by, past = past, base
	}
}

// alone reports whether a backup of the type continues nothing.
func alone(t vss.BackupType) bool { return t == vss.BackupTypeFull || t == vss.BackupTypeCopy }

// buildsUpon reports whether a backup of type t may continue one of type base
// (R-TYPE-4, R-TYPE-5, D-19): nothing continues a differential one or a copy.
func buildsUpon(t, base vss.BackupType) bool {
	switch base {
	case vss.BackupTypeFull:
		return true
	case vss.BackupTypeIncremental:
		return t == vss.BackupTypeIncremental || t == vss.BackupTypeLog
	case vss.BackupTypeLog:
		return t == vss.BackupTypeLog
	}
	return false
}

// instead looks for the newest record before the chosen one that the component
// can be restored from.
func (p *PastRecords) instead(h *Hole, chosen *PastRecord) {
	for _, past := range slices.Backward(p.list) {
		if !past.Time.Before(chosen.Time) || past.Host != chosen.Host {
			continue
		}
		if line, err := past.Line(h.Key); err != nil || line == nil {
			continue
		}
		if _, hole := p.chain(past, h.Key); hole == nil {
			h.Instead, h.InsteadTime = past.ID, past.Time
			return
		}
	}
}

// chainMerge makes one list of operations of many chains.
type chainMerge struct {
	at     map[*PastRecord]*ChainLink
	before map[*PastRecord][]*PastRecord // what must be restored before
}

func (m *chainMerge) add(key HistoryKey, chain []chainStep) {
	for i, s := range chain {
		link := m.at[s.past]
		if link == nil {
			link = &ChainLink{Past: s.past}
			m.at[s.past] = link
		}
		link.Parts = append(link.Parts, ChainPart{Key: key, Type: s.typ, More: i < len(chain)-1})
		if i > 0 && !slices.Contains(m.before[s.past], chain[i-1].past) {
			m.before[s.past] = append(m.before[s.past], chain[i-1].past)
		}
	}
}

// order gives the links so that each comes after what it continues, else by
// time, and the chosen one last. (A host's clock may have been set back.)
func (m *chainMerge) order(chosen *PastRecord) ([]*ChainLink, error) {
	list := make([]*PastRecord, 0, len(m.at))
	for past := range m.at {
		if past != chosen {
			list = append(list, past)
		}
	}
	slices.SortFunc(list, func(a, b *PastRecord) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
	var out []*ChainLink
	place := map[*PastRecord]int{}
	var visit func(past *PastRecord)
	visit = func(past *PastRecord) {
		if _, done := place[past]; done {
			return
		}
		place[past] = -1
		for _, b := range m.before[past] {
			visit(b)
		}
		place[past] = len(out)
		out = append(out, m.at[past])
	}
	for _, past := range append(list, chosen) {
		visit(past)
	}
	for past, bases := range m.before {
		for _, b := range bases {
			if place[b] >= place[past] {
				return nil, fmt.Errorf("restore: records %s and %s each say that they continue the other", past.ID.Short(), b.ID.Short())
			}
		}
	}
	return out, nil
}
