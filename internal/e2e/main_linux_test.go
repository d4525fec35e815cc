package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/ledger"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/btrfs"
	"github.com/sombra-backup/sombra/provider/providers/precopy"
	"github.com/sombra-backup/sombra/provider/providers/reflink"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator"
	"github.com/sombra-backup/sombra/session/coordinator/hold"
	"github.com/sombra-backup/sombra/session/coordinator/host"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/mariadb"
	"github.com/sombra-backup/sombra/writer/writers/postgres"
	"github.com/sombra-backup/sombra/writer/writers/redis"
	"github.com/sombra-backup/sombra/writer/writers/sqlite"
	"github.com/sombra-backup/sombra/writer/writers/systemd"
	"github.com/sombra-backup/sombra/writer/writers/testwriter"
)

func kinds() []writer.Kind {
	return []writer.Kind{sqlite.Kind{}, postgres.Kind{}, mariadb.Kind{}, redis.Kind{}, testwriter.Kind{}}
}

func providers() []provider.Provider {
	return []provider.Provider{btrfs.New(), reflink.New(), precopy.New()}
}

// program is the built command, for tests that use it as people do.
var program string

// programVariable names the built command, if there is one already.
const programVariable = "SOMBRA_E2E_PROGRAM"

// TestMain makes the test program its own keeper, writer host and client, and
// builds the command.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "test-keeper":
			conn, err := hold.Inherited()
			if err == nil {
				err = hold.KeeperMain(context.Background(), conn, coordinator.KeeperHandlers(providers()))
			}
			exit(err)
		case "test-host":
			os.Exit(host.Main(context.Background(), kinds()))
		case "test-ledger":
			exit(ledger.Main(context.Background(), os.Args[2:]))
		case "test-dirt":
			exit(dirtClient(os.Args[2:]))
		case "test-load":
			exit(loadClient(os.Args[2:]))
		case "test-late":
			exit(lateClient(os.Args[2:]))
		case "test-swap":
			exit(swapClient(os.Args[2:]))
		case "test-target":
			exit(targetClient(os.Args[2:]))
		case "test-init":
			exit(worldInit(os.Args[2:]))
		case "test-app":
			exit(appClient(os.Args[2:]))
		case "test-gate":
			exit(gateClient(os.Args[2:]))
		case "test-counter":
			exit(counterService(os.Args[2:]))
		case "test-unit-suite":
			os.Exit(unitSuite(m, os.Args[2:]))
		case "test-unit-host":
			os.Exit(host.Main(context.Background(), []writer.Kind{systemd.Kind{}}))
		case "test-read":
			exit(readClient(os.Args[2:]))
		}
	}
	if program = os.Getenv(programVariable); program != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "sombra-e2e-")
	if err != nil {
		exit(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // other users run it, too
		exit(err)
	}
	program = filepath.Join(dir, "sombra")
	build := exec.Command("go", "build", "-o", program, "github.com/sombra-backup/sombra/cmd/sombra")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		exit(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// rounds is how many rounds a count of n means here: all of them in torture, a
// tenth otherwise, but never under five.
func rounds(n int) int {
	if os.Getenv("SOMBRA_TORTURE") != "" {
		return n
	}
	return max(n/10, 5)
}

// someRounds is rounds, but at most as many as given where they are not all run,
// of which it says how many there are.
func someRounds(t *testing.T, n, most int) int {
	t.Helper()
	got := rounds(n)
	if got < n {
		got = min(got, most)
		t.Logf("%d rounds of %d; all in torture (SOMBRA_TORTURE=1)", got, n)
	}
	return got
}

// onlyInTorture skips a test that the usual run has no time for, and says so.
func onlyInTorture(t *testing.T) {
	t.Helper()
	if os.Getenv("SOMBRA_TORTURE") == "" {
		t.Skip("not run this time: runs in torture (SOMBRA_TORTURE=1)")
	}
}

// rig is a repository and a way to open sessions.
type rig struct {
	t     *testing.T
	state string
	repo  *repository.Repository
	// noFreeze is for controls.
	noFreeze bool
	// apart is how far apart the copies of a set are taken at most.
	apart   time.Duration
	limits  session.Limits
	writers []session.WriterConfig
	paths   []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigIn(t, mem.New())
}

// newRigIn is one with its repository in a store, which opens cheaply.
func newRigIn(t *testing.T, st store.Store) *rig {
	t.Helper()
	repo, err := repository.Create(context.Background(), st, []byte("e2e"),
		repository.Options{KDF: repository.KDF{Time: 1, Memory: 64, Threads: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { repo.Close() })
	state, err := os.MkdirTemp("/var/tmp", "sombra-e2e-state-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	return &rig{t: t, state: state, repo: repo}
}

func (r *rig) open(ctx context.Context) (session.Session, error) {
	by := providers()
	if r.apart > 0 {
		by = apartBy(r.apart, by)
	}
	return coordinator.Open(ctx, coordinator.Options{
		Options: session.Options{Paths: r.paths, Writers: r.writers, Limits: r.limits},
		Kinds:   kinds(), Providers: by, StateDir: r.state, NoFreeze: r.noFreeze,
		KeeperArgs: []string{"test-keeper"}, HostArgs: []string{"test-host"},
	})
}

// backup makes one and checks that it is complete.
func (r *rig) backup() *requester.Result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	res, err := requester.Backup(ctx, r.open, r.repo, requester.Request{Paths: r.paths}, nil)
	if err != nil {
		r.t.Fatalf("backup: %v", err)
	}
	if res.Outcome != requester.Complete {
		r.t.Fatalf("backup is %v: %+v %+v %v", res.Outcome, res.Failures, res.LeftOut, res.Warnings)
	}
	return res
}

// extract copies the files of a backup into a new directory.
func (r *rig) extract(res *requester.Result) string {
	r.t.Helper()
	dir, err := os.MkdirTemp(r.state, "extract-")
	if err != nil {
		r.t.Fatal(err)
	}
	x, err := requester.Extract(context.Background(), r.open, r.repo, res.Record, requester.ExtractRequest{Dir: dir}, nil)
	if err != nil || x.Outcome != requester.Complete {
		r.t.Fatalf("extract: %v, %v, %+v", x.Outcome, err, x.Failures)
	}
	return dir
}

// child starts this test program in a role of its own, and ends it with the test.
func child(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return childAs(t, nil, args...)
}

// childAs starts it as another user, who may not be able to reach its file.
func childAs(t *testing.T, user *syscall.Credential, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

func waitFor(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", limit, what)
}
