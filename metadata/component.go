package metadata

import (
	"fmt"
	"strconv"

	"github.com/sombra-backup/sombra/metadata/xmldoc"
	"github.com/sombra-backup/sombra/vss"
)

// Component is IVssComponent: one explicit component in a Backup Components
// Document. What is set on it holds for its whole component set (R-SEL-16); the
// lists name file sets of it or of its subcomponents (R-SEL-17).
//
// Getters that give an ok answer S_FALSE with it: nothing was set. Setters give
// vss.ErrInvalidArgument for what the model or a document cannot hold, and then
// change nothing.
type Component struct {
	writer *WriterComponents
	node   *xmldoc.Node
	key    componentKey
}

// Writer gives the writer instance the component belongs to.
func (c *Component) Writer() WriterKey { return c.writer.key }

// ID gives the component's identity.
func (c *Component) ID() vss.ComponentID {
	return vss.ComponentID{WriterClass: c.writer.key.ClassID, LogicalPath: c.key.logicalPath, Name: c.key.name}
}

// LogicalPath answers GetLogicalPath, "" at the root.
func (c *Component) LogicalPath() string { return c.key.logicalPath }

// Name answers GetComponentName.
func (c *Component) Name() string { return c.key.name }

// FullPath gives logical path and name.
func (c *Component) FullPath() string { return vss.FullPath(c.key.logicalPath, c.key.name) }

// Type answers GetComponentType.
func (c *Component) Type() vss.ComponentType {
	return word(&reader{}, c.node, attrComponentType, vss.ParseComponentType)
}

// Caption gives the caption Windows' own documents repeat in some versions.
func (c *Component) Caption() string { return c.node.AttrOr(attrComponentCaption, "") }

// check reads everything typed once and keeps the first error in r.
func (c *Component) check(r *reader) {
	n := c.node
	if t := word(r, n, attrComponentType, vss.ParseComponentType); t == vss.ComponentTypeUndefined {
		r.problems = append(r.problems, Problem{"VSS_COMPONENT_TYPE", "component " + c.FullPath(), "its type is undefined"})
	}
	r.yes(n, attrBackupSucceeded)
	r.yes(n, attrSelectedForRestore)
	r.guid(n, attrRestoreInstanceID, false)
	r.yes(n, attrAdditionalRestores)
	r.yes(n, attrAuthoritative)
	word(r, n, attrRestoreTarget, vss.ParseRestoreTarget)
	word(r, n, attrFileRestoreStatus, vss.ParseFileRestoreStatus)
	word(r, n, attrRollForwardType, vss.ParseRollForwardType)
	c.readLists(r)
}

// fail is an error about this component.
func (c *Component) fail(code vss.Code, op, format string, args ...any) error {
	return vss.Errorf(code, op, c.FullPath(), format, args...)
}

// BackupSucceeded answers GetBackupSucceeded: true only if all files of the
// component set were saved; known is false if the requester has not said yet.
func (c *Component) BackupSucceeded() (succeeded, known bool) {
	_, known = c.node.Attr(attrBackupSucceeded)
	return (&reader{}).yes(c.node, attrBackupSucceeded), known
}

// SetBackupSucceeded records the outcome of the component set (R-SEL-18).
func (c *Component) SetBackupSucceeded(ok bool) error {
	return set(c.node, pair{attrBackupSucceeded, yesNo(ok)})
}

// BackupOptions answers GetBackupOptions; the text is the writer's business.
func (c *Component) BackupOptions() (options string, ok bool) { return c.node.Attr(attrBackupOptions) }

// SetBackupOptions sets options for the writer to read in PrepareForBackup.
func (c *Component) SetBackupOptions(options string) error {
	return set(c.node, pair{attrBackupOptions, options})
}

// BackupMetadata answers GetBackupMetadata.
func (c *Component) BackupMetadata() (text string, ok bool) { return c.node.Attr(attrBackupMetadata) }

