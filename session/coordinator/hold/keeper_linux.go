package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sombra-backup/sombra/session/coordinator/hold/child"
)

// patience is how long the keeper may take to answer what should take no time.
// One that does not is ended; the kernel, and this side, then let go of what it
// held.
const patience = 5 * time.Second

// errNoAnswer is why the wait for a keeper's answer ended that had all the time
// it needed.
var errNoAnswer = errors.New("no answer in the time that is enough for one")

// releasePatience is the same for letting go, and for whatever else others are
// held for. It is longer than releaseLimit,
// so that a keeper that knows what is wrong can say so.
const releasePatience = releaseLimit + time.Second

// Keeper is the connection to a keeper's process. Its methods may be called by
// several goroutines.
type Keeper struct {
	opts    Options
	proc    *child.Process
	welcome welcome
	done    chan struct{}

	write sync.Mutex // guards writing to the connection

	mu      sync.Mutex
	last    uint64
	calls   map[uint64]chan message
	undo    *Undo
	closing bool
}

// StartKeeper starts a keeper. It returns when the keeper is ready.
func StartKeeper(ctx context.Context, o Options) (*Keeper, error) {
	o = o.withDefaults()
	proc, err := child.Start(child.Options{Exe: o.Exe, Args: o.Args, Env: o.Env, Name: "keeper", Stderr: o.Stderr})
	if err != nil {
		return nil, err
	}
	k := &Keeper{opts: o, proc: proc, done: make(chan struct{}), calls: make(map[uint64]chan message)}
	go k.read()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	h := hello{PID: os.Getpid(), DutyLimit: o.DutyLimit, DutyTries: o.DutyTries}
	if err := k.call(ctx, opHello, h, &k.welcome); err != nil {
		proc.Kill()
		<-k.done
		if proc.Err() != nil {
			err = fmt.Errorf("%w (%w)", err, proc.Err())
		}
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	return k, nil
}

// Note says in a few words what the keeper could not have that it should, as a
// control group of its own; usually it is empty.
func (k *Keeper) Note() string { return k.welcome.Note }

// PID is the keeper's process id.
func (k *Keeper) PID() int { return k.proc.PID() }

// SetLease changes how long processes that are stopped from now on stay so at
// most; see [Options].Lease.
func (k *Keeper) SetLease(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opts.Lease = d
}

func (k *Keeper) lease() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opts.Lease
}

// Done is closed when the keeper is no more, and what it held goes on: after
// Close, or because it died. Its duties are then nobody's.
func (k *Keeper) Done() <-chan struct{} { return k.done }

// Stop stops processes, with all their threads and descendants, and returns
// when all have been seen stopped. What is already held stays so. If it returns
// an error none of these processes is stopped. The error is a [ProcessError]'s
// text, and matches [ErrNotStopped] if a process took longer than ctx or
// Options.StopLimit allow, and [ErrRefused] if one is of the kind that is never
// stopped.
//
// Processes of ours among pids are left out, and those that have ended.
func (k *Keeper) Stop(ctx context.Context, pids []int) (Stopped, error) {
	r := stopRequest{PIDs: pids, Protect: child.PIDs(), Limit: k.opts.StopLimit, Lease: k.lease()}
	if d, ok := ctx.Deadline(); ok {
		r.Limit = min(r.Limit, time.Until(d))
	}
	if err := ctx.Err(); err != nil {
		return Stopped{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.Limit+releasePatience, errNoAnswer)
	defer cancel()
	var a stopAnswer
	err := k.call(ctx, opStop, r, &a)
	if err != nil {
		return Stopped{}, err
	}
	if err := ctx.Err(); err != nil {
		return Stopped{}, errors.Join(err, k.resume(a.Hold))
	}
	return a.Stopped, nil
}

// Resume lets everything go on that Stop has stopped, also while Stop runs, and
// whether or not ctx has ended. A nil error means that all of it was held
// without a break from the return of Stop until now; [ErrLeaseExpired] and
// [ErrContinued] mean that it was not. In any case nothing is held any more.
func (k *Keeper) Resume(context.Context) error { return k.resume(0) }

func (k *Keeper) resume(hold uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), releasePatience)
	defer cancel()
	return k.call(ctx, opResume, resumeRequest{hold}, nil)
}

// Assign gives the keeper a duty. When it returns without an error the keeper has it, and would
// do it even if this process were killed the moment after.
func (k *Keeper) Assign(ctx context.Context, d Duty) (id uint64, err error) {
	if len(d.Data) > maxDuty {
		return 0, fmt.Errorf("hold: duty %q: %d bytes of data, the limit is %d", d.Kind, len(d.Data), maxDuty)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, releasePatience, errNoAnswer)
	defer cancel()
	var n numbered
	err = k.call(ctx, opAssign, d, &n)
	return n.ID, err
}

// Alive returns nil if the keeper answers. One that does not is ended, and lost
// as one that has died; whoever is about to need it starts another.
func (k *Keeper) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, releasePatience, errNoAnswer)
	defer cancel()
	return k.call(ctx, opAlive, nil, nil)
}

