package testwriter

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/metadata/xmldoc"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 4 << 20

// hostStyle is how this host writes paths.
func hostStyle() vss.PathStyle {
	if runtime.GOOS == "windows" {
		return vss.Windows
	}
	return vss.POSIX
}

// Load reads a configuration file.
func Load(file string) (*Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("%s: it has more than %d bytes, too many for a configuration", file, maxConfig)
	}
	return Parse(data, file, hostStyle())
}

// Parse reads a configuration. It is strict: an element or attribute that is
// not known, or has no meaning where it stands, is an error. Errors begin with
// "file:line:column:" and are vss.ErrInvalidXMLDocument. Whether the components
// make sense together is not checked, as a writer that is wrong is worth
// testing with too.
func Parse(data []byte, file string, style vss.PathStyle) (*Config, error) {
	p := &parser{file: file, style: style}
	doc, err := xmldoc.Parse(data)
	if err != nil {
		return nil, p.place(err)
	}
	root := doc.Root()
	if root.Name() != "TestWriter" {
		p.fail(root, "the root element is %.60s; it must be TestWriter", root.Name())
		return nil, p.err
	}
	c := p.root(root)
	if p.err != nil {
		return nil, p.err
	}
	return c, nil
}

func (p *parser) root(n *xmldoc.Node) *Config {
	p.form(n, "usage", "verbosity", "deleteFiles", "deletePartialFiles", "deleteDifferencedFiles",
		"checkIncludes", "checkExcludes", "supportsCopy", "supportsDifferential", "supportsIncremental",
		"supportsLog", "supportsNewTarget", "lockFile", "pidFile", "stillness", "addIn")
	c := &Config{
		Usage:     word(p, n, "usage", vss.UsageUserData, vss.ParseUsageType),
		Verbosity: word(p, n, "verbosity", Medium, oneOf(map[string]Verbosity{"low": Low, "medium": Medium, "high": High})),
		Delete: Delete{
			Files: p.yes(n, "deleteFiles", false), Partial: p.yes(n, "deletePartialFiles", false),
			Differenced: p.yes(n, "deleteDifferencedFiles", false),
		},
		Check: Check{Includes: p.yes(n, "checkIncludes", false), Excludes: p.yes(n, "checkExcludes", false)},
		Supports: Supports{
			Copy: p.yes(n, "supportsCopy", false), Differential: p.yes(n, "supportsDifferential", false),
			Incremental: p.yes(n, "supportsIncremental", false), Log: p.yes(n, "supportsLog", false),
			NewTarget: p.yes(n, "supportsNewTarget", true),
		},
		LockFile: p.path(n, "lockFile"),
		PIDFile:  p.path(n, "pidFile"),
	}
	// Files that no application writes to are still; where processes are
	// named that write them, only stopping those makes them so.
	stillness := writer.FilesStill
	if c.LockFile == "" && c.PIDFile != "" {
		stillness = writer.CommitsHeld
	}
	c.Stillness = word(p, n, "stillness", stillness,
		oneOf(map[string]writer.Stillness{"filesStill": writer.FilesStill, "commitsHeld": writer.CommitsHeld, "nothingHeld": writer.NothingHeld}))

	c.AddIn = word(p, n, "addIn", writer.EventPostSnapshot,
		oneOf(map[string]writer.EventKind{"PostSnapshot": writer.EventPostSnapshot, "PrepareForBackup": writer.EventPrepareForBackup}))

	first := true
	p.children(n, "RestoreMethod ExcludeFile Component FailEvent", func(e *xmldoc.Node) {
		if isMethod := e.Name() == "RestoreMethod"; isMethod != first {
			p.fail(e, "element RestoreMethod must be the first in TestWriter, and the only one of its name")
		}
		first = false
		switch e.Name() {
		case "RestoreMethod":
			p.restoreMethod(e, c)
		case "ExcludeFile":
			p.form(e, "!path", "!filespec", "recursive")
			p.children(e, "", nil)
			c.ExcludeFiles = append(c.ExcludeFiles, p.spec(e))
		case "Component":
			p.component(e, c)
		case "FailEvent":
			c.FailEvents = append(c.FailEvents, p.failEvent(e))
		}
	})
	if first {
		p.fail(n, "element TestWriter lacks the element RestoreMethod")
	}
	return c
}