// SetBackupMetadata keeps a text of the writer's with the backup; a second call
// is vss.ErrObjectAlreadyExists.
func (c *Component) SetBackupMetadata(text string) error {
	if _, ok := c.BackupMetadata(); ok {
		return c.fail(vss.ErrObjectAlreadyExists, "SetBackupMetadata", "it was set before")
	}
	return set(c.node, pair{attrBackupMetadata, text})
}

// RestoreMetadata answers GetRestoreMetadata.
func (c *Component) RestoreMetadata() (text string, ok bool) {
	return c.node.Attr(attrRestoreMetadata)
}

// SetRestoreMetadata keeps a text of the writer's from PreRestore to
// PostRestore.
func (c *Component) SetRestoreMetadata(text string) error {
	return set(c.node, pair{attrRestoreMetadata, text})
}

// BackupStamp answers GetBackupStamp (R-TYPE-12).
func (c *Component) BackupStamp() (stamp vss.BackupStamp, ok bool) {
	v, ok := c.node.Attr(attrBackupStamp)
	return vss.BackupStamp(v), ok
}

// SetBackupStamp keeps what the writer will know this backup by.
func (c *Component) SetBackupStamp(stamp vss.BackupStamp) error {
	return set(c.node, pair{attrBackupStamp, string(stamp)})
}

// PreviousBackupStamp answers GetPreviousBackupStamp; none means that the
// component is to be saved whole.
func (c *Component) PreviousBackupStamp() (stamp vss.BackupStamp, ok bool) {
	v, ok := c.node.Attr(attrPreviousStamp)
	return vss.BackupStamp(v), ok
}

// SetPreviousBackupStamp gives the writer the stamp of the base backup
// (R-TYPE-14).
func (c *Component) SetPreviousBackupStamp(stamp vss.BackupStamp) error {
	return set(c.node, pair{attrPreviousStamp, string(stamp)})
}

// SelectedForRestore answers IsSelectedForRestore. instance is the one to
// restore into, zero for the component's own (R-SEL-30).
func (c *Component) SelectedForRestore() (selected bool, instance vss.GUID) {
	r := &reader{}
	return r.yes(c.node, attrSelectedForRestore), r.guid(c.node, attrRestoreInstanceID, false)
}

// SetSelectedForRestore selects the component set; with an instance that is not
// zero it is SetSelectedForRestoreEx.
func (c *Component) SetSelectedForRestore(selected bool, instance vss.GUID) error {
	if err := set(c.node, pair{attrSelectedForRestore, yesNo(selected)}); err != nil {
		return err
	}
	if instance.IsZero() {
		c.node.RemoveAttr(attrRestoreInstanceID)
		return nil
	}
	return set(c.node, pair{attrRestoreInstanceID, instance.String()})
}

// RestoreOptions answers GetRestoreOptions; vss.ParseRestoreOptions reads them.
func (c *Component) RestoreOptions() (options string, ok bool) {
	return c.node.Attr(attrRestoreOptions)
}

// SetRestoreOptions sets the options once (R-RES-31); a second call is
// vss.ErrObjectAlreadyExists. The text is not read, as writers have grammars of
// their own too.
func (c *Component) SetRestoreOptions(options string) error {
	if _, ok := c.RestoreOptions(); ok {
		return c.fail(vss.ErrObjectAlreadyExists, "SetRestoreOptions", "they were set before") // R-RES-31
	}
	return set(c.node, pair{attrRestoreOptions, options})
}

// AdditionalRestores answers GetAdditionalRestores (R-RES-28).
func (c *Component) AdditionalRestores() bool {
	return (&reader{}).yes(c.node, attrAdditionalRestores)
}

// SetAdditionalRestores says whether more restores of this component follow
// (R-TYPE-20).
func (c *Component) SetAdditionalRestores(more bool) error {
	return set(c.node, pair{attrAdditionalRestores, yesNo(more)})
}

