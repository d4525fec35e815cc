package systemd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// Services are the services of this host, as [session.Services] has them.
type Services struct {
	limit time.Duration

	mu      sync.Mutex
	stopped map[string][]string // by unit: what StopService stopped
}

var _ session.Services = (*Services)(nil)

// NewServices gives the services of this host. Limit bounds one stop or start;
// systemd's own limit of the unit may end it earlier.
func NewServices(limit time.Duration) *Services {
	return &Services{limit: limit, stopped: map[string][]string{}}
}

// maxUnits bounds how many units may stop with one.
const maxUnits = 256

// settleTime is how long a service must run whose start says no more than that
// a process was made, before it counts as started.
const settleTime = time.Second

// Service implements [session.Services].
func (s *Services) Service(ctx context.Context, name string) (session.Service, error) {
	const op = "look at service"
	c, err := look(ctx, op, name)
	if err != nil {
		return session.Service{}, err
	}
	return c.service(), nil
}

// StopService implements [session.Services].
func (s *Services) StopService(ctx context.Context, name string) (session.Service, error) {
	const op = "stop service"
	c, err := look(ctx, op, name)
	if err != nil {
		return session.Service{}, err
	}
	before := c.service()
	if !before.State.Active() {
		return before, nil
	}
	if err := c.mayStop(); err != nil {
		return before, vss.Errorf(vss.ErrAccessDenied, op, c.unit, "%w", err)
	}
	s.note(c.unit, c.active())
	ctx, cancel := s.bounded(ctx, op, c.unit)
	defer cancel()
	if err := c.stop(ctx, op); err != nil {
		return before, err
	}
	return before, nil
}

// StartService implements [session.Services].
func (s *Services) StartService(ctx context.Context, name string) error {
	const op = "start service"
	c, err := look(ctx, op, name)
	if err != nil {
		return err
	}
	if err := c.mayStart(op); err != nil {
		return err
	}
	units := s.noted(c.unit)
	if len(units) == 0 {
		units = []string{c.unit}
	}
	ctx, cancel := s.bounded(ctx, op, c.unit)
	defer cancel()
	if err := startAll(ctx, op, c.systemctl, c.unit, units); err != nil {
		return err
	}
	s.note(c.unit, nil)
	return nil
}

// startAll starts units, of which one is the service, and returns when they run.
// One that was started too often of late is started all the same: that limit is
// against programs that die again and again, and these were stopped on purpose.
func startAll(ctx context.Context, op, systemctl, unit string, units []string) error {
	since := time.Now()
	said := start(ctx, systemctl, units)
	if said != nil && ctx.Err() == nil {
		if limited := startLimited(ctx, systemctl, units); len(limited) > 0 {
			run(ctx, systemctl, append([]string{"reset-failed", "--no-pager", "--"}, limited...)...)
			said = start(ctx, systemctl, units)
		}
	}
	if ctx.Err() != nil {
		return vss.Errorf(vss.ErrUnexpected, op, unit, "%w", context.Cause(ctx))
	}
	if err := started(ctx, systemctl, units, since, said); err != nil {
		return vss.Errorf(vss.ErrUnexpected, op, unit, "%w", err)
	}
	return nil
}

// startLimited are those of the units that are not started because of
// StartLimitBurst.
func startLimited(ctx context.Context, systemctl string, units []string) []string {
	list, err := show(ctx, systemctl, units...)
	if err != nil {
		return nil
	}
	var limited []string
	for i, p := range list {
		if !p.runs() && p["Result"] == "start-limit-hit" {
			limited = append(limited, units[i])
		}
	}
	return limited
}

// start starts units, sockets first: systemd refuses one whose service runs. Targets
// that stopped with them are only marked as reached again: to start them would start
// all else that belongs to them.
func start(ctx context.Context, systemctl string, units []string, options ...string) error {
	var sockets, plain, targets []string
	for _, u := range units {
		switch path.Ext(u) {
		case ".socket":
			sockets = append(sockets, u)
		case ".target":
			targets = append(targets, u)
		default:
			plain = append(plain, u)
		}
	}
	plain = append(sockets, plain...)
	options = append([]string{"start", "--no-ask-password", "--no-pager"}, options...)
	var errs []error
	if len(plain) > 0 {
		_, err := run(ctx, systemctl, slices.Concat(options, []string{"--"}, plain)...)
		errs = append(errs, err)
	}
	if len(targets) > 0 {
		// With no time left this is an error, too.
		_, err := run(ctx, systemctl, slices.Concat(options, []string{"--job-mode=ignore-dependencies", "--"}, targets)...)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// started looks whether units have started, and goes on looking for a while at
// those whose start tells little.
func started(ctx context.Context, systemctl string, units []string, since time.Time, said error) error {
	settled := time.Now().Add(settleTime)
	for {
		list, err := show(ctx, systemctl, units...)
		if err != nil {
			return errors.Join(err, said)
		}
		unsure := false
		for i, p := range list {
			switch {
			case p.runs() && p["SubState"] != "auto-restart":
				unsure = unsure || slices.Contains([]string{"simple", "exec", "idle"}, p["Type"])
			case p["Type"] == "oneshot" && p["ActiveState"] == "inactive" && p["Result"] == "success":
			default:
				return fmt.Errorf("%s did not start: %s", units[i], lastWords(ctx, p, since))
			}
		}
		if said != nil {
			return said
		}
		if !unsure || time.Now().After(settled) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *Services) bounded(ctx context.Context, op, unit string) (context.Context, context.CancelFunc) {
	if s.limit <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, s.limit, tooLong(op, unit, s.limit))
}

// tooLong is what ends a call that its limit ends.
func tooLong(op, unit string, limit time.Duration) error {
	return fmt.Errorf("%s has not ended within %v and goes on; see: systemctl status %s: %w", op, limit, unit, context.DeadlineExceeded)
}

// note keeps what was stopped for a unit, with what was before.
func (s *Services) note(unit string, units []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if units == nil {
		delete(s.stopped, unit)
		return
	}
	for _, u := range units {
		if !slices.Contains(s.stopped[unit], u) {
			s.stopped[unit] = append(s.stopped[unit], u)
		}
	}
}

func (s *Services) noted(unit string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.stopped[unit])
}
