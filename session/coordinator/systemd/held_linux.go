package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/unit"
)

// Held is the unit of a writer's application; it does what [writer.ServiceHolder]
// says. What it stops and freezes it notes below [unit.NoteDir] first, so that another
// process can undo it.
type Held struct {
	spec writer.Spec
	unit string
	dir  string
	// find finds systemctl, or says why units cannot be reached.
	find func(op, object, otherwise string) (string, error)
}

var _ writer.ServiceHolder = (*Held)(nil)

// heldLimit bounds one call whose context does not.
const heldLimit = 10 * time.Minute

// NewHeld gives the unit that a specification names.
func NewHeld(spec writer.Spec) (*Held, error) {
	name, err := serviceName(spec.Unit)
	if err != nil {
		return nil, err
	}
	return &Held{spec: spec, unit: name, dir: unit.NoteDir, find: available}, nil
}

// Name implements [writer.Service].
func (h *Held) Name() string { return h.unit }

// Active implements [writer.Service].
func (h *Held) Active(ctx context.Context) (bool, error) {
	c, err := look(ctx, "look at service", h.unit)
	if err != nil {
		return false, err
	}
	return c.units[c.unit].runs(), nil
}

// Stop implements [writer.Service].
func (h *Held) Stop(ctx context.Context) error { return h.stop(ctx, "stop service", (*note).stop) }

// Hold implements [writer.ServiceHolder].
func (h *Held) Hold(ctx context.Context) error { return h.stop(ctx, opHold, (*note).hold) }

// stop stops what runs, once it is noted.
func (h *Held) stop(ctx context.Context, op string, add func(*note, []string)) error {
	return h.do(ctx, op, func(ctx context.Context, c *closure, n *note) error {
		running := c.active()
		if len(running) == 0 {
			return n.write() // what is over is forgotten
		}
		if err := h.ours(c); err != nil {
			return vss.Errorf(vss.ErrAccessDenied, op, c.unit, "%w", err)
		}
		if err := c.mayStop(); err != nil {
			return vss.Errorf(vss.ErrAccessDenied, op, c.unit, "%w", err)
		}
		add(n, running)
		n.Starting = false
		if err := n.write(); err != nil {
			return vss.Errorf(vss.ErrUnexpected, op, c.unit, "%w", err)
		}
		err := errors.Join(c.stop(ctx, op), n.taken())
		if err != nil && op == opHold {
			err = errors.Join(err, c.startLater(ctx, running))
		}
		return err
	})
}

// Start implements [writer.Service].
func (h *Held) Start(ctx context.Context) error {
	const op = "start service"
	return h.do(ctx, op, func(ctx context.Context, c *closure, n *note) error {
		units := n.stoppedBefore(op)
		if len(units) == 0 {
			if c.units[c.unit].runs() && c.units[c.unit]["ActiveState"] != "deactivating" {
				return nil
			}
			if err := h.ours(c); err != nil {
				return vss.Errorf(vss.ErrAccessDenied, op, c.unit, "%w", err)
			}
		}
		if !slices.Contains(units, c.unit) {
			units = append([]string{c.unit}, units...)
		}
		return h.start(ctx, op, c, n, units)
	})
}

// Freeze implements [writer.ServiceHolder].
func (h *Held) Freeze(ctx context.Context) error {
	const op = "freeze service"
	return h.do(ctx, op, func(ctx context.Context, c *closure, n *note) error {
		p := c.units[c.unit]
		if !p.runs() {
			return nil
		}
		if err := h.ours(c); err != nil {
			return vss.Errorf(vss.ErrAccessDenied, op, c.unit, "%w", err)
		}
		if err := c.mayFreeze(); err != nil {
			return vss.Errorf(vss.ErrAccessDenied, op, c.unit, "%w", err)
		}
		f, err := freezerOf(p)
		if err != nil {
			return vss.Errorf(vss.ErrNotSupported, op, c.unit, "%w", err)
		}
		if frozen, err := f.asked(); err != nil {
			return vss.Errorf(vss.ErrUnexpected, op, c.unit, "%w", err)
		} else if frozen && !n.Frozen {
			return vss.Errorf(vss.ErrBadState, op, c.unit, "somebody else has frozen it; see: systemctl thaw %s", c.unit)
		}
		n.Frozen, n.Group = true, p["ControlGroup"]
		if err := n.write(); err != nil {
			return vss.Errorf(vss.ErrUnexpected, op, c.unit, "%w", err)
		}
		if err := f.freeze(ctx); err != nil {
			return vss.Errorf(vss.ErrUnexpected, op, c.unit, "%w", err)
		}
		if err := n.taken(); err != nil {
			return vss.Errorf(vss.ErrUnexpected, op, c.unit, "%w", errors.Join(err, f.thaw()))
		}
		return nil
	})
}

