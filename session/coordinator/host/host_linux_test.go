package host

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

const nobody = 65534

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: this needs root")
	}
}

// identityOf starts a host and has it say what it is.
func identityOf(t *testing.T, o writer.Owner) identity {
	t.Helper()
	h := start(t, spec("mirror", "m", o, ""))
	var id identity
	if len(h.Errors()) != 1 || h.Errors()[0] == nil {
		t.Fatalf("errors %v, want one", h.Errors())
	}
	if err := json.Unmarshal([]byte(h.Errors()[0].Error()), &id); err != nil {
		t.Fatal(h.Errors()[0])
	}
	return id
}

func TestHostHasItsOwnersRightsAndNoOthers(t *testing.T) {
	needRoot(t)
	id := identityOf(t, writer.Owner{UID: nobody, GID: 12, Groups: []uint32{34, 12, 34}})
	if id.UID != nobody || id.GID != 12 || !slices.Equal(id.Groups, []int{12, 34}) {
		t.Errorf("uid %d, gid %d, groups %v; want %d, 12, [12 34]", id.UID, id.GID, id.Groups, nobody)
	}
	for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		if n, err := strconv.ParseUint(id.Status[name], 16, 64); err != nil || n != 0 {
			t.Errorf("%s: %s, want none", name, id.Status[name])
		}
	}
	confined(t, id)
}

func TestHostOfOneselfIsConfined(t *testing.T) {
	id := identityOf(t, me())
	if id.UID != os.Geteuid() || id.GID != os.Getegid() {
		t.Errorf("uid %d, gid %d; want our own", id.UID, id.GID)
	}
	confined(t, id)
}

// confined checks what holds for every host.
func confined(t *testing.T, id identity) {
	t.Helper()
	if id.Status["NoNewPrivs"] != "1" {
		t.Errorf("NoNewPrivs: %s, want 1", id.Status["NoNewPrivs"])
	}
	for _, name := range []string{"CapInh", "CapAmb"} {
		if n, err := strconv.ParseUint(id.Status[name], 16, 64); err != nil || n != 0 {
			t.Errorf("%s: %s, want none", name, id.Status[name])
		}
	}
	if id.Umask != 0o077 || id.Dir != "/" || id.Session != id.PID || id.Core != 0 {
		t.Errorf("umask %o, directory %s, session %d of process %d, core limit %d", id.Umask, id.Dir, id.Session, id.PID, id.Core)
	}
	if !id.Dies {
		t.Error("a command started in a host ignores SIGTERM")
	}
}

func TestHostGetsNoSecretsAndNoDescriptors(t *testing.T) {
	t.Setenv("SOMBRA_PASSWORD", "hunter2")
	t.Setenv("PGPASSWORD", "hunter2")
	t.Setenv("LC_ALL", "C.UTF-8")
	// One that a careless parent has left open across exec.
	f, err := os.Create(filepath.Join(t.TempDir(), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	id := identityOf(t, me())
	env := strings.Join(id.Env, "\n")
	if strings.Contains(env, "hunter2") || strings.Contains(env, "SOMBRA") {
		t.Errorf("environment %q", id.Env)
	}
	for _, want := range []string{"PATH=", "HOME=", "LC_ALL=C.UTF-8"} {
		if !strings.Contains(env, want) {
			t.Errorf("environment %q, want %s", id.Env, want)
		}
	}
	for fd, target := range id.Files {
		if target == f.Name() {
			t.Errorf("descriptor %s is %s", fd, target)
		}
	}
	if id.Files["0"] != "/dev/null" || id.Files["1"] != "/dev/null" {
		t.Errorf("standard input %s, standard output %s; want /dev/null", id.Files["0"], id.Files["1"])
	}
}

func TestHostOfAnotherUserNeedsRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		// Run again as somebody who is not.
		dir, err := os.MkdirTemp("", "host")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^("+t.Name()+
			"|TestHostOfOneselfIsConfined|TestHostGetsNoSecretsAndNoDescriptors|TestKilledHostLetsGo)$")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Count(string(out), "--- PASS") != 4 {
			t.Errorf("as an ordinary user: %v\n%s", err, out)
		}
		return
	}
	file := lockFile(t)
	h := start(t, spec("locks", "a", writer.Owner{}, file), spec("locks", "b", writer.Owner{}, file))
	if len(h.Writers()) != 0 || len(h.Errors()) != 2 || h.PID() != 0 {
		t.Errorf("%d writers, errors %v, process %d", len(h.Writers()), h.Errors(), h.PID())
	}
	for _, err := range h.Errors() {
		if err == nil || !strings.Contains(err.Error(), "only root") {
			t.Errorf("%v, want an error that says only root can", err)
		}
	}
	h.Kill()
	<-h.Done()
	if err := h.Err(); err != nil {
		t.Error(err)
	}
}

