package model

import (
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// File is a file of a tree. Time is when it was last modified, in any unit. ID
// tells one that was written anew in the place of another from the one before; 0
// is not known.
type File struct {
	Data string
	Time int64
	ID   uint64
}

// Tree maps paths to files.
type Tree map[string]File

// Set is one file set of a component.
type Set struct {
	Spec
	Alternate string // the directory it is read from instead
	Mask      vss.FileSpecBackupType
	Log       bool // in a database's list of log files
}

// Range is a run of bytes.
type Range struct{ Offset, Length int64 }

// Partial is a file of which the writer says that only ranges matter.
type Partial struct {
	Path   string
	Ranges []Range
}

// Differenced is a set of files of which the writer says that those modified
// after a time matter. Zero leaves it to the requester (R-SET-31).
type Differenced struct {
	Spec
	After int64
}

// Component is one component, and what its writer says of it in a backup.
type Component struct {
	Path                             string // logical path and name
	Database                         bool
	Selectable, SelectableForRestore bool
	Sets                             []Set
	Differenced                      []Differenced
	Partial                          []Partial
}

// Writer is a writer and its document.
type Writer struct {
	Name       string
	Schema     vss.BackupSchema
	Components []Component
	Excludes   []Spec
}

func (w *Writer) component(path string) *Component {
	for i := range w.Components {
		if w.Components[i].Path == path {
			return &w.Components[i]
		}
	}
	return nil
}

// above gives the selectable components above one, the nearest first (R-SEL-4).
func (w *Writer) above(path string) (out []string) {
	for _, c := range w.Components {
		if c.Selectable && strings.HasPrefix(path, c.Path+`\`) {
			out = append(out, c.Path)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return out
}

// Explicit gives what must be added for the components somebody wants: what is
// not selectable is wanted by its nearest selectable ancestor (R-SEL-8), what
// belongs to a set that is taken is not added beside it (R-SEL-9), and what no
// set can hold and is not selectable always comes (R-SEL-6, R-SEL-11, D-1).
func (w *Writer) Explicit(wanted ...string) (out []string) {
	if len(wanted) == 0 {
		return nil // R-SEL-13
	}
	raised := map[string]bool{}
	for _, full := range wanted {
		if c := w.component(full); !c.Selectable && len(w.above(full)) > 0 {
			full = w.above(full)[0]
		}
		raised[full] = true
	}
	for _, c := range w.Components {
		above := w.above(c.Path)
		within := slices.ContainsFunc(above, func(a string) bool { return raised[a] })
		if !c.Selectable && len(above) == 0 || c.Selectable && raised[c.Path] && !within {
			out = append(out, c.Path)
		}
	}
	slices.Sort(out)
	return out
}

// Members gives an explicit component and what comes with it (R-SEL-10).
func (w *Writer) Members(explicit string) (out []string) {
	for _, c := range w.Components {
		if c.Path == explicit || w.component(explicit).Selectable && strings.HasPrefix(c.Path, explicit+`\`) {
			out = append(out, c.Path)
		}
	}
	slices.Sort(out)
	return out
}

// excludes reports whether a file is never saved for this writer (R-SET-10).
func (w *Writer) excludes(path string) bool { return anyHas(w.Excludes, path) }

// claims reports whether a component claims the file of the normal path.
func (w *Writer) claims(c *Component, path string) bool {
	for _, s := range c.Sets {
		if s.Has(path) && !w.excludes(path) {
			return true
		}
	}
	return false
}
