package quiesce

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

var (
	// ErrNothing is the error of Thaw and Status where nobody has frozen
	// anything, or it was thawed.
	ErrNothing = errors.New("nothing is frozen")
	// ErrLost is their error where the holder has died: the writers were let go
	// then, and what was copied after that is not application-consistent.
	ErrLost = errors.New("the process that held the writers has died, and they were let go then")
	// ErrSilent is the error where the holder gives no sign of life: it is stopped
	// or hangs. What it holds is let go when the lease is over, by the clocks of
	// others.
	ErrSilent = errors.New("the process that holds the writers does not answer")
)

// silence is the longest that a holder may give no sign of life: one that works on
// an answer gives one every signTime. Tests have less time.
var (
	silence  = 10 * time.Second
	signTime = time.Second
)

// lockTime is how long Thaw waits, after its answer, for the holder to free the
// service for the next run, which takes longer only where a file system is frozen.
const lockTime = 3 * time.Second

// Start starts a holder with a command line of this program that runs [Main] on
// descriptor 3, and returns when the writers are held. rep is told how it goes.
//
// If the host's writers are held already, or another run is making a set, the
// error is VSS_E_SNAPSHOT_SET_IN_PROGRESS.
func Start(ctx context.Context, exe string, args []string, o Order, rep requester.Reporter) (requester.FreezeResult, error) {
	var none requester.FreezeResult
	switch a, err := ask(ctx, o.StateDir, opStatus); {
	case err == nil && a.State == Held:
		return none, vss.Errorf(vss.ErrSnapshotSetInProgress, "freeze", "writers",
			"they are held since %s, for another %v", a.Result.Held.Local().Format(time.TimeOnly), time.Until(a.Result.Until).Round(time.Second))
	case err == nil:
		if _, err := ask(ctx, o.StateDir, opDismiss); err != nil && !gone(err) {
			return none, err
		}
	case !gone(err):
		return none, err
	}
	conn, err := spawn(exe, args)
	if err != nil {
		return none, fmt.Errorf("start the process that holds the writers: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // it lets go then
	defer stop()
	r, err := follow(conn, o, rep)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r, err
}

// follow sends the order and passes on what comes.
func follow(conn net.Conn, o Order, rep requester.Reporter) (requester.FreezeResult, error) {
	if err := writeMessage(conn, o); err != nil {
		return requester.FreezeResult{}, err
	}
	in := bufio.NewReader(conn)
	for {
		var e event
		if err := readMessage(in, maxMessage, &e); err != nil {
			if errors.Is(err, io.EOF) {
				err = ErrLost
			}
			return requester.FreezeResult{}, err
		}
		switch {
		case e.Failure != nil:
			return requester.FreezeResult{}, e.Failure
		case e.Result != nil:
			_, err := conn.Write([]byte{'\n'})
			return *e.Result, err
		case e.Step != nil:
			rep.Step(*e.Step)
		case e.Status != nil:
			rep.Status(requester.PhaseSnapshot, *e.Status)
		case e.Warning != "":
			rep.Warning(e.Warning)
		case e.Phase != "":
			rep.Phase(e.Phase)
		}
	}
}

func gone(err error) bool { return errors.Is(err, ErrNothing) || errors.Is(err, ErrLost) }

// Thaw has the holder of a state directory let the writers go, and returns when
// they have, with what there is to tell. [Answer].State says whether they were held
// until now. The error may be ErrNothing, ErrLost or ErrSilent.
func Thaw(ctx context.Context, stateDir string) (Answer, error) { return ask(ctx, stateDir, opThaw) }

// Status asks what is held.
func Status(ctx context.Context, stateDir string) (Answer, error) {
	return ask(ctx, stateDir, opStatus)
}

// ask asks the holder or, if it has left because the lease was over, the file that
// says so. Who thaws is told that once.
func ask(ctx context.Context, stateDir string, o op) (Answer, error) {
	a, err := askHolder(ctx, stateDir, o)
	if !gone(err) {
		return a, err
	}
	over, ok := readOver(stateDir)
	if !ok {
		return a, err
	}
	if o != opStatus {
		if err := removeOver(stateDir); err != nil {
			return a, err
		}
	}
	return over, nil
}

func askHolder(ctx context.Context, stateDir string, o op) (Answer, error) {
	var a Answer
	conn, err := dial(ctx, stateDir)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	pid, err := checkPeer(conn)
	if err != nil {
		return a, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(silence))
	if err := writeMessage(conn, request{o}); err != nil {
		return a, lost(ctx, pid, err)
	}
	in := bufio.NewReader(conn)
	for a.State = working; a.State == working; {
		conn.SetDeadline(time.Now().Add(silence))
		a = Answer{}
		if err := readMessage(in, maxMessage, &a); err != nil {
			return a, lost(ctx, pid, err)
		}
	}
	if a.Refusal != "" {
		return a, fmt.Errorf("the process that holds the writers refuses to %s: %s", o, a.Refusal)
	}
	if o == opThaw {
		conn.SetReadDeadline(time.Now().Add(lockTime))
		_, _ = in.ReadByte() // its end
	}
	return a, nil
}

// lost explains the end of a conversation with a process.
func lost(ctx context.Context, pid int, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: process %d has given no sign of life for %v and is stopped or hangs; what it holds is let go when the lease is over, at the latest %v after the freeze, or at once if it is killed (kill -KILL %d)",
			ErrSilent, pid, silence, MaxLease, pid)
	}
	return fmt.Errorf("%w (%w)", ErrLost, err)
}
