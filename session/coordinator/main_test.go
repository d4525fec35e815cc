package coordinator_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/btrfs"
	"github.com/sombra-backup/sombra/provider/providers/precopy"
	"github.com/sombra-backup/sombra/provider/providers/reflink"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator"
	"github.com/sombra-backup/sombra/session/coordinator/hold"
	"github.com/sombra-backup/sombra/session/coordinator/host"
	"github.com/sombra-backup/sombra/session/pipe"
	"github.com/sombra-backup/sombra/session/sessiontest"
	"github.com/sombra-backup/sombra/writer"
)

// kinds and providers are what the test program is made of, in all its
// processes.
var kinds = []writer.Kind{scriptKind{}}

func providers() []provider.Provider {
	return []provider.Provider{btrfs.New(), reflink.New(), precopy.New()}
}

// TestMain makes the test program its own keeper and writer host.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "test-keeper":
			conn, err := hold.Inherited()
			if err == nil {
				err = hold.KeeperMain(context.Background(), conn, coordinator.KeeperHandlers(providers()))
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "keeper:", err)
				os.Exit(1)
			}
			os.Exit(0)
		case "test-host":
			os.Exit(host.Main(context.Background(), kinds))
		case "test-backup":
			os.Exit(backupProcess(os.Args[2:]))
		case "test-app":
			os.Exit(appProcess(os.Args[2:]))
		case "test-tracer":
			if err := tracerProcess(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, "tracer:", err)
				os.Exit(1)
			}
		case "test-writer":
			os.Exit(writerProcess(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// options are those of a coordinator in tests.
func options(stateDir string) coordinator.Options {
	return coordinator.Options{
		StateDir: stateDir, Kinds: kinds, Providers: providers(),
		KeeperArgs: []string{"test-keeper"}, HostArgs: []string{"test-host"},
	}
}

// scratch is a directory on a real file system, not on tmpfs.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "sombra-coordinator-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func open(t *testing.T, o coordinator.Options) session.Session {
	t.Helper()
	s, err := openErr(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openErr(o coordinator.Options) (session.Session, error) {
	return coordinator.Open(context.Background(), o)
}

func harness(wrap func(*testing.T, session.Session) session.Session) sessiontest.Harness {
	return sessiontest.Harness{
		Dir: scratch,
		Open: func(t *testing.T, o sessiontest.Options) session.Session {
			if o.State == "" {
				o.State = filepath.Join(scratch(t), "state")
			}
			opts := options(o.State)
			opts.Options = o.Options
			for _, w := range o.Writers {
				opts.InProcess = append(opts.InProcess, w)
			}
			return wrap(t, open(t, opts))
		},
	}
}

func direct(_ *testing.T, s session.Session) session.Session { return s }

func throughPipe(t *testing.T, s session.Session) session.Session {
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- pipe.Serve(context.Background(), far, s) }()
	t.Cleanup(func() {
		near.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return pipe.Connect(near)
}

func TestSession(t *testing.T) { sessiontest.Run(t, harness(direct)) }

// TestChangedRangesOfKeptCopies: on file systems whose copies can be compared,
// directly and with every call serialised.
func TestChangedRangesOfKeptCopies(t *testing.T) {
	for _, fs := range []string{"btrfs", "xfs"} {
		for name, wrap := range map[string]func(*testing.T, session.Session) session.Session{"direct": direct, "pipe": throughPipe} {
			t.Run(fs+" "+name, func(t *testing.T) {
				v := voltest.Make(t, fs, 400<<20)
				h := harness(wrap)
				h.Dir = func(*testing.T) string { return v.Root }
				sessiontest.ChangedRanges(t, h)
			})
		}
	}
}

// TestSessionThroughPipe runs the same suite with every call serialised.
func TestSessionThroughPipe(t *testing.T) { sessiontest.Run(t, harness(throughPipe)) }