// Discharge takes a duty back. Neither it nor Assign waits for a keeper that
// hangs: it is ended.
func (k *Keeper) Discharge(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, releasePatience, errNoAnswer)
	defer cancel()
	return k.call(ctx, opDischarge, numbered{id}, nil)
}

// Close dismisses the keeper: everything goes on, no duty is done. It returns
// when the keeper's process has ended. It may be called several times.
func (k *Keeper) Close(ctx context.Context) error {
	k.mu.Lock()
	again := k.closing
	k.closing = true
	k.mu.Unlock()
	if again {
		<-k.done
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := k.call(ctx, opClose, nil, nil)
	if errors.Is(err, ErrKeeperLost) {
		err = nil // there is nothing left to dismiss
	}
	select {
	case <-k.proc.Done():
	case <-ctx.Done():
		k.proc.Kill()
	}
	<-k.done
	return err
}

// call sends a request and waits for its answer. When ctx ends the keeper is
// told, and given a moment to answer all the same; if it does not, it hangs,
// and is ended.
func (k *Keeper) call(ctx context.Context, o op, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer := make(chan message, 1)
	k.mu.Lock()
	if k.closing && o != opClose {
		k.mu.Unlock()
		return ErrClosed
	}
	k.last++
	id := k.last
	k.calls[id] = answer
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.calls, id)
		k.mu.Unlock()
	}()
	k.send(message{ID: id, Op: o, Body: body})
	var m message
	select {
	case m = <-answer:
	case <-k.done:
		return ErrKeeperLost
	case <-ctx.Done():
		if m, err = k.lastCall(ctx, id, o, answer); err != nil {
			return err
		}
	}
	if err := m.error(); err != nil {
		if errors.Is(err, errStuck) {
			k.proc.Kill()
			<-k.done
		}
		return err
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(m.Body, out)
}

// lastCall tells the keeper that nobody waits for its answer any longer, and
// gives it a moment to answer all the same. If it does not it is ended.
func (k *Keeper) lastCall(ctx context.Context, id uint64, o op, answer <-chan message) (message, error) {
	moment := patience
	if o == opResume || o == opClose || errors.Is(context.Cause(ctx), errNoAnswer) {
		moment = 0 // they have been waited for, and must come about
	}
	k.send(message{ID: id, Op: opCancel})
	select {
	case m := <-answer:
		return m, nil
	case <-k.done:
		return message{}, ErrKeeperLost
	case <-time.After(moment):
		k.proc.Kill()
		<-k.done
		return message{}, fmt.Errorf("hold: %s: the keeper did not answer and was ended: %w", o, context.Cause(ctx))
	}
}

// send writes to the keeper. If that is gone the reader notices.
func (k *Keeper) send(m message) {
	k.write.Lock()
	defer k.write.Unlock()
	k.proc.Conn.SetWriteDeadline(time.Now().Add(patience))
	if child.WriteFrame(k.proc.Conn, m) != nil {
		k.proc.Kill()
	}
}

// read handles what the keeper sends until it is gone.
func (k *Keeper) read() {
	for {
		var m message
		if err := child.ReadFrame(k.proc.Conn, &m); err != nil {
			break
		}
		switch m.Op {
		case "":
			k.mu.Lock()
			if answer := k.calls[m.ID]; answer != nil {
				answer <- m
				delete(k.calls, m.ID)
			}
			k.mu.Unlock()
		case opWeak:
			a := message{ID: m.ID}
			a.setError(k.weak(m))
			k.send(a)
		case opReleased:
			k.setUndo(nil)
		}
	}
	k.lost()
}

// weak notes what is to be undone if the keeper dies.
func (k *Keeper) weak(m message) error {
	u, err := decode[Undo](m)
	if err != nil {
		return err
	}
	if k.opts.Journal != nil {
		if err := k.opts.Journal(m.Body); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	k.mu.Lock()
	k.undo = &u
	k.mu.Unlock()
	return nil
}

func (k *Keeper) setUndo(u *Undo) {
	k.mu.Lock()
	k.undo = u
	k.mu.Unlock()
	if u == nil && k.opts.Journal != nil {
		// What is left in the journal does no harm: the processes run.
		_ = k.opts.Journal(nil)
	}
}

// lost does what is to be done when the keeper is gone.
func (k *Keeper) lost() {
	k.mu.Lock()
	undo := k.undo
	k.mu.Unlock()
	if undo != nil {
		// Once before its end is certain, since nothing is more urgent, and
		// once after, when it can stop nothing more.
		_ = undo.run()
	}
	k.proc.Conn.Close()
	select {
	case <-k.proc.Done():
	case <-time.After(patience):
		k.proc.Kill()
		<-k.proc.Done()
	}
	if undo != nil && undo.run() == nil {
		k.setUndo(nil)
	}
	if k.welcome.Cgroup != "" {
		os.Remove(k.welcome.Cgroup)
	}
	close(k.done)
}
