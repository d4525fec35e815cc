package coordinator

import (
	"slices"

	"github.com/sombra-backup/sombra/vss"
)

// spare finds the writers that a log backup leaves alone: their logs are read
// where they are, also if a shadow copy is made for the sake of others. They are
// prepared for the backup and told how it ended, as in one without any shadow copy,
// and hear of nothing between.
func (r *run) spare() {
	for _, p := range r.partaking() {
		p.spared = r.readLive(p)
	}
}

// readLive reports whether no file of a writer needs the shadow copy: by its
// document, and by the scopes of the set. Who has no files at all is frozen; it may
// be for the sake of what its application does.
func (s *service) readLive(p *participant) bool {
	if s.held != nil || !s.state.SelectComponents || s.state.Type != vss.BackupTypeLog {
		return false
	}
	some := false
	for _, c := range p.meta.Components() {
		for _, set := range c.FileSets {
			if set.BackupType&vss.LogSnapshotRequired != 0 {
				return false
			}
			some = true
		}
	}
	return some && !slices.ContainsFunc(s.set.copies, func(c *shadow) bool { return slices.ContainsFunc(c.scope.Claims, p.claims) })
}
