package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session/coordinator/hold/child"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Main is the process of a host that [Start] started: it makes the writers it
// is told to make, serves them until the connection ends, and returns the exit
// status. Interrupts do not end it, the end of the connection does.
func Main(ctx context.Context, kinds []writer.Kind) int {
	if err := serve(ctx, kinds); err != nil {
		fmt.Fprintln(os.Stderr, "sombra writer host:", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, kinds []writer.Kind) error {
	conn, err := child.Inherited("sombra-writer")
	if err != nil {
		return err
	}
	defer conn.Close()
	unix.Umask(0o077)
	if err := noCore(); err != nil {
		return fmt.Errorf("core size limit: %w", err)
	}
	// Caught, not ignored: what is ignored would be so in scripts run from here.
	signals := make(chan os.Signal, 1)
	// SIGPIPE too: who reads what is logged here dies first, and a line on the
	// lost connection must not keep this process from letting go.
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	defer signal.Stop(signals)

	conn.SetDeadline(time.Now().Add(30 * time.Second))
	var specs []writer.Spec
	if err := child.ReadFrame(conn, &specs); err != nil {
		return err
	}
	conn.SetDeadline(time.Time{})
	if err := checkIdentity(specs); err != nil {
		return err
	}
	if err := giveUnits(specs); err != nil {
		return err
	}
	writers, r := makeAll(ctx, kinds, specs, makeLimit)
	if err := child.WriteFrame(conn, r); err != nil {
		return err
	}
	if len(writers) == 0 {
		return nil
	}
	return writer.ServeConn(ctx, conn, writers...)
}

// noCore leaves no picture of this process on disk: writers know secrets. The hard
// limit stays, for a server that a writer starts and that shall have its own.
func noCore() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return err
	}
	limit.Cur = 0
	return unix.Setrlimit(unix.RLIMIT_CORE, &limit)
}

// checkIdentity makes sure that this process is who it should be before it
// touches anybody's data.
func checkIdentity(specs []writer.Spec) error {
	if err := checkGroup(specs); err != nil {
		return err
	}
	if uid := os.Geteuid(); uint32(uid) != specs[0].Owner.UID || uid != os.Getuid() {
		return fmt.Errorf("it runs as uid %d, but is to be uid %d", uid, specs[0].Owner.UID)
	}
	return nil
}

// How writers are made. Many a server does not answer, and each is waited for as long
// as its writer thinks right: so as many are made at once as the service takes of those
// of one user that nobody configured, and what is not made in time is not waited for.
// The time is less than [Options].StartLimit, after which the whole host would be lost.
const (
	makeAtOnce = 64
	makeLimit  = 20 * time.Second
	// makeGrace is for a New that ends with its context.
	makeGrace = time.Second
)

// makeAll makes the writers, and says what became of each. Both are in the order of the
// specifications, whichever was made first.
func makeAll(ctx context.Context, kinds []writer.Kind, specs []writer.Spec, limit time.Duration) ([]writer.Writer, report) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it was not made within %v", limit))
	defer cancel()
	type made struct {
		i   int
		w   writer.Writer
		err error
	}
	// Nobody who comes too late waits for this to be read.
	ready := make(chan made, len(specs))
	places := make(chan struct{}, makeAtOnce)
	for i, s := range specs {
		go func() {
			m := made{i: i}
			select {
			case places <- struct{}{}:
				m.w, m.err = makeOne(ctx, kinds, s)
				<-places
			case <-ctx.Done():
				m.err = fmt.Errorf("make writer %s: %w", s.Name, context.Cause(ctx))
			}
			ready <- m
		}()
	}
	all := make([]made, len(specs))
	for i, s := range specs {
		all[i].err = fmt.Errorf("make writer %s: it was not made within %v, and does not stop trying", s.Name, limit)
	}
	over := time.NewTimer(limit + makeGrace)
	defer over.Stop()
	for left := len(specs); left > 0; {
		select {
		case m := <-ready:
			all[m.i] = m
			left--
		case <-over.C:
			left = 0 // what still hangs ends with the process
		}
	}
	var writers []writer.Writer
	r := make(report, len(specs))
	for i, m := range all {
		if r[i] = outcomeOf(specs[i], m.err); r[i].Served {
			writers = append(writers, m.w)
		}
	}
	return writers, r
}

// outcomeOf says what became of a writer that was made or not.
func outcomeOf(s writer.Spec, err error) outcome {
	switch {
	case err == nil:
		return outcome{Served: true}
	case errors.Is(err, writer.ErrNotMine) && s.Discovered:
		return outcome{}
	}
	code := vss.CodeOf(err)
	if code.Succeeded() {
		code = vss.ErrUnexpected
	}
	return outcome{Code: code, Text: err.Error()}
}

func makeOne(ctx context.Context, kinds []writer.Kind, s writer.Spec) (w writer.Writer, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("make writer %s: panic: %v", s.Name, v)
		}
	}()
	for _, k := range kinds {
		if k.Name() != s.Kind {
			continue
		}
		w, err = k.New(ctx, s)
		if err == nil && w == nil {
			err = fmt.Errorf("make writer %s: kind %s made none", s.Name, s.Kind)
		}
		return w, err
	}
	return nil, fmt.Errorf("make writer %s: there is no kind %q", s.Name, s.Kind)
}
