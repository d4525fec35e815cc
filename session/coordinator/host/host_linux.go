package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sombra-backup/sombra/session/coordinator/hold/child"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Host is a writer host. Its methods may be called by several goroutines.
type Host struct {
	opts    Options
	proc    *child.Process // nil if no process was needed
	client  *writer.Client // nil if no writer is served
	units   *unitServer    // nil if no writer has a unit
	writers []Writer
	errs    []error
	done    chan struct{}
}

// Start starts a host for specifications that [Group] put together, and returns
// when each of its writers has been made, or not: see [Host.Errors]. The error
// is about the host as a whole; no process is left then.
//
// Only root can start a host for another user; others get an error for each
// specification. For themselves they get it with the groups they have.
func Start(ctx context.Context, o Options, specs []writer.Spec) (*Host, error) {
	if err := checkGroup(specs); err != nil {
		return nil, err
	}
	h := &Host{opts: o.withDefaults(), errs: make([]error, len(specs)), done: make(chan struct{})}
	owner := specs[0].Owner
	if uid := os.Geteuid(); uid != 0 && uint32(uid) != owner.UID {
		for i, s := range specs {
			h.errs[i] = vss.Errorf(vss.ErrWriterInfrastructure, "start writer", s.Name,
				"its data belongs to %s: only root can back it up with its writer", userName(owner.UID))
		}
		close(h.done)
		return h, nil
	}
	if err := h.spawn(owner, specs); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.opts.StartLimit,
		fmt.Errorf("it was not ready within %v", h.opts.StartLimit))
	defer cancel()
	if err := h.introduce(ctx, specs); err != nil {
		h.proc.Kill()
		<-h.proc.Done()
		return nil, h.startError(ctx, owner, err)
	}
	go h.watch()
	return h, nil
}

// spawn starts the process.
func (h *Host) spawn(owner writer.Owner, specs []writer.Spec) error {
	far, err := h.withUnits(specs)
	if err != nil {
		return err
	}
	o := child.Options{
		Exe: h.opts.Exe, Args: h.opts.Args, Env: environment(owner), Name: "writer host for " + userName(owner.UID),
		Credential: credential(owner), Confine: true, Stderr: h.opts.Stderr,
	}
	if far != nil {
		defer far.Close()
		o.Files = []*os.File{far}
	}
	if h.proc, err = child.Start(o); err != nil {
		if h.units != nil {
			h.units.conn.Close()
		}
		return err
	}
	if h.units != nil {
		go h.units.serve() // ends with the host
		go func() {
			<-h.proc.Done()
			h.units.conn.Close() // what it started itself may still have it open
		}()
	}
	return nil
}

// introduce tells the host what it is to be, and hears what became of it.
func (h *Host) introduce(ctx context.Context, specs []writer.Spec) error {
	defer context.AfterFunc(ctx, func() { h.proc.Conn.SetDeadline(time.Unix(1, 0)) })()
	if err := child.WriteFrame(h.proc.Conn, specs); err != nil {
		return err
	}
	var r report
	if err := child.ReadFrame(h.proc.Conn, &r); err != nil {
		return err
	}
	if len(r) != len(specs) {
		return fmt.Errorf("it reports on %d writers of %d", len(r), len(specs))
	}
	var served []writer.Spec
	for i, o := range r {
		h.errs[i] = o.error()
		if o.Served {
			served = append(served, specs[i])
		}
	}
	if len(served) == 0 {
		return nil // it ends by itself
	}
	return h.connect(ctx, served)
}

func (h *Host) connect(ctx context.Context, served []writer.Spec) error {
	client, err := writer.Dial(ctx, h.proc.Conn)
	if err != nil {
		return err
	}
	remotes, err := client.Writers(ctx)
	if err == nil && len(remotes) != len(served) {
		err = fmt.Errorf("it serves %d writers of %d", len(remotes), len(served))
	}
	if err != nil {
		client.Close()
		return err
	}
	h.client = client
	for i, r := range remotes {
		h.writers = append(h.writers, Writer{r, served[i]})
	}
	return nil
}