func (p *parser) restoreMethod(n *xmldoc.Node, c *Config) {
	p.form(n, "!method", "!writerRestore", "rebootRequired", "service")
	c.Restore = metadata.RestoreMethod{
		Method:         word(p, n, "method", vss.RestoreMethodUndefined, parseMethod),
		WriterRestore:  word(p, n, "writerRestore", vss.WriterRestoreUndefined, vss.ParseWriterRestore),
		RebootRequired: p.yes(n, "rebootRequired", false),
		Service:        n.AttrOr("service", ""),
	}
	if c.Restore.Method == vss.RestoreMethodUndefined || c.Restore.WriterRestore == vss.WriterRestoreUndefined {
		p.fail(n, "element RestoreMethod: method and writerRestore cannot be undefined")
	}
	switch m := c.Restore.Method; {
	case (m == vss.RestoreMethodStopRestoreStart || m == vss.RestoreMethodRestoreStopStart) != (c.Restore.Service != ""):
		p.fail(n, "attribute service of element RestoreMethod goes with the methods that stop and start a service, and with no other")
	}
	p.children(n, "AlternateLocationMapping", func(e *xmldoc.Node) {
		p.form(e, "!path", "!filespec", "recursive", "!alternatePath")
		p.children(e, "", nil)
		c.Mappings = append(c.Mappings, metadata.AlternateLocationMapping{FileSpec: p.spec(e), AlternatePath: p.path(e, "alternatePath")})
	})
}

// parseMethod takes the spellings of the documents, of the constants, and of
// the constants without their prefix, as the Test Writer's own samples mix them
// (D-27).
func parseMethod(s string) (vss.RestoreMethod, error) {
	if m, err := vss.ParseRestoreMethod("VSS_RME_" + s); err == nil {
		return m, nil
	}
	return vss.ParseRestoreMethod(s)
}

func (p *parser) component(n *xmldoc.Node, c *Config) {
	p.form(n, "!componentType", "logicalPath", "!componentName", "selectable", "selectableForRestore")
	comp := Component{
		Type:                 word(p, n, "componentType", vss.ComponentTypeUndefined, vss.ParseComponentType),
		LogicalPath:          n.AttrOr("logicalPath", ""),
		Name:                 n.AttrOr("componentName", ""),
		Selectable:           p.yes(n, "selectable", true),
		SelectableForRestore: p.yes(n, "selectableForRestore", false),
	}
	if comp.Type == vss.ComponentTypeUndefined {
		p.fail(n, "attribute componentType of element Component: write filegroup or database")
	}
	if err := vss.ValidateComponentName(comp.Name); err != nil {
		p.fail(n, "attribute componentName of element Component: %v", err)
	}
	if err := vss.ValidateLogicalPath(comp.LogicalPath); err != nil {
		p.fail(n, "attribute logicalPath of element Component: %v", err)
	}
	if c.component(comp.LogicalPath, comp.Name) != nil {
		p.fail(n, "component %.100q stands twice; logical path and name must be its own (R-SEL-1)", comp.FullPath())
	}
	p.children(n, "ComponentFile PartialFile DifferencedFile Dependency", func(e *xmldoc.Node) {
		p.children(e, "", nil)
		switch e.Name() {
		case "ComponentFile":
			comp.Files = append(comp.Files, p.componentFile(e, comp.Type))
		case "PartialFile":
			comp.Partial = append(comp.Partial, p.partial(e))
		case "DifferencedFile":
			comp.Differenced = append(comp.Differenced, p.differenced(e))
		case "Dependency":
			comp.Dependencies = append(comp.Dependencies, p.dependency(e))
		}
	})
	c.Components = append(c.Components, comp)
}

// maskAttributes are the attributes of ComponentFile that make up the mask.
var maskAttributes = []struct {
	name string
	bit  vss.FileSpecBackupType
}{
	{"fullBackupRequired", vss.FullBackupRequired},
	{"diffBackupRequired", vss.DifferentialBackupRequired},
	{"incBackupRequired", vss.IncrementalBackupRequired},
	{"logBackupRequired", vss.LogBackupRequired},
	{"fullSnapshotRequired", vss.FullSnapshotRequired},
	{"diffSnapshotRequired", vss.DifferentialSnapshotRequired},
	{"incSnapshotRequired", vss.IncrementalSnapshotRequired},
	{"logSnapshotRequired", vss.LogSnapshotRequired},
}

