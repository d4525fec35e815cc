package requester

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// MaxKeepBaseShadow is the most shadow copies of a volume that are kept: each
// makes writing dearer, and file systems have a limit, too.
const MaxKeepBaseShadow = 64

// snapshotContext is the kind of shadow copies: such as go with the session, or
// such as stay.
func (r *Request) snapshotContext() vss.SnapshotContext {
	switch {
	case r.KeepBaseShadow > 0 && r.NoWriters:
		return vss.ContextNASRollback
	case r.KeepBaseShadow > 0:
		return vss.ContextAppRollback
	case r.NoWriters:
		return vss.ContextFileShareBackup
	}
	return vss.ContextBackup
}

// basePurpose begins what kept copies say they are for.
const basePurpose = "base of backups "

// purpose tells the shadow copies that backups like this one keep from all
// others: those of the same paths and choice, and of the same part of it.
func (r *Request) purpose() string {
	what := append(slices.Clone(r.Paths), r.Selectors.Writers...)
	what = append(append(what, "\x00"), r.Selectors.Components...)
	if r.part.own {
		what = append(append(what, "\x00"), r.ownSelectors()...)
	}
	return basePurpose + stateOf(what)[:16]
}

// keeps reports whether a volume's shadow copy is worth keeping: later ones can
// be compared with it.
func (b *backup) keeps(v *volumeState) bool {
	return b.req.KeepBaseShadow > 0 && !v.snapshot.IsZero() && v.Persistent && v.support.Capabilities.ChangedRanges
}

// keptShadows lists the shadow copies that this backup leaves behind.
func (b *backup) keptShadows() (list []KeptShadow) {
	for _, v := range b.snapshotVolumes() {
		if b.keeps(v) {
			list = append(list, KeptShadow{Volume: v.ID, Root: v.Root, Provider: v.support.Provider.Name, Snapshot: v.snapshot})
		}
	}
	return list
}

// tidyShadows deletes, after the record was committed, the shadow copies of
// earlier backups like this one that it takes the place of, and those of this
// one that no later one can be compared with. What cannot be deleted now is
// tried again by the next backup.
func (b *backup) tidyShadows(ctx context.Context) {
	for _, v := range b.snapshotVolumes() {
		if b.req.KeepBaseShadow > 0 && !v.snapshot.IsZero() && !b.keeps(v) {
			b.deleteShadows(ctx, v.snapshot, vss.ObjectSnapshot)
		}
	}
	list, err := b.earlierShadows(ctx)
	if err != nil {
		b.late("earlier shadow copies kept for comparison are not listed: %v", err)
	}
	for i, s := range list {
		if i >= b.req.KeepBaseShadow && !b.needed(s) {
			b.deleteShadows(ctx, s.id, vss.ObjectSnapshotSet)
		}
	}
	b.res.Shadows, err = b.countShadows(ctx)
	if err != nil {
		b.late("shadow copies kept for comparison are not counted: %v", err)
	}
}

// late warns after the result was made.
func (b *backup) late(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.res.Warnings = append(b.res.Warnings, text)
	b.rep.Warning(text)
}

func (b *backup) deleteShadows(ctx context.Context, id vss.GUID, kind vss.ObjectType) {
	if _, err := b.sess.DeleteSnapshots(ctx, id, kind); err != nil && !errors.Is(err, vss.ErrObjectNotFound) {
		b.late("shadow copy {%s}, kept for comparison, is not deleted: %v; see: sombra shadow list", id, err)
	}
}

// shadowSet is a set of kept copies.
type shadowSet struct {
	id     vss.GUID
	made   time.Time
	copies []vss.GUID
}