// startError says why a host did not start, from what is known: the time, the
// way it ended, or what it said.
func (h *Host) startError(ctx context.Context, owner writer.Owner, err error) error {
	var exit interface{ ExitCode() int }
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.As(h.proc.Err(), &exit) && exit.ExitCode() >= 0:
		err = fmt.Errorf("it ended with %w", h.proc.Err())
	}
	return vss.Errorf(vss.ErrWriterInfrastructure, "start", "writer host for "+userName(owner.UID), "%w", err)
}

// watch notices the end of the host.
func (h *Host) watch() {
	defer close(h.done)
	if h.client == nil {
		<-h.proc.Done()
		h.proc.Conn.Close()
		return
	}
	select {
	case <-h.proc.Done():
		h.client.Close()
	case <-h.client.Done():
	}
}

// Writers are the writers served, in the order of the specifications, without
// those that could not be made.
func (h *Host) Writers() []Writer { return h.writers }

// Errors has an element for each specification given to Start: why there is no
// such writer, or nil. It is also nil for a discovered one whose data turned
// out not to be the kind's ([writer.ErrNotMine]), which is not among Writers.
func (h *Host) Errors() []error { return h.errs }

// PID is the host's process id, 0 if there is no process.
func (h *Host) PID() int {
	if h.proc == nil {
		return 0
	}
	return h.proc.PID()
}

// Done is closed when the host's writers cannot be reached any more: its
// process has ended, or Close was called.
func (h *Host) Done() <-chan struct{} { return h.done }

// Err says how the host's process ended: nil as long as it runs, and if it
// ended well.
func (h *Host) Err() error {
	if h.proc == nil {
		return nil
	}
	select {
	case <-h.proc.Done():
	default:
		return nil
	}
	if err := h.proc.Err(); err != nil {
		return fmt.Errorf("writer host: process %d: %w", h.PID(), err)
	}
	return nil
}

// Kill ends the host at once. What its writers hold by their process's means,
// such as file locks, is free then.
func (h *Host) Kill() {
	if h.proc != nil {
		h.proc.Kill()
	}
}

// Close ends the host: it lets go what its writers hold, and ends. One that has
// not ended when ctx ends, or after CloseLimit, is killed, and the error says
// so. It may be called several times.
func (h *Host) Close(ctx context.Context) error {
	if h.proc == nil {
		return nil
	}
	if h.client != nil {
		h.client.Close()
	}
	limit := time.NewTimer(h.opts.CloseLimit)
	defer limit.Stop()
	select {
	case <-h.proc.Done():
		return nil
	case <-limit.C:
	case <-ctx.Done():
	}
	h.proc.Kill()
	<-h.proc.Done()
	return fmt.Errorf("writer host: process %d did not end in time and was killed", h.PID())
}

// credential is the identity for a host; nil if it is the one we have.
func credential(o writer.Owner) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: o.UID, Gid: o.GID, Groups: groupSet(o)}
}

// environment is what a host gets: nothing of ours but where programs are and
// which language is spoken, and its own user's name and home directory.
func environment(o writer.Owner) []string {
	var env []string
	for _, kv := range child.Env() {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "HOME", "USER", "LOGNAME":
		default:
			env = append(env, kv)
		}
	}
	home := "/"
	u, err := user.LookupId(strconv.FormatUint(uint64(o.UID), 10))
	if err == nil {
		if u.HomeDir != "" {
			home = u.HomeDir
		}
		env = append(env, "USER="+u.Username, "LOGNAME="+u.Username)
	}
	return append(env, "HOME="+home)
}

// userName names a user for an error text.
func userName(uid uint32) string {
	n := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(n); err == nil {
		return u.Username
	}
	return "uid " + n
}
