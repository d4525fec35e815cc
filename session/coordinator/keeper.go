package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session/coordinator/hold"
	"github.com/sombra-backup/sombra/session/coordinator/host"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// The kinds of duties a keeper is given.
const (
	// dutySet is to delete a set whose session died.
	dutySet = "set"
	// dutyWriter is to undo the freeze of a writer whose hold outlives its
	// process.
	dutyWriter = "writer"
)

// setDuty is what the keeper is told of a set.
type setDuty struct {
	StateDir string   `json:"state_dir"`
	SetID    vss.GUID `json:"set_id"`
}

// writerDuty is what it is told of a frozen writer.
type writerDuty struct {
	Exe   string        `json:"exe"`
	Args  []string      `json:"args"`
	Spec  writer.Spec   `json:"spec"`
	Event *writer.Event `json:"event"`
}

// KeeperHandlers are what a keeper process must know to do to hold.KeeperMain:
// what is due when a session has died.
func KeeperHandlers(providers []provider.Provider) map[string]hold.Handler {
	return map[string]hold.Handler{
		dutySet: func(ctx context.Context, data json.RawMessage) error {
			var d setDuty
			if err := json.Unmarshal(data, &d); err != nil {
				return err
			}
			return deleteLeft(ctx, d, providers)
		},
		dutyWriter: func(ctx context.Context, data json.RawMessage) error {
			var d writerDuty
			if err := json.Unmarshal(data, &d); err != nil {
				return err
			}
			// Nobody is left who would keep its log.
			return abortAnew(ctx, host.Options{Exe: d.Exe, Args: d.Args, Stderr: os.Stderr}, d.Spec, d.Event, func() {})
		},
	}
}

// deleteLeft deletes the set of a session that died, unless it is to be kept.
func deleteLeft(ctx context.Context, d setDuty, providers []provider.Provider) error {
	s := &service{opts: Options{StateDir: d.StateDir}}
	j := s.journal()
	e, err := j.read(d.SetID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing had been made, or it is gone
	}
	if err != nil || e.Keep {
		return err
	}
	return j.deleteSet(ctx, e, providers)
}

// overdueGrace is how long after the limit from Freeze to Thaw the keeper takes it
// that this process hangs.
const overdueGrace = time.Second

// watch has the keeper undo the freeze of a writer if this process and the
// writer's die, where that does not end the freeze by itself. Call the result
// when the writer is thawed.
func (r *run) watch(ctx context.Context, p *participant) (done func(), err error) {
	if p.spec == nil || !p.desc.OutlivesProcess {
		return func() {}, nil
	}
	e := r.event(p, writer.EventAbort)
	data, err := json.Marshal(writerDuty{Exe: r.opts.Executable, Args: r.opts.HostArgs, Spec: *p.spec, Event: e})
	if err != nil {
		return nil, err
	}
	duty := hold.Duty{Kind: dutyWriter, Data: data}
	if p.spec.Unit != "" {
		// The writer's process lets go by itself when its time is up, but what
		// it has done with its unit this process does, which may hang.
		duty.After = r.heldLimit(p) + overdueGrace
	}
	id, err := r.set.keeper.Assign(ctx, duty)
	if err != nil {
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
		defer cancel()
		if err := r.set.keeper.Discharge(ctx, id); err != nil {
			r.log.Warn("keeper", "error", err)
		}
	}, nil
}