// earlierShadows lists the sets that backups like this one have kept, this one's
// too, newest first.
func (b *backup) earlierShadows(ctx context.Context) (list []shadowSet, err error) {
	all, err := b.sess.QuerySnapshots(ctx)
	for _, p := range all {
		if p.Purpose != b.req.purpose() {
			continue
		}
		i := slices.IndexFunc(list, func(s shadowSet) bool { return s.id == p.SetID })
		if i < 0 {
			i, list = len(list), append(list, shadowSet{id: p.SetID, made: p.Created})
		}
		list[i].copies = append(list[i].copies, p.ID)
	}
	slices.SortStableFunc(list, func(x, y shadowSet) int { return y.made.Compare(x.made) })
	return list, err
}

// needed reports whether a set belongs to a record that differential backups go
// on building upon.
func (b *backup) needed(s shadowSet) bool {
	if b.req.KeepBaseShadow == 0 {
		return false
	}
	for _, def := range b.sel.Explicit {
		rec := b.copier.baseRecord(def)
		if rec == nil || b.typing(def).Type != vss.BackupTypeDifferential {
			continue
		}
		sum, _ := ReadSummary(rec)
		if slices.ContainsFunc(sum.Kept, func(k KeptShadow) bool { return slices.Contains(s.copies, k.Snapshot) }) {
			return true
		}
	}
	return false
}

// KeptCount counts the shadow copies that backups have left behind for
// comparison, of all paths.
type KeptCount struct {
	Copies int `json:"copies"`
	// Bytes is the disk space that only they take, as far as it was found out in
	// a moment; Least says that it is more.
	Bytes uint64 `json:"bytes"`
	Least bool   `json:"at_least,omitempty"`
	// Oldest is when the oldest was made.
	Oldest time.Time `json:"oldest,omitzero"`
}

// countLimit is how long the space of kept copies is looked at.
const countLimit = 2 * time.Second

// countShadows counts what is kept for comparison on the host now.
func (a *attempt) countShadows(ctx context.Context) (*KeptCount, error) {
	all, err := a.sess.QuerySnapshots(ctx)
	n := &KeptCount{}
	begun := time.Now()
	for _, p := range all {
		if !strings.HasPrefix(p.Purpose, basePurpose) {
			continue
		}
		n.Copies++
		space, serr := session.Space{Least: true}, error(nil)
		if time.Since(begun) < countLimit {
			space, serr = a.sess.SnapshotSpace(ctx, p.ID)
		}
		n.Bytes, n.Least = n.Bytes+space.Bytes, n.Least || space.Least || serr != nil
		if n.Oldest.IsZero() || p.Created.Before(n.Oldest) {
			n.Oldest = p.Created
		}
	}
	if n.Copies == 0 {
		return nil, err
	}
	return n, err
}

// dropShadows deletes the persistent shadow copies of a backup of which no record
// was made.
func (a *attempt) dropShadows(ctx context.Context) {
	if a.shadowSet.IsZero() || a.recorded {
		return
	}
	if _, err := a.sess.DeleteSnapshots(ctx, a.shadowSet, vss.ObjectSnapshotSet); err != nil && !errors.Is(err, vss.ErrObjectNotFound) {
		a.rep.Warning(fmt.Sprintf("the shadow copies of set {%s} are not deleted: %v; see: sombra shadow list", a.shadowSet, err))
	}
}

// planShadows counts the shadow copies that are kept, and names the volumes of
// which keeping them would be of no use.
func (a *attempt) planShadows(ctx context.Context, p *Plan) {
	p.KeepBaseShadow = a.req.KeepBaseShadow
	var err error
	if p.Shadows, err = a.countShadows(ctx); err != nil {
		a.warn("shadow copies kept for comparison are not counted: %v", err)
	}
	if a.req.KeepBaseShadow == 0 {
		return
	}
	for i := range p.Volumes {
		pv := &p.Volumes[i]
		v := a.volumes[pv.ID]
		if pv.Provider == "" || v.Persistent && v.support.Capabilities.ChangedRanges {
			continue
		}
		why := "shadow copies by provider " + pv.Provider + " cannot be compared with each other"
		if !v.Persistent {
			why = "the volume has no name that lasts"
		}
		pv.Notes = append(slices.Clone(pv.Notes), "none of its shadow copies is kept: "+why)
	}
}
