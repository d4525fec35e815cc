package model

import "github.com/sombra-backup/sombra/vss"

// Due reports whether a backup of a type saves the set by its mask: R-SET-25 and
// R-SET-26, for a copy by the bits of a full one, and for a log backup by D-29.
func (s Set) Due(t vss.BackupType) bool {
	full := s.Mask&0x1 != 0
	switch t {
	case vss.BackupTypeFull, vss.BackupTypeCopy:
		return full
	case vss.BackupTypeDifferential:
		return s.Mask&0x2 != 0
	case vss.BackupTypeIncremental:
		return s.Mask&0x4 != 0
	case vss.BackupTypeLog:
		return s.Mask&0x8 != 0 && (s.Log || !full)
	}
	panic("no such type of backup")
}

// NeedsShadow reports whether a backup of a type must read the set from the
// shadow copy (R-SET-27).
func (s Set) NeedsShadow(t vss.BackupType) bool {
	switch t {
	case vss.BackupTypeFull, vss.BackupTypeCopy:
		return s.Mask&0x100 != 0
	case vss.BackupTypeDifferential:
		return s.Mask&0x200 != 0
	case vss.BackupTypeIncremental:
		return s.Mask&0x400 != 0
	case vss.BackupTypeLog:
		return s.Mask&0x800 != 0
	}
	panic("no such type of backup")
}

// knows reports whether a writer declares a type (R-TYPE-7, R-TYPE-8).
func (w *Writer) knows(t vss.BackupType) bool {
	switch t {
	case vss.BackupTypeDifferential:
		return w.Schema&0x1 != 0
	case vss.BackupTypeIncremental:
		return w.Schema&0x2 != 0
	case vss.BackupTypeLog:
		return w.Schema&0x8 != 0
	}
	return true // a copy is one whatever the schema says (D-30)
}

// usesTimes reports whether a backup of a type goes by the writer's lists of
// differenced files (R-SET-32).
func (w *Writer) usesTimes(t vss.BackupType) bool {
	return (t == vss.BackupTypeDifferential || t == vss.BackupTypeIncremental) && w.knows(t) && w.Schema&0x40 != 0
}
