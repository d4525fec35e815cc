package coordinator

import (
	"context"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator/localfs"
	"github.com/sombra-backup/sombra/session/coordinator/systemd"
	"github.com/sombra-backup/sombra/vss"
)

// hostTarget is a target with what the host does around it.
type hostTarget struct {
	localfs.Target
	*systemd.Services
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
	return &hostTarget{Target: t, Services: systemd.NewServices(s.limits.Event)}, nil
}

// AtReboot implements [session.Reboots].
func (t *hostTarget) AtReboot(_ context.Context, what string) (session.RebootSet, error) {
	return nil, vss.Errorf(vss.ErrNotSupported, "restore at reboot", what, "this system has no list of files to replace at its next start")
}

// PendingReboots implements [session.Reboots].
func (t *hostTarget) PendingReboots(context.Context) ([]session.PendingReboot, error) {
	return nil, nil
}

// CancelReboot implements [session.Reboots].
func (t *hostTarget) CancelReboot(_ context.Context, id string) error {
	return vss.Errorf(vss.ErrObjectNotFound, "withdraw", id, "no such set waits for the next start")
}
