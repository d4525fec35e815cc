package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session/coordinator/hold"
	"github.com/sombra-backup/sombra/session/coordinator/host"
	"github.com/sombra-backup/sombra/session/coordinator/volume"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// staff is the other processes of a session, and what it knows of the host.
type staff struct {
	mu      sync.Mutex
	opts    host.Options
	log     *slog.Logger
	hosts   []*host.Host
	outputs []*output
	clients []*writer.Client
	held    *hold.Keeper
	table   *volume.Table
}

// keeper starts the session's keeper, once.
func (t *staff) keeper(ctx context.Context, o Options, lease time.Duration, undo func(json.RawMessage) error) (*hold.Keeper, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held != nil {
		select {
		case <-t.held.Done(): // it was killed; a new one
		default:
			return t.held, nil
		}
	}
	k, err := hold.StartKeeper(ctx, hold.Options{Exe: o.Executable, Args: o.KeeperArgs, Stderr: os.Stderr,
		Lease: lease, Journal: undo})
	if err != nil {
		return nil, err
	}
	t.held = k
	return k, nil
}

// hire starts a writer host for specs of one owner and kind.
func (t *staff) hire(ctx context.Context, o Options, specs []writer.Spec) (*host.Host, error) {
	ho := host.Options{Exe: o.Executable, Args: o.HostArgs}
	out, err := newOutput(o.Log, specs[0].Kind)
	if err != nil {
		return nil, err
	}
	ho.Stderr = out.write
	h, err := host.Start(ctx, ho, specs)
	out.started()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outputs = append(t.outputs, out)
	if err != nil {
		return nil, err
	}
	t.opts, t.log = ho, o.Log
	t.hosts = append(t.hosts, h)
	return h, nil
}

// abortAnew starts a writer again in place of one that died frozen, and has it
// undo what that one did.
func (t *staff) abortAnew(ctx context.Context, spec writer.Spec, e *writer.Event) error {
	t.mu.Lock()
	o, log := t.opts, t.log
	t.mu.Unlock()
	out, err := newOutput(log, spec.Kind)
	if err != nil {
		return err
	}
	defer out.close()
	o.Stderr = out.write
	return abortAnew(ctx, o, spec, e, out.started)
}

// abortAnew does so with a host; started is called when that has started, or has
// not.
func abortAnew(ctx context.Context, o host.Options, spec writer.Spec, e *writer.Event, started func()) error {
	ctx, cancel := context.WithTimeout(ctx, abortLimit)
	defer cancel()
	h, err := host.Start(ctx, o, []writer.Spec{spec})
	started()
	if err != nil {
		return err
	}
	defer h.Close(ctx)
	errs := slices.Clone(h.Errors())
	if len(h.Writers()) == 0 {
		errs = append(errs, vss.Errorf(vss.ErrWriterInfrastructure, "start writer", spec.Name, "it could not be made again"))
	}
	for _, w := range h.Writers() {
		errs = append(errs, w.Abort(ctx, e))
	}
	return errors.Join(errs...)
}

// visitor is a program with writers of its own: who runs it, and as what.
type visitor struct {
	*writer.Client
	uid uint32
	pid int
}

// visit connects to a writer of another program.
func (t *staff) visit(ctx context.Context, path string) (visitor, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return visitor{}, err
	}
	var v visitor
	if v.uid, v.pid, err = writer.PeerOwner(conn); err != nil {
		conn.Close()
		return visitor{}, err
	}
	if v.Client, err = writer.Dial(ctx, conn); err != nil {
		return visitor{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clients = append(t.clients, v.Client)
	return v, nil
}

// dismiss ends all of them.
func (t *staff) dismiss() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
	defer cancel()
	var errs []error
	for _, c := range t.clients {
		errs = append(errs, c.Close())
	}
	var wg sync.WaitGroup
	for _, h := range t.hosts {
		wg.Go(func() { h.Close(ctx) })
	}
	wg.Wait()
	for _, o := range t.outputs {
		o.close()
	}
	if t.held != nil {
		select {
		case <-t.held.Done():
		default:
			errs = append(errs, t.held.Close(ctx))
		}
	}
	t.clients, t.hosts, t.outputs, t.held = nil, nil, nil, nil
	return errors.Join(errs...)
}

// volumes reads the host's volumes, once a session.
func (t *staff) volumes(ctx context.Context) (*volume.Table, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.table == nil {
		table, err := volume.Load(ctx)
		if err != nil {
			return nil, err
		}
		t.table = table
	}
	return t.table, nil
}

func (t *staff) volume(ctx context.Context, id string) (provider.Volume, error) {
	table, err := t.volumes(ctx)
	if err != nil {
		return provider.Volume{}, err
	}
	return table.Volume(ctx, id)
}

// maxSockets is how many sockets of a directory are looked at: whom it belongs to
// could fill it.
const maxSockets = 256

// socketPaths lists the sockets of other programs' writers: in the directories, and
// in those in them, which can belong to the users whose programs listen there.
func socketPaths(dirs []string) []string {
	var list []string
	for _, d := range dirs {
		list = append(list, socketsIn(d)...)
		subs, err := os.ReadDir(d)
		if err != nil {
			continue // it need not be there
		}
		for _, e := range subs {
			if e.IsDir() {
				list = append(list, socketsIn(filepath.Join(d, e.Name()))...)
			}
		}
	}
	return list
}

func socketsIn(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if e.Type() == os.ModeSocket && filepath.Ext(e.Name()) == ".sock" && len(list) < maxSockets {
			list = append(list, filepath.Join(dir, e.Name()))
		}
	}
	return list
}

// errForeign is why a writer of another program is refused.
func errForeign(path string, uid uint32, file string) error {
	return vss.Errorf(vss.ErrWriterErrorNonRetryable, "Identify", path,
		"its process runs as uid %d, which does not own %s; a writer must be root's or own every file it declares", uid, file)
}
