package requester

import (
	"context"
	"fmt"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
)

// typing is what the type asked for comes to for the set that the component is
// in. One that takes no part has the type asked for.
func (a *attempt) typing(c *Component) Typing {
	if a.sel != nil {
		if t, ok := a.typings[a.sel.Defining[c]]; ok {
			return t
		}
	}
	asked := a.req.backupType()
	return Typing{Asked: asked, Type: asked}
}

// lists reports whether the record lists the files of a claim; see
// [Typing.Lists].
func (a *attempt) lists(cl *Claim) bool {
	t := a.typing(cl.Component)
	return t.Lists(cl.File)
}

// decideTypes decides what each explicit component is backed up as. It reports
// whether one of them is out because of it, so that the selection must be made
// again.
func (a *attempt) decideTypes(ctx context.Context) (changed bool, err error) {
	a.typings = make(map[*Component]Typing, len(a.sel.Explicit))
	for _, c := range a.sel.Explicit {
		h, err := a.historyOf(ctx, c)
		if err != nil {
			return false, err
		}
		t := DecideType(a.req.backupType(), c.Writer, h, a.req.StrictType)
		if t.LeftOut != "" {
			a.strict = true
			changed = a.barWriter(c.Writer, t.LeftOut) || changed
		}
		a.typings[c] = t
	}
	return changed, nil
}

// usesHistory reports whether a backup of the type builds upon another.
func usesHistory(t vss.BackupType) bool {
	return t == vss.BackupTypeIncremental || t == vss.BackupTypeDifferential || t == vss.BackupTypeLog
}

// barWriter leaves out all components of a writer, as the user wants it.
func (a *attempt) barWriter(w *Writer, why string) (changed bool) {
	for _, c := range w.Components {
		if _, barred := a.wish.Barred[c]; !barred {
			a.wish.Barred[c] = Bar{Why: why, Asked: true}
			changed = true
		}
	}
	return changed
}

// historyOf is what the repository's records tell of a component; nothing for
// types that do not go by it. Without a repository it is as if there were a
// backup of every kind to build upon.
func (a *attempt) historyOf(ctx context.Context, c *Component) (h ComponentHistory, err error) {
	if !usesHistory(a.req.backupType()) {
		return h, nil
	}
	if a.past == nil {
		some := &Base{}
		return ComponentHistory{Full: some, Incremental: some, Log: some}, nil
	}
	h, sure, err := a.past.of(ctx, a.historyKey(c))
	if err != nil {
		return h, err
	}
	if text := a.past.warning(); text != "" && text != a.toldPast {
		a.toldPast = text
		a.warn("%s", text)
	}
	if !sure && !c.Writer.stamped() {
		return ComponentHistory{}, nil
	}
	return h, nil
}

// historyKey is what the component is known by in other backups.
func (a *attempt) historyKey(c *Component) HistoryKey {
	return HistoryKey{Host: a.host.ID, Class: c.Writer.Class, InstanceName: c.Writer.InstanceName, LogicalPath: c.LogicalPath, Name: c.Name}
}

// giveStamps hands the writers that use stamps what their component set had in
// the backup built upon: opaque, before PrepareForBackup (R-TYPE-12, R-TYPE-14,
// R-TYPE-15). Where there is no base none is given, which means whole.
func (b *backup) giveStamps(ctx context.Context) error {
	for _, c := range b.sel.Explicit {
		if stamp := b.previousStamp(c); stamp != "" {
			if err := b.sess.SetPreviousBackupStamp(ctx, c.Session(), stamp); err != nil {
				return fmt.Errorf("give %s the stamp of its last backup: %w", c.Label(), err)
			}
		}
	}
	return nil
}

// previousStamp is the stamp that a component set is given, "" if none.
func (a *attempt) previousStamp(c *Component) string {
	if t := a.typing(c); t.Base != nil && c.Writer.stamped() {
		return t.Base.Stamp
	}
	return ""
}

// history is what the record says of each explicit component; bcd is the Backup
// Components Document as it is saved.
func (b *backup) history(bcd []byte) (lines []HistoryLine, err error) {
	doc, err := metadata.ParseBackupComponents(bcd)
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", DocBCD, err)
	}
	for _, c := range b.sel.Explicit {
		t := b.typing(c)
		l := HistoryLine{HistoryKey: b.historyKey(c), Asked: t.Asked.Word(), Type: t.Type.Word(), Notes: t.Notes,
			Stamp: b.previousStamp(c) != "", Succeeded: b.copier.comps[c].Succeeded, Added: b.copier.added[c]}
		if t.Base != nil {
			l.Base = t.Base.Record.String()
		}
		if t.Counts != vss.BackupTypeUndefined {
			l.Counts = t.Counts.Word()
		}
		if w, ok := doc.Writer(c.Writer.Instance); ok {
			if part, ok := w.Component(c.LogicalPath, c.Name); ok {
				stamp, _ := part.BackupStamp()
				l.BackupStamp = string(stamp)
			}
		}
		lines = append(lines, l)
	}
	return lines, nil
}
