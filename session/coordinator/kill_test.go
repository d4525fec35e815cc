package coordinator_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// backupProcess runs a backup in a process of its own, which the tests kill: its
// arguments are the state directory, the data directory, the marker of a frozen
// writer, and the step to stop at, which it reports and where it waits.
func backupProcess(args []string) int {
	state, dir, marker, stopAt := args[0], args[1], args[2], args[3]
	o := options(state)
	o.Limits = session.Limits{Hold: 20 * time.Second}
	config, _ := json.Marshal(scriptConfig{Dir: dir, Marker: marker})
	o.Options.Writers = []session.WriterConfig{{Kind: "script", Name: "killed", Config: config}}
	wait := func(at string) {
		if at == stopAt {
			fmt.Println("at", at, os.Getpid())
			select {}
		}
	}
	o.Providers = []provider.Provider{&waiting{providers()[2], wait}}
	s, err := openErr(o)
	if err == nil {
		err = configuredBackup(s, dir, wait)
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("done")
	return 0
}

// waiting is a real provider that waits at its steps.
type waiting struct {
	provider.Provider
	wait func(string)
}

func (w *waiting) BeginPrepare(ctx context.Context, r provider.Request) (provider.Snapshot, error) {
	s, err := w.Provider.BeginPrepare(ctx, r)
	return &waitingSnapshot{s, w}, err
}

type waitingSnapshot struct {
	provider.Snapshot
	w *waiting
}

func (s *waitingSnapshot) EndPrepare(ctx context.Context) error {
	err := s.Snapshot.EndPrepare(ctx)
	s.w.wait("EndPrepare")
	return err
}

func (s *waitingSnapshot) Commit(ctx context.Context) error {
	s.w.wait("Freeze")
	err := s.Snapshot.Commit(ctx)
	s.w.wait("Commit")
	return err
}

func (s *waitingSnapshot) PostCommit(ctx context.Context) (provider.Copied, error) {
	c, err := s.Snapshot.PostCommit(ctx)
	s.w.wait("PostCommit")
	return c, err
}

// configuredBackup takes a backup of the one configured writer.
func configuredBackup(s session.Session, dir string, wait func(string)) error {
	c := context.Background()
	if err := errors.Join(s.InitializeForBackup(c, nil),
		s.SetBackupState(c, session.BackupState{SelectComponents: true, Type: vss.BackupTypeFull}),
		s.GatherWriterMetadata(c, nil)); err != nil {
		return err
	}
	list, err := s.WriterMetadata(c)
	if err != nil || len(list) != 1 {
		return fmt.Errorf("%d writers, error %v", len(list), err)
	}
	comp := session.Component{Instance: list[0].Instance, Writer: scriptClass, Type: vss.ComponentTypeFileGroup, Name: "data"}
	if err := s.AddComponent(c, comp); err != nil {
		return err
	}
	if _, err := s.StartSnapshotSet(c); err != nil {
		return err
	}
	wait("StartSnapshotSet")
	loc, err := s.ResolvePath(c, dir)
	if err != nil {
		return err
	}
	if _, err := s.AddToSnapshotSet(c, loc.Volume, vss.GUID{}, session.Scope{Claims: []provider.Claim{{
		Writer: list[0].Instance.String(), Files: []provider.FileSet{{Dir: loc.Name, Pattern: "*", Recursive: true}}}}}); err != nil {
		return err
	}
	wait("AddToSnapshotSet")
	if err := s.PrepareForBackup(c, nil); err != nil {
		return err
	}
	wait("PrepareForBackup")
	if err := s.DoSnapshotSet(c, nil); err != nil {
		return err
	}
	wait("DoSnapshotSet")
	if err := s.SetBackupSucceeded(c, comp, true); err != nil {
		return err
	}
	wait("SetBackupSucceeded")
	err = s.BackupComplete(c, nil)
	wait("BackupComplete")
	return err
}

// killSteps is where processes are killed: at each step from StartSnapshotSet to
// BackupComplete.
var killSteps = []string{"StartSnapshotSet", "AddToSnapshotSet", "PrepareForBackup", "EndPrepare", "Freeze", "Commit", "PostCommit",
	"DoSnapshotSet", "SetBackupSucceeded", "BackupComplete"}

// TestKilledRunLeavesNothing: SIGKILL of the run at any step, also together with
// its writer host, lets the application go within a second (a writer whose hold
// outlives it is undone by a new one), no shadow copy is left, and the next
// backup succeeds.
func TestKilledRunLeavesNothing(t *testing.T) {
	for _, step := range killSteps {
		for _, victims := range []string{"run", "run and host", "keeper", "host"} {
			if step == "StartSnapshotSet" && victims == "keeper" {
				continue // it is started for the first volume
			}
			t.Run(step+"/"+victims, func(t *testing.T) { killed(t, step, victims) })
		}
	}
}

func killed(t *testing.T, step, victims string) {
	dir, state := scratch(t), filepath.Join(scratch(t), "state")
	marker := filepath.Join(scratch(t), "frozen")
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "test-backup", state, dir, marker, step)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "at ") {
		t.Fatalf("the run said %q, %v", line, err)
	}
	kids := children(t, cmd.Process.Pid)
	kill := func(pid int) {
		if pid == 0 {
			t.Fatalf("no process to kill for %q", victims)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	switch victims {
	case "run":
		kill(cmd.Process.Pid)
	case "run and host":
		kill(kids["test-host"])
		kill(cmd.Process.Pid)
	case "keeper":
		kill(kids["test-keeper"])
		kill(cmd.Process.Pid) // it waits for ever: the test ends it
	case "host":
		kill(kids["test-host"])
		time.Sleep(20 * time.Millisecond)
		kill(cmd.Process.Pid)
	}
	// A hold that ends with its process ends at once; this writer's outlives it,
	// and where its host is dead too the keeper must start another.
	// The promise is a second; the machine may be busy with other tests.
	limit := 3 * time.Second
	if strings.Contains(victims, "host") {
		limit = 10 * time.Second
	}
	cmd.Wait()
	within(t, limit, "the application is let go", func() bool {
		_, err := os.Lstat(marker)
		return errors.Is(err, os.ErrNotExist)
	})
	if victims != "keeper" {
		within(t, 10*time.Second, "nothing of the set is left", func() bool { return len(left(state, dir)) == 0 })
	}
	// The next run works, and removes what was left.
	again := exec.Command(os.Args[0], "test-backup", state, dir, marker, "")
	again.Stderr = os.Stderr
	text, err := again.Output()
	if err != nil || strings.TrimSpace(string(text)) != "done" {
		t.Errorf("the next backup: %v, %q", err, text)
	}
	if l := left(state, dir); len(l) > 0 {
		t.Errorf("left after the next backup: %v", l)
	}
}

// left is the files of shadow copies of dir, and of the journal.
func left(state, dir string) (list []string) {
	for _, place := range []string{filepath.Join(state, "journal"), filepath.Join(state, "shadow"), "/.sombra"} {
		filepath.WalkDir(place, func(p string, d os.DirEntry, err error) error {
			ours := !strings.HasPrefix(p, "/.sombra") || strings.Contains(p, filepath.Base(dir))
			if err == nil && !d.IsDir() && ours {
				list = append(list, p)
			}
			return nil
		})
	}
	return list
}

func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	if !ok() {
		t.Errorf("not within %v: %s", limit, what)
	}
}

// children finds a process's children by their first argument.
func children(t *testing.T, parent int) map[string]int {
	t.Helper()
	found := map[string]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		if args := strings.Split(string(cmdline), "\x00"); len(args) > 1 {
			found[args[1]] = pid
		}
	}
	return found
}
