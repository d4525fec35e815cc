package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// stopLimit is the longest a clean stop may take.
const stopLimit = time.Minute

// run waits for the postmaster in the background.
func (p *Postgres) run(cmd *exec.Cmd) {
	done := make(chan struct{})
	p.PID, p.done = cmd.Process.Pid, done
	go func() {
		p.err = cmd.Wait()
		close(done)
	}()
}

// await returns when the server answers.
func (p *Postgres) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, postgresStart)
	defer cancel()
	for {
		conn, err := p.Connect(ctx)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %v", p.err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// DSN gives what a client connects with, as a user to a database.
func (p *Postgres) DSN(role, database string) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", p.Socket, p.Port, role, database)
}

// Connect connects to the database postgres as its superuser.
func (p *Postgres) Connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, p.DSN(postgresUser, "postgres"))
}

// Exec runs statements as superuser in the database postgres, on a connection
// of their own.
func (p *Postgres) Exec(ctx context.Context, statements ...string) error {
	conn, err := p.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// Alive reports whether the postmaster runs.
func (p *Postgres) Alive() bool {
	if p.PID == 0 {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Processes lists the postmaster and all its children.
func (p *Postgres) Processes() ([]int, error) {
	if !p.Alive() {
		return nil, nil
	}
	children, err := childrenOf(p.PID)
	return append([]int{p.PID}, children...), err
}

// Stop stops the server cleanly (fast: open transactions are rolled back). It
// is no error if it has stopped already.
func (p *Postgres) Stop() error {
	if p.PID == 0 {
		return nil
	}
	if p.Alive() {
		if err := syscall.Kill(p.PID, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the server of %s: %w", p.Dir, err)
		}
	}
	select {
	case <-p.done:
	case <-time.After(stopLimit):
		return errors.Join(fmt.Errorf("the server of %s does not stop; it said:\n%s", p.Dir, p.Log()), p.Kill())
	}
	return p.ended()
}

// Kill ends all processes of the server with SIGKILL, as a loss of power would,
// and returns when they are gone.
func (p *Postgres) Kill() error {
	if p.PID == 0 {
		return nil
	}
	var err error
	if p.Alive() {
		err = killTree(p.PID)
	}
	<-p.done
	return errors.Join(err, p.ended())
}

func (p *Postgres) ended() error {
	p.PID = 0
	if p.watch == nil {
		return nil
	}
	err := p.watch.release()
	p.watch = nil
	return err
}

// Close stops the server and removes its socket and log. The data directory
// stays.
func (p *Postgres) Close() error {
	return errors.Join(p.Stop(), os.RemoveAll(p.Socket))
}

// Log gives the end of what the server has said.
func (p *Postgres) Log() string { return tail(p.log) }