func (p *parser) componentFile(n *xmldoc.Node, of vss.ComponentType) File {
	names := []string{"!path", "!filespec", "recursive", "alternatePath", "logFile"}
	for _, m := range maskAttributes {
		names = append(names, m.name)
	}
	p.form(n, names...)
	f := File{FileSpec: p.spec(n), AlternatePath: p.path(n, "alternatePath"), Log: p.yes(n, "logFile", false)}
	for _, m := range maskAttributes {
		if p.yes(n, m.name, true) {
			f.BackupType |= m.bit
		}
	}
	switch {
	case of == vss.ComponentTypeDatabase && (f.Recursive || f.AlternatePath != ""):
		p.fail(n, "element ComponentFile: files of a database have neither recursive nor alternatePath; make the component a filegroup (R-SET-7)")
	case of != vss.ComponentTypeDatabase && f.Log:
		p.fail(n, "attribute logFile of element ComponentFile: only a component of type database has log files")
	case f.BackupType == 0:
		p.fail(n, "element ComponentFile: with every attribute ...Required at no the files are never to be saved; leave the element out")
	}
	return f
}

func (p *parser) partial(n *xmldoc.Node) PartialFile {
	p.form(n, "!path", "!filespec", "!ranges")
	f := PartialFile{Path: p.path(n, "path"), Name: n.AttrOr("filespec", ""), Ranges: n.AttrOr("ranges", "")}
	if vss.HasWildcard(f.Name) || f.Name == "" {
		p.fail(n, "attribute filespec of element PartialFile is %.60q; write the name of one file, without wildcards (R-SET-35)", f.Name)
	}
	if _, _, err := vss.ParseRangesOrFile(f.Ranges); err != nil {
		p.fail(n, `attribute ranges of element PartialFile: %v; write offset:length pairs such as "0:5,100:20", or File= and a full path`, err)
	}
	return f
}

func (p *parser) differenced(n *xmldoc.Node) DifferencedFile {
	date := []string{"year", "month", "day", "hour", "minute", "second"}
	form := []string{"!path", "!filespec", "recursive"}
	given := slices.ContainsFunc(date, func(name string) bool { _, ok := n.Attr(name); return ok })
	for _, name := range date {
		if given {
			name = "!" + name
		}
		form = append(form, name)
	}
	p.form(n, form...)
	f := DifferencedFile{FileSpec: p.spec(n)}
	if !given {
		return f
	}
	year, month, day := p.number(n, "year", 1601, 9999, 0), p.number(n, "month", 1, 12, 0), p.number(n, "day", 1, 31, 0)
	hour, minute, second := p.number(n, "hour", 0, 23, 0), p.number(n, "minute", 0, 59, 0), p.number(n, "second", 0, 59, 0)
	f.Since = time.Date(year, time.Month(month), day, hour, minute, second, 0, time.Local)
	if f.Since.Day() != day {
		p.fail(n, "element DifferencedFile: there is no %d-%02d-%02d", year, month, day)
	}
	return f
}

func (p *parser) dependency(n *xmldoc.Node) metadata.Dependency {
	p.form(n, "!writerId", "logicalPath", "!componentName")
	return metadata.Dependency{
		WriterClass: word(p, n, "writerId", vss.GUID{}, vss.ParseGUID),
		LogicalPath: n.AttrOr("logicalPath", ""),
		Name:        n.AttrOr("componentName", ""),
	}
}

// maxHang bounds how long an event may be made to hang.
const maxHang = 24 * 60 * 60

func (p *parser) failEvent(n *xmldoc.Node) FailEvent {
	p.form(n, "!writerEvent", "retryable", "numFailures", "action", "seconds")
	p.children(n, "", nil)
	hang := word(p, n, "action", false, oneOf(map[string]bool{"fail": false, "hang": true}))
	f := FailEvent{
		Event:     word(p, n, "writerEvent", 0, parseEvent),
		Retryable: p.yes(n, "retryable", false),
		Count:     p.number(n, "numFailures", 0, 1<<30, -1),
	}
	_, hasSeconds := n.Attr("seconds")
	_, hasRetryable := n.Attr("retryable")
	switch {
	case hang && !hasSeconds:
		p.fail(n, `element FailEvent: action="hang" needs the attribute seconds`)
	case hang && hasRetryable:
		p.fail(n, `element FailEvent: action="hang" fails nothing, so that retryable has no meaning`)
	case !hang && hasSeconds:
		p.fail(n, `element FailEvent: the attribute seconds needs action="hang"`)
	case !hang && !hasRetryable:
		p.fail(n, "element FailEvent lacks the attribute retryable")
	}
	if hang {
		f.Hang = time.Duration(p.number(n, "seconds", 1, maxHang, 1)) * time.Second
	}
	return f
}

// parseEvent takes the events' names, and the one that Microsoft's table of
// events misspells.
func parseEvent(s string) (writer.EventKind, error) {
	if s == "PrepareForSnapsot" {
		return writer.EventPrepareForSnapshot, nil
	}
	return writer.ParseEventKind(s)
}