// Thaw implements [writer.ServiceHolder].
func (h *Held) Thaw(ctx context.Context) error { return h.undo(ctx, opThaw, h.start) }

// LetGo implements [writer.ServiceHolder]. What systemd starts stays noted until
// Thaw has seen it run.
func (h *Held) LetGo(ctx context.Context) (starting bool, err error) {
	err = h.undo(ctx, opThaw, func(ctx context.Context, op string, c *closure, n *note, units []string) error {
		if err := c.mayStart(op); err != nil {
			return err
		}
		n.Starting = slices.Contains(units, c.unit)
		if err := n.write(); err != nil {
			return vss.Errorf(vss.ErrUnexpected, op, c.unit, "%w", err)
		}
		if err := c.startSoon(ctx, units); err != nil {
			return vss.Errorf(vss.ErrUnexpected, op, c.unit, "%w", err)
		}
		starting = true
		return n.taken()
	})
	return starting, err
}

// Release implements [writer.ServiceHolder].
func (h *Held) Release(ctx context.Context) error { return h.undo(ctx, opRelease, h.start) }

// starter starts units that were stopped, by their note.
type starter func(ctx context.Context, op string, c *closure, n *note, units []string) error

// undo undoes what is noted: all of it, or what lasts until Thaw.
func (h *Held) undo(ctx context.Context, op string, start starter) error {
	if os.Geteuid() != 0 {
		return nil // nothing can have been done
	}
	if n, err := readNote(h.dir, h.unit); err == nil && n.nothing(op) && !n.busy() {
		return nil // also where systemd does not run
	}
	return h.locked(ctx, op, func(ctx context.Context, systemctl string, n *note) error {
		var lost error
		if n.Frozen {
			held, err := n.thaw() // first, since systemd may not answer
			if err != nil {
				return vss.Errorf(vss.ErrUnexpected, op, h.unit, "%w", err)
			}
			if !held {
				lost = errOvertaken(op, h.unit, "let go or ended")
			}
			n.Frozen, n.Group = false, ""
			if err := n.write(); err != nil {
				return besides(vss.Errorf(vss.ErrUnexpected, op, h.unit, "%w", err), lost)
			}
		}
		if len(n.stoppedBefore(op)) == 0 {
			return lost
		}
		c, err := lookWith(ctx, op, h.unit, systemctl)
		if err != nil {
			return besides(err, lost)
		}
		ours := n.Starting
		if n.overtaken(c) && !ours {
			lost = errors.Join(lost, errOvertaken(op, c.unit, "started"))
		}
		if units := n.stoppedBefore(op); len(units) > 0 {
			return besides(start(ctx, op, c, n, units), lost)
		}
		return besides(n.write(), lost)
	})
}

// besides is an error with that of a unit which was not held: that one is not to
// count for the whole, which says that the unit goes on.
func besides(err, lost error) error {
	if err == nil || lost == nil {
		return errors.Join(err, lost)
	}
	return fmt.Errorf("%w; %v", err, lost)
}

const (
	opHold    = "hold service"
	opThaw    = "let service go on"
	opRelease = "release service"
)