// RestoreTarget answers GetRestoreTarget; the default is
// vss.RestoreTargetOriginal (R-RES-17).
func (c *Component) RestoreTarget() vss.RestoreTarget {
	if _, ok := c.node.Attr(attrRestoreTarget); !ok {
		return vss.RestoreTargetOriginal
	}
	return word(&reader{}, c.node, attrRestoreTarget, vss.ParseRestoreTarget)
}

// SetRestoreTarget says where the writer wants the component set (R-RES-16).
func (c *Component) SetRestoreTarget(t vss.RestoreTarget) error {
	if t <= vss.RestoreTargetUndefined || t > vss.RestoreTargetOriginalLocation {
		return c.fail(vss.ErrInvalidArgument, "SetRestoreTarget", "%v is no restore target", t)
	}
	return set(c.node, pair{attrRestoreTarget, t.Word()})
}

// FileRestoreStatus answers GetFileRestoreStatus.
func (c *Component) FileRestoreStatus() vss.FileRestoreStatus {
	return word(&reader{}, c.node, attrFileRestoreStatus, vss.ParseFileRestoreStatus)
}

// SetFileRestoreStatus records the outcome of the restore (R-RES-32).
func (c *Component) SetFileRestoreStatus(s vss.FileRestoreStatus) error {
	if s < vss.FileRestoreStatusUndefined || s > vss.FileRestoreStatusFailed {
		return c.fail(vss.ErrInvalidArgument, "SetFileRestoreStatus", "%v is no outcome of a restore", s)
	}
	return set(c.node, pair{attrFileRestoreStatus, s.Word()})
}

// AuthoritativeRestore answers GetAuthoritativeRestore.
func (c *Component) AuthoritativeRestore() bool { return (&reader{}).yes(c.node, attrAuthoritative) }

// SetAuthoritativeRestore asks for an authoritative restore, which needs
// vss.SchemaAuthoritativeRestore.
func (c *Component) SetAuthoritativeRestore(authoritative bool) error {
	return set(c.node, pair{attrAuthoritative, yesNo(authoritative)})
}

// RollForward answers GetRollForward; point is empty unless the type is
// partial.
func (c *Component) RollForward() (t vss.RollForwardType, point string) {
	return word(&reader{}, c.node, attrRollForwardType, vss.ParseRollForwardType), c.node.AttrOr(attrRollForwardPoint, "")
}

// SetRollForward says how far logs are to be replayed, which needs
// vss.SchemaRollForwardRestore.
func (c *Component) SetRollForward(t vss.RollForwardType, point string) error {
	if t <= vss.RollForwardUndefined || t > vss.RollForwardPartial {
		return c.fail(vss.ErrInvalidArgument, "SetRollForward", "%v does not say how far", t)
	}
	if (t == vss.RollForwardPartial) != (point != "") {
		return c.fail(vss.ErrInvalidArgument, "SetRollForward", "point %q with type %v; a partial one needs a point, and no other has one", point, t)
	}
	if err := check(pair{attrRollForwardPoint, point}); err != nil {
		return err
	}
	if point == "" {
		c.node.RemoveAttr(attrRollForwardPoint)
		return set(c.node, pair{attrRollForwardType, t.Word()})
	}
	return set(c.node, pair{attrRollForwardType, t.Word()}, pair{attrRollForwardPoint, point})
}

// RestoreName answers GetRestoreName.
func (c *Component) RestoreName() (name string, ok bool) { return c.node.Attr(attrRestoreName) }

// SetRestoreName gives the component a new name on restore, which needs
// vss.SchemaRestoreRename.
func (c *Component) SetRestoreName(name string) error {
	return set(c.node, pair{attrRestoreName, name})
}

// PrepareForBackupFailureMsg, with the three like it, answers the Get form of
// the call of that name.
func (c *Component) PrepareForBackupFailureMsg() (msg string, ok bool) {
	return c.node.Attr(attrPrepareMsg)
}

