package requester

import (
	"fmt"

	"github.com/sombra-backup/sombra/vss"
)

// Typing is what the type asked for comes to for one component set.
type Typing struct {
	// Asked is what the writer is told (R-TYPE-1).
	Asked vss.BackupType
	// Type decides the files: whose masks count, and whether differenced and
	// partial files do.
	Type vss.BackupType
	// Base is what is built upon; nil: no previous stamp, and files by the masks
	// of a full backup.
	Base *Base
	// Counts is what later backups may build upon this one as: full,
	// incremental or log; zero: they build upon what was before it.
	Counts vss.BackupType
	// Also is the type whose files are saved besides those of a full backup, where
	// there is nothing to build upon: what the writer is told may let it drop files,
	// logs as a rule, that full backups do not save.
	Also vss.BackupType
	// LeftOut says why the component has no part (--strict-type), if it has none.
	LeftOut string
	// Notes say what is not as asked, in words for the plan, the result and the
	// record.
	Notes []string
}

// DecideType says what a backup of the type asked for is for one component set
// of the writer, with this history. The rules, first match first:
//
//   - full is full, and begins a chain (R-TYPE-2);
//   - copy has the files of a full backup, and touches no history; a writer
//     that does not know the type is told it all the same (R-TYPE-3, D-30);
//   - a type that the writer does not know is a full backup: the writer acts as
//     for one (R-TYPE-9, D-21). A log backup may leave it out instead (strict);
//   - a writer that allows only one of incremental and differential between two
//     full backups gets a full one instead of the second kind (R-TYPE-10);
//   - with nothing to build upon, files are those of a full backup and no
//     previous stamp is given, which to the writer means whole;
//   - else it is what was asked for, upon the newest base of its kind
//     (R-TYPE-4, R-TYPE-5, R-TYPE-14, D-19, D-22).
//
// Where a writer that knows differential backups is told of one, its history
// stays where it was (R-TYPE-5), and so does ours, even if all files are saved.
func DecideType(asked vss.BackupType, w *Writer, h ComponentHistory, strict bool) Typing {
	t := Typing{Asked: asked, Type: asked}
	switch asked {
	case vss.BackupTypeFull:
		t.Counts = asked
		return t
	case vss.BackupTypeCopy:
		if !w.Schema.Supports(asked) {
			t.note("the writer does not declare copy backups; it is told copy, and its logs are not to be truncated") // D-30
		}
		return t
	}
	if !w.Schema.Supports(asked) {
		if asked == vss.BackupTypeLog && strict {
			t.LeftOut = "its writer does not know log backups, and --strict-type leaves such components out" // D-30
			return t
		}
		t.full("the writer does not know %s backups, so that this is a full one of it", asked.Word()) // D-30
		t.Counts = vss.BackupTypeFull
		return t
	}
	if t.Base = h.base(asked); t.Base != nil && w.exclusive() && h.mixed(asked) {
		t.full("the writer allows one of incremental and differential backups between two full ones, and the other kind was made "+
			"since the last: all its files are saved, as in a full backup%s", t.again()) // R-TYPE-10
	} else if t.Base == nil {
		t.full("there is no backup for it to build upon: all its files are saved, as in a full backup%s", t.again())
	}
	if t.Base == nil {
		t.Also = asked
	}
	t.Counts = t.counts()
	return t
}

// full makes the files those of a full backup, and says why.
func (t *Typing) full(format string, args ...any) {
	t.Type, t.Base = vss.BackupTypeFull, nil
	t.note(format, args...)
}

func (t *Typing) note(format string, args ...any) {
	t.Notes = append(t.Notes, fmt.Sprintf(format, args...))
}

// again is said where the next backup of the type will be as large.
func (t *Typing) again() string {
	if t.Asked == vss.BackupTypeDifferential {
		return "; so will the next ones be until a full backup is made"
	}
	return ""
}

// counts is what a backup of a type that the writer knows is for later ones.
func (t *Typing) counts() vss.BackupType {
	switch {
	case t.Asked == vss.BackupTypeIncremental && t.Type == vss.BackupTypeFull:
		return vss.BackupTypeFull // the writer's history goes on from here, and all of it is saved
	case t.Asked == vss.BackupTypeDifferential:
		return vss.BackupTypeUndefined
	}
	return t.Asked
}

// base is what a backup of the type builds upon.
func (h *ComponentHistory) base(asked vss.BackupType) *Base {
	switch asked {
	case vss.BackupTypeIncremental:
		return h.Incremental
	case vss.BackupTypeDifferential:
		return h.Full
	case vss.BackupTypeLog:
		return h.Log
	}
	return nil
}

// mixed reports whether there was a backup of the other of the two kinds since
// the last full one.
func (h *ComponentHistory) mixed(asked vss.BackupType) bool {
	return asked == vss.BackupTypeIncremental && h.Differentials || asked == vss.BackupTypeDifferential && h.Incrementals
}

// exclusive reports whether the writer forbids to mix incremental and
// differential backups. The bit says nothing without both kinds (R-TYPE-10).
func (w *Writer) exclusive() bool {
	const all = vss.SchemaExclusiveIncrementalDifferential | vss.SchemaIncremental | vss.SchemaDifferential
	return w.Schema&all == all
}

// stamped reports whether the writer uses backup stamps: the bit says nothing
// without incremental or differential backups (R-TYPE-11).
func (w *Writer) stamped() bool {
	return w.Schema&vss.SchemaTimestamped != 0 && w.Schema&(vss.SchemaIncremental|vss.SchemaDifferential) != 0
}

// Saves reports whether the mask has the files of the set saved whole in a
// backup of this type, whatever their age (R-SET-25, R-SET-26). A log backup
// saves log files, and sets that a full backup does not (R-TYPE-6, D-29).
func (t *Typing) Saves(f *FileSet) bool { return dueFor(t.Type, f) || dueFor(t.Also, f) }

func dueFor(t vss.BackupType, f *FileSet) bool {
	if t == vss.BackupTypeUndefined || !f.Mask.BackupRequired(t) {
		return false
	}
	return t != vss.BackupTypeLog || f.Kind == DatabaseLogList || !f.Mask.BackupRequired(vss.BackupTypeFull)
}

// Lists reports whether the record lists the files of the set: those it saves
// and, as every record but a log's is complete, those of a full backup, with the
// base's content.
func (t *Typing) Lists(f *FileSet) bool {
	return t.Saves(f) || t.Fills() && f.Mask.BackupRequired(vss.BackupTypeFull)
}

// Fills reports whether what the type does not save is taken from the base.
// Then, too, the writers' lists of differenced and partial files count.
func (t *Typing) Fills() bool {
	return t.Type == vss.BackupTypeIncremental || t.Type == vss.BackupTypeDifferential
}

// FromShadow reports whether files of the set are read from the shadow copy
// only (R-SET-27).
func (t *Typing) FromShadow(f *FileSet) bool {
	if t.Also != vss.BackupTypeUndefined && !dueFor(t.Type, f) {
		return f.Mask.SnapshotRequired(t.Also)
	}
	return f.Mask.SnapshotRequired(t.Type)
}

// NeedsShadow reports whether the set is why its volume must have a shadow copy
// (R-SET-28). A set of which the type need not save any file may have new ones.
func (t *Typing) NeedsShadow(f *FileSet) bool { return t.Lists(f) && t.FromShadow(f) }