func TestEachSpecificationGetsItsAnswer(t *testing.T) {
	file := lockFile(t)
	found := spec("fickle", "found", me(), "not mine")
	found.Discovered = true
	specs := []writer.Spec{
		spec("fickle", "first", me(), file),
		found,
		spec("fickle", "named", me(), "not mine"),
		spec("fickle", "veto", me(), "veto"),
		spec("fickle", "panics", me(), "panic"),
		spec("fickle", "nil", me(), "nil"),
		spec("fickle", "absent", me(), file+".none"),
		spec("fickle", "last", me(), file),
	}
	h := start(t, specs...)
	var names []string
	for _, w := range h.Writers() {
		names = append(names, w.Spec.Name)
	}
	if !slices.Equal(names, []string{"first", "last"}) {
		t.Errorf("writers %v, want first and last", names)
	}
	for i, want := range []string{"", "", "not data of this kind", "come again", "panic: in New", "made none", "no such file", ""} {
		err := h.Errors()[i]
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", specs[i].Name, err, want)
		}
	}
	if err := h.Errors()[3]; !errors.Is(err, vss.ErrWriterErrorRetryable) {
		t.Errorf("%v does not carry its code", err)
	}
	// Each remote is the writer of its specification.
	e := event()
	if err := h.Writers()[1].Freeze(t.Context(), e); err != nil || !isLocked(t, file) {
		t.Errorf("Freeze: %v", err)
	}
	if err := h.Writers()[1].Thaw(t.Context(), e); err != nil || isLocked(t, file) {
		t.Errorf("Thaw: %v", err)
	}

	h = start(t, spec("none", "x", me(), ""))
	if err := h.Errors()[0]; err == nil || !strings.Contains(err.Error(), `no kind "none"`) {
		t.Errorf("%v, want an error that says there is no such kind", err)
	}
	select {
	case <-h.Done():
	case <-time.After(5 * within):
		t.Error("a host without writers does not end")
	}
}

func TestKilledHostLetsGo(t *testing.T) {
	file := lockFile(t)
	h := start(t, spec("locks", "w", me(), file))
	freeze(t, h, file)
	h.Kill()
	mustBeFree(t, file, "after the host was killed")
	select {
	case <-h.Done():
	case <-time.After(5 * within):
		t.Fatal("Done is not closed after the host was killed")
	}
	<-h.proc.Done()
	if err := h.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%v, want an error that says it was killed", err)
	}
	if err := h.Writers()[0].Thaw(t.Context(), event()); !errors.Is(err, vss.ErrWriterNotResponding) {
		t.Errorf("Thaw: %v, want %v", err, vss.ErrWriterNotResponding)
	}
	// Another takes its place and undoes what it did.
	again := start(t, h.Writers()[0].Spec)
	if err := again.Writers()[0].Abort(t.Context(), event()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file + ".aborted"); err != nil {
		t.Error("Abort did not reach the writer started again")
	}
	freeze(t, again, file)
}