// SetPrepareForBackupFailureMsg says what went wrong in that event.
func (c *Component) SetPrepareForBackupFailureMsg(msg string) error {
	return set(c.node, pair{attrPrepareMsg, msg})
}

// PostSnapshotFailureMsg answers GetPostSnapshotFailureMsg.
func (c *Component) PostSnapshotFailureMsg() (msg string, ok bool) {
	return c.node.Attr(attrPostSnapshotMsg)
}

// SetPostSnapshotFailureMsg says what went wrong in that event.
func (c *Component) SetPostSnapshotFailureMsg(msg string) error {
	return set(c.node, pair{attrPostSnapshotMsg, msg})
}

// PreRestoreFailureMsg answers GetPreRestoreFailureMsg.
func (c *Component) PreRestoreFailureMsg() (msg string, ok bool) {
	return c.node.Attr(attrPreRestoreMsg)
}

// SetPreRestoreFailureMsg says what went wrong in that event.
func (c *Component) SetPreRestoreFailureMsg(msg string) error {
	return set(c.node, pair{attrPreRestoreMsg, msg})
}

// PostRestoreFailureMsg answers GetPostRestoreFailureMsg.
func (c *Component) PostRestoreFailureMsg() (msg string, ok bool) {
	return c.node.Attr(attrPostRestoreMsg)
}

// SetPostRestoreFailureMsg says what went wrong in that event.
func (c *Component) SetPostRestoreFailureMsg(msg string) error {
	return set(c.node, pair{attrPostRestoreMsg, msg})
}

// Failure is what SetFailure reports of one component.
type Failure struct {
	Code        vss.Code // one of vss.WriterFailureCodes, or vss.OK
	Application vss.Code // the application's own code, if it has one
	Message     string
}

// Failure answers GetFailure.
func (c *Component) Failure() (f Failure, ok bool) {
	n := c.child(elemFailure)
	if n == nil {
		return Failure{}, false
	}
	return readFailure(&reader{}, n), true
}

func readFailure(r *reader, n *xmldoc.Node) Failure {
	return Failure{readCode(r, n, attrHR), readCode(r, n, attrApplicationHR), n.AttrOr(attrMessage, "")}
}

func readCode(r *reader, n *xmldoc.Node, name string) vss.Code {
	v := n.AttrOr(name, "0")
	u, err := strconv.ParseUint(v, 0, 32)
	if err != nil {
		r.fail(n, "attribute %s of element %s is %.60q, not a code such as 0x800423F4", name, n.Local(), v)
	}
	return vss.Code(u)
}

// SetFailure reports an error of this component alone; a later one takes the
// place of an earlier one. A code a writer may not report is
// vss.ErrInvalidArgument.
func (c *Component) SetFailure(f Failure) error {
	if !mayReport(f.Code) {
		return c.fail(vss.ErrInvalidArgument, "SetFailure", "%v is no code a writer reports", f.Code)
	}
	pairs := []pair{{attrHR, hex(f.Code)}, {attrApplicationHR, hex(f.Application)}, {attrMessage, f.Message}}
	if n := c.child(elemFailure); n != nil {
		return set(n, pairs...)
	}
	_, err := add(c.node, elemFailure, pairs...)
	return err
}

func mayReport(code vss.Code) bool {
	if code == vss.OK || code == vss.ErrWriterErrorPartialFailure {
		return true
	}
	for _, c := range vss.WriterFailureCodes() {
		if c == code {
			return true
		}
	}
	return false
}

func hex(c vss.Code) string { return fmt.Sprintf("0x%08X", uint32(c)) }

// child finds the first child element of a name.
func (c *Component) child(name string) *xmldoc.Node {
	var found *xmldoc.Node
	elements(c.node, func(n *xmldoc.Node) {
		if found == nil && n.Local() == name {
			found = n
		}
	})
	return found
}
