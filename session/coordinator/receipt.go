package coordinator

import (
	"context"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// account completes the receipt, also of a set that failed.
func (r *run) account() {
	for _, p := range r.writers {
		if !p.in {
			continue
		}
		w := p.receipt
		w.Instance, w.Name, w.InstanceName = p.instance, p.name, p.instanceName
		w.ReadsPaused, w.Weak = p.desc.ReadsPaused || w.Stopped, p.desc.Weak
		w.State = p.state.String()
		if r.opts.NoFreeze {
			w.Stillness = "not frozen"
		}
		r.receipt.Writers = append(r.receipt.Writers, w)
	}
	for _, c := range r.set.copies {
		r.receipt.Volumes = append(r.receipt.Volumes, c.receipt)
	}
}

// Receipt implements [session.Snapshots].
func (s *service) Receipt(ctx context.Context) (session.Receipt, error) {
	_, leave, err := s.enter(ctx, "Receipt", inBackup, 0)
	if err != nil {
		return session.Receipt{}, err
	}
	defer leave()
	if !s.has(snapped) && !s.has(setFailed) {
		return session.Receipt{}, vss.Errorf(vss.ErrBadState, "Receipt", "", "it must come after DoSnapshotSet")
	}
	return s.receipt, nil
}
