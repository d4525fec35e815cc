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
	writers, r := makeAll(ctx, kinds, specs)
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

// makeAll makes the writers, and says what became of each.
func makeAll(ctx context.Context, kinds []writer.Kind, specs []writer.Spec) ([]writer.Writer, report) {
	var writers []writer.Writer
	r := make(report, len(specs))
	for i, s := range specs {
		w, err := makeOne(ctx, kinds, s)
		switch {
		case err == nil:
			writers = append(writers, w)
			r[i].Served = true
		case errors.Is(err, writer.ErrNotMine) && s.Discovered:
		default:
			code := vss.CodeOf(err)
			if code.Succeeded() {
				code = vss.ErrUnexpected
			}
			r[i] = outcome{Code: code, Text: err.Error()}
		}
	}
	return writers, r
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
