package systemd

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

// closure is a service with all that stops when it is stopped, and all that would
// start any of that again by itself.
type closure struct {
	systemctl string
	unit      string // the service, under its own name
	units     map[string]properties
	order     []string // of finding, the service first
}

// look finds a service and what goes with it.
func look(ctx context.Context, op, name string) (*closure, error) {
	unit, err := serviceName(name)
	if err != nil {
		return nil, err
	}
	systemctl, err := available(op, unit, "stop and start the service by its own means, and restore without writers")
	if err != nil {
		return nil, err
	}
	return lookWith(ctx, op, unit, systemctl)
}

// lookWith finds a service and what goes with it, with this systemctl.
func lookWith(ctx context.Context, op, unit, systemctl string) (*closure, error) {
	c := &closure{systemctl: systemctl, units: map[string]properties{}}
	todo := []string{unit}
	for len(todo) > 0 {
		list, err := show(ctx, systemctl, todo...)
		if err != nil {
			return nil, vss.Errorf(vss.ErrUnexpected, op, unit, "%w", err)
		}
		var next []string
		for i, p := range list {
			id := p["Id"]
			if !isUnit(id) {
				id = todo[i]
			}
			if _, known := c.units[id]; known {
				continue
			}
			c.units[id] = p
			c.order = append(c.order, id)
			for _, kind := range []string{"RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo", "TriggeredBy"} {
				next = append(next, p.list(kind)...)
			}
		}
		slices.Sort(next)
		todo = slices.DeleteFunc(slices.Compact(next), func(u string) bool { _, known := c.units[u]; return known || !isUnit(u) })
		if len(c.units)+len(todo) > maxUnits {
			return nil, vss.Errorf(vss.ErrUnexpected, op, unit, "more than %d units would stop with it", maxUnits)
		}
	}
	c.unit = c.order[0]
	// An alias may be what a protected service is called, too.
	if _, err := serviceName(c.unit); err != nil {
		return nil, err
	}
	if p := c.units[c.unit]; p["LoadState"] == "not-found" && !p.runs() {
		return nil, vss.Errorf(vss.ErrObjectNotFound, op, c.unit, "this host has no such service")
	}
	return c, nil
}

// service describes it.
func (c *closure) service() session.Service {
	p := c.units[c.unit]
	out := session.Service{Name: c.unit, Detail: p.detail()}
	for _, u := range c.active() {
		if u != c.unit {
			out.With = append(out.With, u)
		}
	}
	switch {
	case p.runs():
		out.State = session.ServiceRunning
	case p["LoadState"] == "masked":
		out.State = session.ServiceMasked
	case len(c.triggers()) > 0:
		out.State = session.ServiceWaiting
	case p["ActiveState"] == "failed":
		out.State = session.ServiceFailed
	}
	return out
}

// active are the units that run, the service first.
func (c *closure) active() []string {
	var list []string
	for _, u := range c.order {
		if c.units[u].runs() {
			list = append(list, u)
		}
	}
	return list
}

// triggers are the units that run and would start others of these.
func (c *closure) triggers() []string {
	var list []string
	for _, u := range c.order {
		for _, t := range c.units[u].list("TriggeredBy") {
			if p, ok := c.units[t]; ok && p.runs() && !slices.Contains(list, t) {
				list = append(list, t)
			}
		}
	}
	return list
}

// mayStop refuses a stop that could not be taken back, or that would end us.
func (c *closure) mayStop() error {
	own := ownGroup()
	for _, u := range c.active() {
		p := c.units[u]
		if _, err := serviceName(u); strings.HasSuffix(u, ".service") && errors.Is(err, vss.ErrAccessDenied) {
			return fmt.Errorf("%s, a service of the system itself, would stop with it", u)
		}
		if g := p["ControlGroup"]; g != "" && g != "/" && (own == g || strings.HasPrefix(own, g+"/")) {
			return fmt.Errorf("this program runs in %s and would be ended; run it elsewhere", u)
		}
		if !p.loaded() && strings.HasSuffix(u, ".service") {
			return fmt.Errorf("%s runs, but once stopped it could not be started again: %s", u, unloadable(p))
		}
	}
	return nil
}

// mayStart refuses the start of a service that systemd cannot start.
func (c *closure) mayStart(op string) error {
	if p := c.units[c.unit]; !p.loaded() {
		return vss.Errorf(vss.ErrUnexpected, op, c.unit, "it cannot be started: %s", unloadable(p))
	}
	return nil
}