// errOvertaken is of a unit that was not held until it was released.
func errOvertaken(op, unit, what string) error {
	return vss.Errorf(vss.ErrWriterErrorInconsistentSnapshot, op, unit, "somebody else %s it while it was to be held", what)
}

// start starts units, and forgets that they were stopped when they run.
func (h *Held) start(ctx context.Context, op string, c *closure, n *note, units []string) error {
	if err := c.mayStart(op); err != nil {
		return err
	}
	if err := startAll(ctx, op, c.systemctl, c.unit, units); err != nil {
		return err
	}
	n.started(units)
	return n.write()
}

// do does something with the unit and its note, which no other process touches
// meanwhile.
func (h *Held) do(ctx context.Context, op string, f func(context.Context, *closure, *note) error) error {
	return h.locked(ctx, op, func(ctx context.Context, systemctl string, n *note) error {
		c, err := lookWith(ctx, op, h.unit, systemctl)
		if err != nil {
			return err
		}
		n.Kind, n.Name = h.spec.Kind, h.spec.Name
		if n.overtaken(c) {
			n.forget() // that is over
		}
		return f(ctx, c, n)
	})
}

// locked does something with the unit's note, which no other process touches
// meanwhile.
func (h *Held) locked(ctx context.Context, op string, f func(ctx context.Context, systemctl string, n *note) error) error {
	if os.Geteuid() != 0 {
		return vss.Errorf(vss.ErrNotSupported, op, h.unit, "only root stops and starts units of the system; run this as root")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, heldLimit, tooLong(op, h.unit, heldLimit))
	defer cancel()
	systemctl, err := h.find(op, h.unit, "stop and start the application by its own means")
	if err != nil {
		return err
	}
	n, unlock, err := lockNote(ctx, h.dir, h.unit)
	if err != nil {
		return vss.Errorf(vss.ErrUnexpected, op, h.unit, "%w", err)
	}
	defer unlock()
	return f(ctx, systemctl, n)
}

// ours refuses a unit that no configuration names and that does not run as the
// owner of the writer's data: a process of the writer may be there by accident, or to
// have somebody else's unit stopped.
func (h *Held) ours(c *closure) error {
	if h.spec.UnitConfigured {
		return nil
	}
	p := c.units[c.unit]
	uid := h.spec.Owner.UID
	if pid := p["MainPID"]; pid != "" && pid != "0" {
		got, err := uidOf(pid)
		if err != nil {
			return fmt.Errorf("who its main process %s belongs to cannot be found out: %w", pid, err)
		}
		if got != uid {
			return fmt.Errorf("its main process %s runs as uid %d, and the data of %s belongs to uid %d; name the unit in the configuration of the writer", pid, got, h.spec.Name, uid)
		}
		return nil
	}
	name := p["User"]
	if name == "" {
		name = "root"
	}
	got := name
	if u, err := user.Lookup(name); err == nil {
		got = u.Uid
	}
	if got != strconv.FormatUint(uint64(uid), 10) {
		return fmt.Errorf("it runs as %s, and the data of %s belongs to uid %d; name the unit in the configuration of the writer", name, h.spec.Name, uid)
	}
	return nil
}

// uidOf is the real and effective user of a process, which must be the same.
func uidOf(pid string) (uint32, error) {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		ids, ok := strings.CutPrefix(line, "Uid:")
		if !ok {
			continue
		}
		f := strings.Fields(ids)
		if len(f) != 4 || f[0] != f[1] || f[1] != f[2] {
			return 0, errors.New("it runs with the rights of several users")
		}
		n, err := strconv.ParseUint(f[0], 10, 32)
		return uint32(n), err
	}
	return 0, errors.New("/proc does not tell")
}

// mayFreeze refuses a freeze that would stop this very program.
func (c *closure) mayFreeze() error {
	own, g := ownGroup(), c.units[c.unit]["ControlGroup"]
	if g != "" && g != "/" && (own == g || strings.HasPrefix(own, g+"/")) {
		return fmt.Errorf("this program runs in %s and would stop itself; run it elsewhere", c.unit)
	}
	return nil
}
