package metadata

import (
	"fmt"

	"github.com/sombra-backup/sombra/vss"
)

const (
	knownSchema = vss.SchemaDifferential | vss.SchemaIncremental | vss.SchemaExclusiveIncrementalDifferential |
		vss.SchemaLog | vss.SchemaCopy | vss.SchemaTimestamped | vss.SchemaLastModify | vss.SchemaLSN |
		vss.SchemaNewTarget | vss.SchemaRestoreWithMove | vss.SchemaIndependentSystemState |
		vss.SchemaRollForwardRestore | vss.SchemaRestoreRename | vss.SchemaAuthoritativeRestore | vss.SchemaParallelRestores
	knownFlags = vss.FlagBackupRecovery | vss.FlagAppRollbackRecovery | vss.FlagNotSystemState
	knownMask  = vss.AllBackupRequired | vss.AllSnapshotRequired | vss.CreatedDuringBackup
)

// Validate lists what the model does not allow in the document, in the order
// of the document: writer errors to report, none of which keeps the rest from
// being used. File specifications are compared in the writer's style. A
// document without problems gives none.
func (m *WriterMetadata) Validate(style vss.PathStyle) []Problem {
	v := &validator{m: m, style: style, problems: append([]Problem(nil), m.problems...)}
	v.identity()
	v.schema()
	v.restoreMethod()
	v.components()
	return v.problems
}

type validator struct {
	m        *WriterMetadata
	style    vss.PathStyle
	problems []Problem
}

func (v *validator) add(rule, object, format string, args ...any) {
	v.problems = append(v.problems, Problem{rule, object, fmt.Sprintf(format, args...)})
}

func (v *validator) identity() {
	id := v.m.identity
	if id.Name == "" {
		v.add("GetIdentity", "writer "+id.ClassID.String(), "it has no name")
	}
	if id.Usage == vss.UsageUndefined {
		v.add("GetIdentity", "writer "+id.Name, "its usage is undefined")
	}
	if id.Source == vss.SourceUndefined {
		v.add("GetIdentity", "writer "+id.Name, "its data source is undefined")
	}
}

// schema checks R-TYPE-6, R-TYPE-10 and R-TYPE-11.
func (v *validator) schema() {
	s := v.m.schema
	const both = vss.SchemaIncremental | vss.SchemaDifferential
	if s&vss.SchemaExclusiveIncrementalDifferential != 0 && s&both != both {
		v.add("R-TYPE-10", "backup schema", "exclusive incremental or differential backup without both kinds")
	}
	if s&vss.SchemaTimestamped != 0 && s&both == 0 {
		v.add("R-TYPE-11", "backup schema", "backup stamps without incremental or differential backup")
	}
	if s&vss.SchemaLastModify != 0 && s&both == 0 {
		v.add("R-TYPE-11", "backup schema", "modification times without incremental or differential backup")
	}
	if s&vss.SchemaLog != 0 && !v.hasLogFiles() {
		v.add("R-TYPE-6", "backup schema", "log backup without a set of database log files")
	}
	if rest := s &^ knownSchema; rest != 0 {
		v.add("VSS_BACKUP_SCHEMA", "backup schema", "unknown bits 0x%x", uint32(rest))
	}
}

func (v *validator) hasLogFiles() bool {
	for _, c := range v.m.components {
		for i := range c.FileSets {
			if c.FileSets[i].Kind == DatabaseLogFiles {
				return true
			}
		}
	}
	return false
}

// restoreMethod checks R-RES-7, R-RES-9, R-RES-13 and R-RES-18.
func (v *validator) restoreMethod() {
	method := v.m.method
	if method == nil {
		if len(v.m.components) > 0 {
			v.add("R-RES-13", elemRestoreMethod, "there are components and no restore method")
		}
		return
	}
	if method.Method == vss.RestoreMethodUndefined {
		v.add("R-RES-13", elemRestoreMethod, "the restore method is undefined")
	}
	if method.WriterRestore == vss.WriterRestoreUndefined {
		v.add("VSS_WRITERRESTORE_ENUM", elemRestoreMethod, "which restore events the writer needs is undefined")
	}
	if usesService(method.Method) != (method.Service != "") {
		v.add("R-RES-7", elemRestoreMethod, "service %q with method %v", method.Service, method.Method)
	}
	if method.Method == vss.RestoreMethodToAlternateLocation && len(v.m.mappings) == 0 {
		v.add("R-RES-13", elemRestoreMethod, "restore to an alternate location without a mapping")
	}
	if len(v.m.mappings) == 0 {
		return
	}
	sets := make(map[string]bool)
	for _, c := range v.m.components {
		for i := range c.FileSets {
			sets[c.FileSets[i].Key(v.style)] = true
		}
	}
	for i := range v.m.mappings {
		if spec := v.m.mappings[i].FileSpec; !sets[spec.Key(v.style)] {
			v.add("R-RES-18", "mapping of "+spec.String(), "it equals no file set of the writer")
		}
	}
}

func (v *validator) components() {
	seen := make(map[string]string) // file set to the component that has it
	for _, c := range v.m.components {
		if err := validKey("check", c.LogicalPath, c.Name); err != nil {
			v.add("R-SEL-3", "component "+c.FullPath(), "its name or logical path is not allowed")
		}
		if rest := c.Flags &^ knownFlags; rest != 0 {
			v.add("VSS_COMPONENT_FLAGS", "component "+c.FullPath(), "unknown flags 0x%x", uint32(rest))
		}
		for _, d := range c.Dependencies {
			if d.WriterClass == v.m.identity.ClassID {
				v.add("R-SEL-32", "component "+c.FullPath(), "it depends on %s of its own writer", vss.FullPath(d.LogicalPath, d.Name))
			}
		}
		for i := range c.FileSets {
			v.fileSet(c, &c.FileSets[i], seen)
		}
	}
	v.specs("exclude", v.m.exclude)
	v.specs("exclude from the shadow copy", v.m.excludeFrom)
}

func (v *validator) specs(what string, specs []vss.FileSpec) {
	for _, s := range specs {
		if err := s.Validate(v.style); err != nil {
			v.add("R-SET-1", what+" "+s.String(), "the specification is not allowed")
		}
	}
}

// fileSet checks R-SET-1, R-SET-7, the mask, and that no set stands twice
// (R-SET-6).
func (v *validator) fileSet(c *ComponentInfo, s *FileSet, seen map[string]string) {
	object := "file set " + s.FileSpec.String() + " of component " + c.FullPath()
	if err := s.Validate(v.style); err != nil {
		v.add("R-SET-1", object, "the specification is not allowed")
	}
	if (c.Type == vss.ComponentTypeDatabase) == (s.Kind == FileGroupFiles) {
		v.add("R-SET-7", object, "%v in a component of type %v", s.Kind, c.Type)
	}
	if s.Kind != FileGroupFiles && (s.Recursive || s.AlternatePath != "") {
		v.add("R-SET-7", object, "%v with subdirectories or an alternate path", s.Kind)
	}
	if rest := s.BackupType &^ knownMask; rest != 0 {
		v.add("VSS_FILE_SPEC_BACKUP_TYPE", object, "unknown bits 0x%x", uint32(rest))
	}
	key := s.Key(v.style)
	if other, ok := seen[key]; ok {
		v.add("R-SET-6", object, "component %s has the same file set", other)
	}
	seen[key] = c.FullPath()
}