func unloadable(p properties) string {
	switch p["LoadState"] {
	case "masked":
		return "it is masked; see systemctl unmask"
	case "not-found":
		return "it has no unit file any more"
	}
	return "its unit file is not valid (" + p["LoadState"] + ")"
}

// stop stops what runs. What systemctl says counts less than how the units are
// afterwards: one that had to be killed has stopped, too.
func (c *closure) stop(ctx context.Context, op string) error {
	var said error
	// First what would start it again: a connection to a socket just now is
	// not to bring it back.
	for _, units := range [][]string{c.triggers(), {c.unit}} {
		if len(units) == 0 {
			continue
		}
		_, err := run(ctx, c.systemctl, append([]string{"stop", "--no-ask-password", "--no-pager", "--"}, units...)...)
		if ctx.Err() != nil {
			return vss.Errorf(vss.ErrUnexpected, op, c.unit, "%w", context.Cause(ctx))
		}
		said = errors.Join(said, err)
	}
	if err := c.stopped(ctx, said); err != nil {
		return vss.Errorf(vss.ErrUnexpected, op, c.unit, "%w", err)
	}
	return nil
}

// startLater has systemd start units when it is done with stopping them, and does not
// wait for that; it fails as startSoon does.
func (c *closure) startLater(ctx context.Context, units []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), laterLimit)
	defer cancel()
	return c.startSoon(ctx, units)
}

// startSoon has systemd take on the start of units, and does not wait for that. With
// an error, which names them, some of them may not be started. Systemd refuses the
// start of a socket whose service stops, unless it has only to wait for that stop,
// which a start of the service would replace: then only sockets are started, and the
// rest is for a later call.
func (c *closure) startSoon(ctx context.Context, units []string) error {
	waits, err := c.stopping(ctx, units)
	if err != nil {
		return fmt.Errorf("systemd was not told to start %s: %w", strings.Join(units, ", "), err)
	}
	soon := units
	if len(waits) > 0 {
		soon = waits
	}
	if err := start(ctx, c.systemctl, soon, "--no-block"); err != nil {
		return fmt.Errorf("systemd has not taken on the start of all of %s: %w", strings.Join(units, ", "), err)
	}
	if len(waits) > 0 {
		return fmt.Errorf("systemd can take on the start of all of %s only when the service of %s has stopped", strings.Join(units, ", "), strings.Join(waits, ", "))
	}
	return nil
}

// stopping are those of the units that are sockets of a service which is about to
// stop.
func (c *closure) stopping(ctx context.Context, units []string) ([]string, error) {
	var services, waits []string
	for _, s := range c.order {
		if slices.ContainsFunc(c.sockets(s), func(u string) bool { return slices.Contains(units, u) }) {
			services = append(services, s)
		}
	}
	if len(services) == 0 {
		return nil, nil
	}
	list, err := show(ctx, c.systemctl, services...)
	if err != nil {
		return nil, err
	}
	for i, p := range list {
		if p["ActiveState"] != "deactivating" {
			continue
		}
		for _, u := range c.sockets(services[i]) {
			if slices.Contains(units, u) {
				waits = append(waits, u)
			}
		}
	}
	return waits, nil
}

// sockets are those that would start a unit.
func (c *closure) sockets(unit string) []string {
	return slices.DeleteFunc(c.units[unit].list("TriggeredBy"), func(u string) bool { return !strings.HasSuffix(u, ".socket") })
}

// laterLimit is how long systemd may take to hear of a start: Freeze is to return
// soon after its limit.
const laterLimit = 900 * time.Millisecond

// stopped looks whether all has stopped, with what systemctl said before.
func (c *closure) stopped(ctx context.Context, said error) error {
	units := c.active()
	list, err := show(ctx, c.systemctl, units...)
	if err != nil {
		return errors.Join(err, said)
	}
	for i, p := range list {
		if p.runs() {
			if said != nil {
				return said
			}
			return fmt.Errorf("%s has not stopped, or was started again: %s", units[i], p.detail())
		}
		if group := c.units[units[i]]["ControlGroup"]; populated(group) {
			return fmt.Errorf("processes of %s still run after its stop (in control group %s)", units[i], group)
		}
	}
	return nil
}
