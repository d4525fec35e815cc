// Command sombra makes application-consistent backups by the Volume Shadow Copy
// model, and restores them. See README.md, or "sombra help".
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sombra-backup/sombra/session/coordinator"
	"github.com/sombra-backup/sombra/session/coordinator/hold"
	"github.com/sombra-backup/sombra/session/coordinator/host"
)

// version is set by the build.
var version = "unknown"

// The hidden arguments with which the program starts itself again.
const (
	keeperArg = "__keeper"
	hostArg   = "__writer-host"
)

func main() {
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case keeperArg:
			os.Exit(keeperMain())
		case hostArg:
			os.Exit(host.Main(context.Background(), kinds()))
		}
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// keeperMain is the process that lets go of everything if a run dies.
func keeperMain() int {
	conn, err := hold.Inherited()
	if err == nil {
		err = hold.KeeperMain(context.Background(), conn, coordinator.KeeperHandlers(providers()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sombra: keeper:", err)
		return exitFailed
	}
	return exitOK
}

// run runs one command line and returns its exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := interruptible()
	defer stop()
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	code := exitCode(ctx, err)
	a.reportError(cmd.CommandPath(), code, err)
	return code
}

// interruptible gives a context that ends at the first interrupt. What a run
// holds is then let go in order; a second interrupt ends the process at once,
// and the keeper lets go instead.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-ch; !ok {
			return
		}
		cancel(errInterrupted)
		if _, ok := <-ch; ok {
			os.Exit(exitInterrupted)
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(ch)
		cancel(nil)
	}
}

var errInterrupted = errors.New("interrupted")
