package requester

import (
	"context"
	"fmt"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
)

// Files come and go while a volume is read live. Data of no writer that was listed
// and is no more when it is read is left out, as it would be had it been listed
// later; it is counted, and named to whoever listens. Data of a writer is another
// matter, and nothing vanishes from a shadow copy: there it is a failure.

// vanishes reports whether an object may be removed between listing and reading
// without harm to the backup.
func (c *copier) vanishes(j *job) bool {
	return j.cl == nil && j.entry.Source == session.FromLive
}

// gone counts an object that vanished.
func (c *copier) gone(j *job) {
	c.mu.Lock()
	c.totals.Vanished++
	c.mu.Unlock()
	c.a.rep.File(FileEvent{Path: c.path(*j), Action: "vanished", Source: session.FromLive.String()})
}

// undescribed is an object that could not be described once it had been listed.
func (c *copier) undescribed(ctx context.Context, j *job, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case isMissing(err) && c.vanishes(j):
		c.gone(j)
		return nil
	case isMissing(err) && j.entry.Mode.IsDir():
		return nil // of a writer, made after the shadow copy
	}
	entry, _ := newEntry(j.table, j.entry, c.device[j.volume.ID])
	if entry.Type == repository.Symlink {
		entry.Type = repository.Regular // its target is unknown
	}
	entry.Attrs = c.attrs(j)
	return c.fail(ctx, j, entry, err)
}

// vanishedDir reports whether a directory that could not be listed is one that
// was removed meanwhile. Its entry stands already, and is one of an empty
// directory then. What a shadow copy has cannot be meant: it is there still.
func (c *copier) vanishedDir(ctx context.Context, t session.Tree, v *volumeState, name string, err error) bool {
	if !isMissing(err) || name == "." || !v.snapshot.IsZero() && !v.support.Capabilities.NeedsScope {
		return false
	}
	_, err = t.Lstat(ctx, name)
	return isMissing(err)
}

// stillArea makes sure that what was chosen is there still when all of it has been
// listed: if it was removed, it is missed.
func (c *copier) stillArea(ctx context.Context, t session.Tree, v *volumeState, name string, top session.Entry) error {
	if _, err := t.Lstat(ctx, name); isMissing(err) {
		j := job{tree: t, from: v.ID, name: name, volume: v, table: tableName(v.table, name), entry: top}
		return c.note(&j, fmt.Errorf("it was removed while it was backed up: %w", err))
	}
	return ctx.Err()
}
