package model

import "github.com/sombra-backup/sombra/vss"

// Spot is a place that a file would go to, as it is when PreRestore has ended.
type Spot struct {
	There bool // something is
	Free  bool // the file can be made there, in the place of what is
}

// Restored is one file of a component set that is to be restored.
type Restored struct {
	Original Spot
	// Mapped is where the writer's alternate location mapping of its file set
	// leads; nil if there is none.
	Mapped *Spot
}

// Scene is what a restore of one component set is decided from.
type Scene struct {
	Method      vss.RestoreMethod
	Target      vss.RestoreTarget // as the writer set it in PreRestore
	Files       []Restored
	ServiceRuns bool // and cannot be stopped
	NoReboot    bool // nothing can be left for the next start
}

// Way is where the files of a set go.
type Way string

// The ways.
const (
	ToOriginal  Way = "original"
	ToAlternate Way = "alternate"
	AtReboot    Way = "reboot"
	Directed    Way = "directed"
	Nowhere     Way = "refused"
)

// Way decides for all files of the set alike (R-RES-2 to R-RES-17).
func (s Scene) Way() Way {
	if s.Method == vss.RestoreMethodStopRestoreStart && s.ServiceRuns {
		return Nowhere // R-RES-7
	}
	switch s.Method { // R-RES-16: no target has a say
	case vss.RestoreMethodCustom:
		return Nowhere // R-RES-12
	case vss.RestoreMethodAtReboot:
		return s.reboot() // R-RES-10
	case vss.RestoreMethodAtRebootIfCannotReplace:
		if s.all(func(f Restored) bool { return f.Original.Free }) {
			return ToOriginal // R-RES-11
		}
		return s.reboot()
	}
	switch s.Target { // R-RES-17
	case vss.RestoreTargetAlternate:
		return s.alternate()
	case vss.RestoreTargetOriginalLocation:
		return s.original()
	case vss.RestoreTargetDirected:
		return Directed
	case vss.RestoreTargetOriginal:
	default:
		return Nowhere
	}
	switch s.Method {
	case vss.RestoreMethodIfNotThere: // R-RES-5, and D-25 for what the mappings lead to
		if s.all(func(f Restored) bool { return !f.Original.There }) {
			return s.original()
		}
		if s.all(func(f Restored) bool { return f.Mapped != nil && !f.Mapped.There }) {
			return s.alternate()
		}
	case vss.RestoreMethodIfCanReplace, vss.RestoreMethodStopRestoreStart: // R-RES-6, D-24
		if s.original() == ToOriginal {
			return ToOriginal
		}
		return s.alternate()
	case vss.RestoreMethodRestoreStopStart: // R-RES-8
		return s.original()
	case vss.RestoreMethodToAlternateLocation: // R-RES-9
		return s.alternate()
	}
	return Nowhere // R-RES-13
}

func (s Scene) all(ok func(Restored) bool) bool {
	for _, f := range s.Files {
		if !ok(f) {
			return false
		}
	}
	return true
}

func (s Scene) original() Way {
	if s.all(func(f Restored) bool { return f.Original.Free }) {
		return ToOriginal
	}
	return Nowhere
}

// alternate is R-RES-4.
func (s Scene) alternate() Way {
	if s.all(func(f Restored) bool { return f.Mapped != nil && f.Mapped.Free }) {
		return ToAlternate
	}
	return Nowhere
}

func (s Scene) reboot() Way {
	if s.NoReboot {
		return Nowhere
	}
	return AtReboot
}
