package requester

import (
	"fmt"
	"strings"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Writer is one writer instance as its document describes it.
type Writer struct {
	Info         session.WriterInfo
	Instance     vss.GUID
	Class        vss.GUID
	Name         string // friendly name
	InstanceName string // survives restarts; may be empty
	Usage        vss.UsageType
	Schema       vss.BackupSchema
	Restore      RestoreMethod
	Components   []*Component
	// Exclude holds for all components, chosen or not (R-SET-10).
	Exclude []vss.FileSpec
}

// level is the consistency of the component's files, if its writer succeeds.
func (c *Component) level() session.Level {
	if c.Writer.Info.CrashConsistent {
		return session.LevelCrash
	}
	return session.LevelApp
}

// RestoreMethod is how a writer wants its files put back.
type RestoreMethod struct {
	Given         bool // the document has one (D-3)
	Method        vss.RestoreMethod
	WriterRestore vss.WriterRestore
	Reboot        bool
	Service       string
	Procedure     string // address of the application's instructions for a person
	Mappings      []Mapping
}

// Mapping is an alternate location mapping (R-RES-18).
type Mapping struct {
	Spec        vss.FileSpec
	Destination string
}

// Label names a writer for people: its friendly name, and its instance name
// where it has one.
func (w *Writer) Label() string {
	if w.InstanceName == "" || w.InstanceName == w.Name {
		return w.Name
	}
	return w.Name + " (" + w.InstanceName + ")"
}

// Component is one component and its place in its writer's tree.
type Component struct {
	Writer               *Writer
	Type                 vss.ComponentType
	LogicalPath          string
	Name                 string
	Caption              string
	Selectable           bool
	SelectableForRestore bool
	Flags                vss.ComponentFlags
	Files                []FileSet
	Dependencies         []Dependency

	ancestors []*Component // nearest first
	members   []*Component // all descendants, in the document's order
}

// ListKind is the list of a component that a file set is in.
type ListKind int

// The lists (R-SET-7).
const (
	FileGroupList ListKind = iota
	DatabaseList
	DatabaseLogList
)

// FileSet is one file specification of a component.
type FileSet struct {
	Spec      vss.FileSpec
	Alternate string // where to read from in a backup; empty: from Spec.Path
	Mask      vss.FileSpecBackupType
	Kind      ListKind
}

// Dependency names a component of another writer (R-SEL-31).
type Dependency struct {
	Class       vss.GUID
	LogicalPath string
	Name        string
	Computer    string // not empty: on another machine (R-SEL-34)
}

// String names the target for people.
func (d Dependency) String() string {
	s := d.Class.String() + ":" + vss.FullPath(d.LogicalPath, d.Name)
	if d.Computer != "" {
		s += " on " + d.Computer
	}
	return s
}

// ID is what identifies the component (R-SEL-1).
func (c *Component) ID() vss.ComponentID {
	return vss.ComponentID{WriterClass: c.Writer.Class, LogicalPath: c.LogicalPath, Name: c.Name}
}

// FullPath is the logical path and the name joined.
func (c *Component) FullPath() string { return vss.FullPath(c.LogicalPath, c.Name) }

// Label names the component for people.
func (c *Component) Label() string { return c.Writer.Label() + `:\` + c.FullPath() }

// Session gives the component as calls of a session take it.
func (c *Component) Session() session.Component {
	return session.Component{Instance: c.Writer.Instance, Writer: c.Writer.Class,
		Type: c.Type, LogicalPath: c.LogicalPath, Name: c.Name}
}

// SelectableAncestor is the nearest selectable one, or nil.
func (c *Component) SelectableAncestor() *Component {
	for _, a := range c.ancestors {
		if a.Selectable {
			return a
		}
	}
	return nil
}

// Mandatory reports whether the component must be added explicitly whenever
// any component of its writer is: it is not selectable, nor is any ancestor
// (R-SEL-6). That holds below a parent that is not selectable too, since such
// a parent forms no set (R-SEL-11, D-1).
func (c *Component) Mandatory() bool { return !c.Selectable && c.SelectableAncestor() == nil }

// Set is what is included with the component: itself and, if it is selectable,
// all its descendants, nested sets too (R-SEL-10, R-SEL-11).
func (c *Component) Set() []*Component {
	if !c.Selectable {
		return []*Component{c}
	}
	return append([]*Component{c}, c.members...)
}

// Members are the descendants that the component's set has besides itself.
func (c *Component) Members() []*Component { return c.Set()[1:] }

// maxDepth bounds the parts of a logical path: more is a broken document.
const maxDepth = 256

// Link finds the ancestors and members of each component of the writer. Descent
// goes by path text: the parts between need not be components (R-SEL-4). An
// identity that appears twice is an error (R-SEL-1).
func (w *Writer) Link() error {
	byPath := make(map[string]*Component, len(w.Components))
	for _, c := range w.Components {
		c.Writer, c.ancestors, c.members = w, nil, nil
		if strings.Count(c.LogicalPath, `\`) >= maxDepth {
			return fmt.Errorf("component %.100q: its logical path has more than %d parts", c.FullPath(), maxDepth)
		}
		full := c.FullPath()
		if byPath[full] != nil {
			return vss.Errorf(vss.ErrObjectAlreadyExists, "read", w.Label(), "component %q appears twice", full)
		}
		byPath[full] = c
	}
	for _, c := range w.Components {
		for path := c.LogicalPath; path != ""; path, _ = vss.SplitFullPath(path) {
			if a := byPath[path]; a != nil && a != c {
				c.ancestors = append(c.ancestors, a)
				a.members = append(a.members, c)
			}
		}
	}
	return nil
}
