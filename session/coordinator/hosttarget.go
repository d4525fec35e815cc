package coordinator

import (
	"context"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/localfs"
	"github.com/sombra-backup/sombra/session/coordinator/reboot"
	"github.com/sombra-backup/sombra/session/coordinator/systemd"
)

// hostTarget is a target with what the host does around it.
type hostTarget struct {
	localfs.Target
	*systemd.Services
	store *reboot.Store
}

var _ session.Target = (*hostTarget)(nil)

// Target implements [session.Data].
func (s *service) Target(ctx context.Context, dir string, roots []string) (session.Target, error) {
	if err := s.open("Target"); err != nil {
		return nil, err
	}
	t, err := localfs.OpenTarget(dir, localfs.TargetOptions{Roots: roots})
	if err != nil {
		return nil, err
	}
	return &hostTarget{Target: t, Services: systemd.NewServices(s.limits.Event), store: s.reboots()}, nil
}

// reboots are the sets of files that wait for the host's next start.
func (s *service) reboots() *reboot.Store {
	o := reboot.Options{StateDir: s.opts.StateDir}
	if len(s.opts.RebootArgs) > 0 {
		o.Command = append([]string{s.opts.Executable}, s.opts.RebootArgs...)
	}
	return reboot.Open(o)
}

// AtReboot implements [session.Reboots].
func (t *hostTarget) AtReboot(ctx context.Context, what string) (session.RebootSet, error) {
	return t.store.Begin(ctx, what, t.Beside)
}

// PendingReboots implements [session.Reboots].
func (t *hostTarget) PendingReboots(ctx context.Context) ([]session.PendingReboot, error) {
	return t.store.Pending(ctx)
}

// CancelReboot implements [session.Reboots].
func (t *hostTarget) CancelReboot(ctx context.Context, id string) error {
	return t.store.Cancel(ctx, id)
}
