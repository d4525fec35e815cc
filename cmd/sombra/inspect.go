package main

import (
	"fmt"
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

// node is one line of a readable tree, and at the same time its JSON form.
type node struct {
	Name     string  `json:"name"`
	Value    string  `json:"value,omitempty"`
	Children []*node `json:"children,omitempty"`
}

// add adds a child and returns it. Values that are empty are left out.
func (n *node) add(name, format string, args ...any) *node {
	c := &node{Name: name, Value: fmt.Sprintf(format, args...)}
	n.Children = append(n.Children, c)
	return c
}

// set adds a child only if it has something to say.
func (n *node) set(name, value string) {
	if value != "" {
		n.add(name, "%s", value)
	}
}

func (a *app) inspect(d document) error {
	var n *node
	switch {
	case d.writer != nil:
		n = writerTree(d.writer)
	case d.backup != nil:
		n = backupTree(d.backup)
	default:
		n = manifestTree(d.manifest)
	}
	if a.json {
		return a.printJSON("document", n)
	}
	a.printTree(n, 0)
	return nil
}

func (a *app) printTree(n *node, depth int) {
	line := strings.Repeat("  ", depth) + printable(n.Name)
	if n.Value != "" {
		line += ": " + oneLine(n.Value)
	}
	fmt.Fprintln(a.stdout, line)
	for _, c := range n.Children {
		a.printTree(c, depth+1)
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func writerTree(m *metadata.WriterMetadata) *node {
	id := m.Identity()
	n := &node{Name: "Writer Metadata Document", Value: id.Name}
	n.add("writer id", "{%s}", id.ClassID)
	n.add("instance id", "{%s}", id.InstanceID)
	n.set("instance name", id.InstanceName)
	n.add("usage", "%s", id.Usage)
	n.add("data source", "%s", id.Source)
	n.add("version", "%d.%d", id.MajorVersion, id.MinorVersion)
	n.add("backup schema", "%s", m.BackupSchema())
	if r, ok := m.RestoreMethod(); ok {
		c := n.add("restore method", "%s", r.Method)
		c.add("writer restore", "%s", r.WriterRestore)
		c.add("reboot required", "%s", yes(r.RebootRequired))
		c.set("service", r.Service)
		c.set("user procedure", r.UserProcedure)
		for _, alm := range m.AlternateLocationMappings() {
			c.add("alternate location mapping", "%s -> %s", specText(alm.FileSpec), alm.AlternatePath)
		}
	} else {
		n.add("restore method", "none")
	}
	for _, c := range m.Components() {
		n.Children = append(n.Children, componentTree(c))
	}
	for _, f := range m.ExcludeFiles() {
		n.add("exclude", "%s", specText(f))
	}
	for _, f := range m.ExcludeFilesFromSnapshot() {
		n.add("exclude from shadow copy", "%s", specText(f))
	}
	return n
}

func componentTree(c *metadata.ComponentInfo) *node {
	n := &node{Name: "component", Value: c.FullPath()}
	n.add("type", "%s", c.Type)
	n.set("caption", c.Caption)
	if len(c.Icon) > 0 {
		n.add("icon", "%d bytes", len(c.Icon))
	}
	n.add("selectable", "%s for backup, %s for restore", yes(c.Selectable), yes(c.SelectableForRestore))
	if c.NotifyOnBackupComplete {
		n.add("notify on backup complete", "yes")
	}
	if c.Flags != 0 {
		n.add("flags", "%s", c.Flags)
	}
	for _, f := range c.FileSets {
		x := n.add(f.Kind.String(), "%s", specText(f.FileSpec))
		x.set("read from", f.AlternatePath)
		if f.BackupType != vss.DefaultFileSpecBackupType {
			x.add("backup type", "%s", f.BackupType)
		}
	}
	for _, d := range c.Dependencies {
		n.add("depends on", "{%s} %s", d.WriterClass, vss.FullPath(d.LogicalPath, d.Name))
	}
	return n
}

func backupTree(b *metadata.BackupComponents) *node {
	n := &node{Name: "Backup Components Document"}
	if st, ok := b.BackupState(); ok {
		n.add("backup type", "%s", st.Type)
		n.add("component mode", "%s", yes(st.SelectComponents))
		n.add("bootable system state", "%s", yes(st.BootableSystemState))
		n.add("partial file support", "%s", yes(st.PartialFileSupport))
	}
	if id := b.SnapshotSetID(); !id.IsZero() {
		n.add("shadow copy set", "{%s}", id)
	}
	for _, w := range b.Writers() {
		k := w.Key()
		x := n.add("writer", "{%s}", k.ClassID)
		x.add("instance id", "{%s}", k.InstanceID)
		x.add("backup schema", "%s", k.Schema)
		for _, c := range w.Components() {
			x.Children = append(x.Children, explicitTree(c))
		}
	}
	return n
}

// explicitTree shows what the document holds of one explicit component.
func explicitTree(c *metadata.Component) *node {
	n := &node{Name: "component", Value: c.FullPath()}
	n.add("type", "%s", c.Type())
	n.set("caption", c.Caption())
	if ok, known := c.BackupSucceeded(); known {
		n.add("backup succeeded", "%s", yes(ok))
	}
	text := func(name string, value string, ok bool) {
		if ok {
			n.add(name, "%s", value)
		}
	}
	stamp := func(name string, value vss.BackupStamp, ok bool) { text(name, string(value), ok) }
	get := func(name string, f func() (string, bool)) {
		v, ok := f()
		text(name, v, ok)
	}
	v, ok := c.BackupStamp()
	stamp("backup stamp", v, ok)
	v, ok = c.PreviousBackupStamp()
	stamp("previous backup stamp", v, ok)
	get("backup metadata", c.BackupMetadata)
	get("restore metadata", c.RestoreMetadata)
	get("backup options", c.BackupOptions)
	get("restore options", c.RestoreOptions)
	if sel, inst := c.SelectedForRestore(); sel {
		n.add("selected for restore", "%s", yes(sel))
		if !inst.IsZero() {
			n.add("restored to instance", "{%s}", inst)
		}
	}
	if c.AdditionalRestores() {
		n.add("additional restores", "yes")
	}
	if t := c.RestoreTarget(); t != vss.RestoreTargetUndefined {
		n.add("restore target", "%s", t)
	}
	if s := c.FileRestoreStatus(); s != vss.FileRestoreStatusUndefined {
		n.add("file restore status", "%s", s)
	}
	if f, ok := c.Failure(); ok {
		n.add("failure", "%v", f)
	}
	get("restore name", c.RestoreName)
	get("PrepareForBackup failure", c.PrepareForBackupFailureMsg)
	get("PostSnapshot failure", c.PostSnapshotFailureMsg)
	get("PreRestore failure", c.PreRestoreFailureMsg)
	get("PostRestore failure", c.PostRestoreFailureMsg)
	explicitLists(n, c)
	return n
}

func explicitLists(n *node, c *metadata.Component) {
	for _, p := range c.PartialFiles() {
		n.add("partial file", "%+v", p)
	}
	for _, d := range c.DifferencedFiles() {
		n.add("differenced files", "%+v", d)
	}
	for _, m := range c.AlternateLocationMappings() {
		n.add("restored by mapping", "%s -> %s", specText(m.FileSpec), m.AlternatePath)
	}
	for _, t := range c.NewTargets() {
		n.add("new target", "%s -> %s", specText(t.FileSpec), t.NewPath)
	}
	for _, d := range c.DirectedTargets() {
		n.add("directed target", "%+v", d)
	}
	for _, s := range c.RestoreSubcomponents() {
		n.add("restore subcomponent", "%s", vss.FullPath(s.LogicalPath, s.Name))
	}
}

func manifestTree(m *metadata.Manifest) *node {
	n := &node{Name: "DiskShadow manifest"}
	for _, s := range m.ShadowCopySets {
		x := n.add("shadow copy set", "{%s} on %s", s.ID, s.MachineName)
		for _, c := range s.ShadowCopies {
			x.add("shadow copy", "{%s} of %s, alias %s", c.ID, c.OriginalVolume, c.Alias)
		}
	}
	n.set("backup components", m.BackupComponentsFile)
	for _, al := range m.Aliases {
		n.add("alias", "%s = %s", al.Name, al.Value)
	}
	for _, w := range m.Writers {
		n.add("writer", "%s in %s", w.Name, w.File())
	}
	n.set("log file", m.Logfile)
	return n
}
