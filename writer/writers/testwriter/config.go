package testwriter

import (
	"slices"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Verbosity is how much the writer says of what it does.
type Verbosity int

// Values of the attribute verbosity.
const (
	Low    Verbosity = iota // failures and what the requester does wrong
	Medium                  // events too; the default
	High                    // every step
)

// Config is a configuration as it stands in its file: paths are not expanded.
type Config struct {
	Usage        vss.UsageType
	Verbosity    Verbosity
	Delete       Delete
	Check        Check
	Supports     Supports
	LockFile     string // ours; empty if there is none
	PIDFile      string // ours; empty if there is none
	Stillness    writer.Stillness
	AddIn        writer.EventKind // ours: the event in which partial and differenced files are added
	Restore      metadata.RestoreMethod
	Mappings     []metadata.AlternateLocationMapping
	ExcludeFiles []vss.FileSpec
	Components   []Component
	FailEvents   []FailEvent
}

// Delete says which files the writer deletes once the shadow copy is made.
type Delete struct{ Files, Partial, Differenced bool }

// Check says what the writer checks after a restore.
type Check struct{ Includes, Excludes bool }

// Supports says what goes into the backup schema.
type Supports struct{ Copy, Differential, Incremental, Log, NewTarget bool }

// Component is one element Component.
type Component struct {
	Type                 vss.ComponentType
	LogicalPath          string
	Name                 string
	Selectable           bool
	SelectableForRestore bool // ours
	Files                []File
	Partial              []PartialFile
	Differenced          []DifferencedFile
	Dependencies         []metadata.Dependency
}

// FullPath gives logical path and name.
func (c *Component) FullPath() string { return vss.FullPath(c.LogicalPath, c.Name) }

// File is one element ComponentFile.
type File struct {
	vss.FileSpec
	AlternatePath string
	BackupType    vss.FileSpecBackupType
	Log           bool // ours: among the log files of a database
}

// PartialFile is one element PartialFile.
type PartialFile struct {
	Path   string
	Name   string
	Ranges string
}

// DifferencedFile is one element DifferencedFile. Since is local time; zero if
// the element gives none (ours): then the requester decides (R-SET-31).
type DifferencedFile struct {
	vss.FileSpec
	Since time.Time
}

// FailEvent is one element FailEvent.
type FailEvent struct {
	Event     writer.EventKind
	Retryable bool
	// Count is how often the event fails, negative for every time.
	Count int
	// Hang, if not zero, is how long the event takes instead of failing; ours.
	Hang time.Duration
}

// schema gives the backup schema that the configuration amounts to.
func (c *Config) schema() vss.BackupSchema {
	var s vss.BackupSchema
	for _, bit := range []struct {
		on   bool
		mask vss.BackupSchema
	}{
		{c.Supports.Copy, vss.SchemaCopy},
		{c.Supports.Differential, vss.SchemaDifferential},
		{c.Supports.Incremental, vss.SchemaIncremental},
		{c.Supports.Log, vss.SchemaLog},
		{c.Supports.NewTarget, vss.SchemaNewTarget},
		{c.hasDifferenced() && (c.Supports.Differential || c.Supports.Incremental), vss.SchemaLastModify},
	} {
		if bit.on {
			s |= bit.mask
		}
	}
	return s
}

func (c *Config) hasDifferenced() bool {
	return slices.ContainsFunc(c.Components, func(c Component) bool { return len(c.Differenced) > 0 })
}

// supportsType reports whether the writer declares a type of backup; full
// always is (R-TYPE-8).
func (c *Config) supportsType(t vss.BackupType) bool {
	switch t {
	case vss.BackupTypeFull:
		return true
	case vss.BackupTypeCopy:
		return c.Supports.Copy
	case vss.BackupTypeIncremental:
		return c.Supports.Incremental
	case vss.BackupTypeDifferential:
		return c.Supports.Differential
	case vss.BackupTypeLog:
		return c.Supports.Log
	}
	return false
}

// members gives a component and, if it defines a component set, all below it
// (R-SEL-10, R-SEL-11).
func (c *Config) members(of *Component) []*Component {
	all := []*Component{of}
	if !of.Selectable {
		return all
	}
	for i := range c.Components {
		if m := &c.Components[i]; vss.IsDescendant(m.LogicalPath, of.FullPath()) {
			all = append(all, m)
		}
	}
	return all
}

func (c *Config) component(logicalPath, name string) *Component {
	for i := range c.Components {
		if m := &c.Components[i]; m.LogicalPath == logicalPath && m.Name == name {
			return m
		}
	}
	return nil
}
