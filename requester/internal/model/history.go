package model

import (
	"slices"

	"github.com/sombra-backup/sombra/vss"
)

// Part is what one explicit component had in a backup.
type Part struct {
	Asked vss.BackupType // what its writer was told
	Type  vss.BackupType // whose files were saved
	Base  int            // the record its files continue, -1 if none
	Known bool           // its writer declares the type asked for
	Out   bool           // it had no part (--strict-type)
	// Failed: some file of its set was not saved, so that nothing builds on it.
	Failed bool
}

// Record is one backup.
type Record struct {
	Parts map[ID]Part
	Files map[string]Entry
	Gone  bool // it is not in the repository any more
}

// ID names a component of a writer.
type ID struct{ Writer, Component string }

// Entry is a file of a record.
type Entry struct {
	Held
	Of     ID // the explicit component; zero if the data is nobody's
	file   uint64
	listed bool // it is in no file set: a list of the writer's named it
	Shadow bool // it must come from the shadow copy
	// Carried: a later backup of the chain may lack it though it is still a part
	// of what a restore needs, since its writer may let it go once it is saved.
	Carried bool
}

// History is the backups made, the oldest first.
type History []*Record

// part is what a record that is there has of a component; ok only if all of it
// was saved.
func (h History) part(i int, c ID) (p Part, ok bool) {
	p, ok = h[i].Parts[c]
	return p, ok && !h[i].Gone && !p.Out && !p.Failed
}

// Chain gives the records that restoring a component from one takes, the oldest
// first: its bases down to one that stands alone. It is nil if one is missing.
func (h History) Chain(i int, c ID) (out []int) {
	for i >= 0 {
		p, ok := h[i].Parts[c]
		if h[i].Gone || !ok || p.Out || p.Failed {
			return nil
		}
		out = append([]int{i}, out...)
		i = p.Base
	}
	return out
}

// due reports whether the backup saves a set by its mask: without a base what a full
// one has, and what the type asked for has besides, since its writer may let that go.
func (p Part) due(s Set) bool { return s.Due(p.Type) || p.Known && p.Base < 0 && s.Due(p.Asked) }

// needsShadow reports whether the set must come from the shadow copy.
func (p Part) needsShadow(s Set) bool {
	if !s.Due(p.Type) && p.due(s) {
		return s.NeedsShadow(p.Asked)
	}
	return s.NeedsShadow(p.Type)
}

// advances is what a part is for those that come after it: a full, an
// incremental or a log backup, or 0 for what none builds upon.
func (p Part) advances() vss.BackupType {
	switch {
	case p.Asked == vss.BackupTypeCopy:
		return 0 // R-TYPE-3
	case !p.Known:
		return vss.BackupTypeFull // its writer acts as for one (R-TYPE-9)
	case p.Asked == vss.BackupTypeDifferential:
		return 0 // R-TYPE-5
	case p.Asked == vss.BackupTypeLog:
		return vss.BackupTypeLog
	}
	return p.Type // an incremental that saved everything is as good as a full one
}

// newest gives the newest record of a component that is one of the types.
func (h History) newest(c ID, types ...vss.BackupType) int {
	for i := len(h) - 1; i >= 0; i-- {
		p, ok := h.part(i, c)
		if ok && slices.Contains(types, p.advances()) {
			return i
		}
	}
	return -1
}

// base gives the record that a backup builds upon: the newest of its kinds, or
// none if that cannot be restored. An older one is not what the writer goes by.
func (h History) base(c ID, types ...vss.BackupType) int {
	i := h.newest(c, types...)
	if i < 0 || h.Chain(i, c) == nil {
		return -1
	}
	return i
}

// since reports whether there was a backup of a type after a record.
func (h History) since(i int, c ID, t vss.BackupType) bool {
	for i++; i < len(h); i++ {
		if p, ok := h.part(i, c); ok && p.Type == t {
			return true
		}
	}
	return false
}

// Decide says what a backup of a type is for a component of a writer.
func (h History) Decide(w *Writer, component string, asked vss.BackupType, strict bool) Part {
	const full, incremental, differential, log = vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeDifferential, vss.BackupTypeLog
	c := ID{w.Name, component}
	p := Part{Asked: asked, Type: asked, Base: -1, Known: w.knows(asked)}
	switch {
	case asked == full || asked == vss.BackupTypeCopy:
		return p
	case !p.Known: // R-TYPE-9, D-30
		p.Type, p.Out = full, asked == log && strict
		return p
	}
	lastFull := h.newest(c, full)
	exclusive := w.Schema&0x7 == 0x7 // R-TYPE-10: the bit and both kinds
	switch asked {
	case incremental: // R-TYPE-4, D-19
		p.Base = h.base(c, full, incremental)
		if exclusive && h.since(lastFull, c, differential) {
			p.Base = -1
		}
	case differential: // R-TYPE-5
		p.Base = h.base(c, full)
		if exclusive && h.since(lastFull, c, incremental) {
			p.Base = -1
		}
	case log:
		p.Base = h.base(c, full, incremental, log)
	}
	if p.Base < 0 {
		p.Type = full
	}
	return p
}