func TestHostLetsGoWhenItsOwnerIsKilled(t *testing.T) {
	file := lockFile(t)
	cmd, pid := startOwner(t, file)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	mustBeFree(t, file, "after the owner was killed")
	for end := time.Now().Add(5 * within); unix.Kill(pid, 0) == nil; time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if strings.Contains(string(b), ") Z ") {
			break // waits for the first process, which takes its time here
		}
		if time.Now().After(end) {
			t.Fatalf("the host, process %d, goes on", pid)
		}
	}
	if _, err := os.Stat(file + ".aborted"); err != nil {
		t.Error("the writer got no Abort")
	}
}

func TestInterruptDoesNotReachAFrozenWriter(t *testing.T) {
	file := lockFile(t)
	cmd, pid := startOwner(t, file)
	// As the terminal does: to the whole foreground process group.
	if err := unix.Kill(-cmd.Process.Pid, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	// And as a service manager does: to each process.
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if err := unix.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if !isLocked(t, file) {
		t.Error("a signal ended the host while its writer was frozen")
	}
}

func TestHostThatIsNotReadyInTimeIsKilled(t *testing.T) {
	for what, o := range map[string]struct {
		arg, config, want string
	}{
		"New hangs":          {"host", "hang", "not ready within 500ms"},
		"it never answers":   {"silent", "hang", "not ready within 500ms"},
		"New ends the host":  {"host", "exit", "exit status 3"},
		"it is no such host": {"-test.run=^$", "", "writer host"},
	} {
		begun := time.Now()
		h, err := Start(t.Context(), Options{Args: []string{o.arg}, StartLimit: 500 * time.Millisecond},
			[]writer.Spec{spec("fickle", "w", me(), o.config)})
		if err == nil {
			_ = h.Close(t.Context())
			t.Fatalf("%s: it was started", what)
		}
		if !strings.Contains(err.Error(), o.want) || !errors.Is(err, vss.ErrWriterInfrastructure) {
			t.Errorf("%s: %v, want %q", what, err, o.want)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: it took %v", what, took)
		}
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("because")
	time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	_, err := Start(ctx, Options{Args: []string{"silent"}}, []writer.Spec{spec("fickle", "w", me(), "hang")})
	if !errors.Is(err, why) {
		t.Errorf("%v, want the cause of the context's end", err)
	}
}

func TestCloseLetsGoAndEndsTheHost(t *testing.T) {
	file := lockFile(t)
	h := start(t, spec("locks", "w", me(), file))
	freeze(t, h, file)
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustBeFree(t, file, "after Close")
	if _, err := os.Stat(file + ".aborted"); err != nil {
		t.Error("the frozen writer got no Abort")
	}
	if err := h.Err(); err != nil {
		t.Error(err)
	}
}

func TestHostThatDoesNotEndIsKilled(t *testing.T) {
	file := lockFile(t)
	h, err := Start(t.Context(), Options{Args: []string{"host"}, CloseLimit: 300 * time.Millisecond},
		[]writer.Spec{spec("locks", "hangs in Abort", me(), file)})
	if err != nil {
		t.Fatal(err)
	}
	freeze(t, h, file)
	if err := h.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%v, want an error that says it was killed", err)
	}
	mustBeFree(t, file, "after Close of a host that hangs")
}

func TestStartRefusesWhatCannotShareAHost(t *testing.T) {
	other := me()
	other.GID++
	for what, specs := range map[string][]writer.Spec{
		"nothing":    nil,
		"two kinds":  {spec("a", "", me(), ""), spec("b", "", me(), "")},
		"two owners": {spec("a", "", me(), ""), spec("a", "", other, "")},
	} {
		if _, err := Start(t.Context(), Options{Args: []string{"host"}}, specs); !errors.Is(err, vss.ErrInvalidArgument) {
			t.Errorf("%s: %v, want %v", what, err, vss.ErrInvalidArgument)
		}
	}
}

func TestHostIsNotStartedByHand(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", "host").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not by hand") {
		t.Errorf("%v: %s; want an error that says it is not started by hand", err, out)
	}
}
