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
	"slices"
	"sync"
	"syscall"

	"github.com/sombra-backup/sombra/internal/heap"
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
		case holderArg:
			heap.SaveMemory()
			os.Exit(holderMain())
		}
	}
	heap.SaveMemory()
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
	out := &output{w: stdout}
	a := &app{stdin: stdin, stdout: out, stderr: stderr, getenv: os.Getenv}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = out.err
	}
	if err == nil {
		return exitOK
	}
	if !a.json {
		a.json = slices.Contains(args, "--json") // a flag before it may be wrong
	}
	code := exitCode(ctx, err)
	a.reportError(cmd.CommandPath(), code, err)
	return code
}

// output is standard output, which remembers its first error: a command whose
// result nobody got has failed.
type output struct {
	w   io.Writer
	mu  sync.Mutex
	err error
}

// Write writes, and after an error does nothing any more.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	if err != nil {
		o.err = fmt.Errorf("standard output: %w", err)
	}
	return n, o.err
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
