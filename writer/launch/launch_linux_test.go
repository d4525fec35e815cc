package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/writer"
)

// TestMain plays a writer host where it is told to: masked, limited, with
// descriptors that others wait for the end of.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_TIED") != "" {
		tied()
	}
	if len(os.Args) > 2 && os.Args[1] == "host" {
		if err := hostRole(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// lookAround is the program: it tells what it was given, and goes on.
const lookAround = `umask; ulimit -S -c; (cd /proc/$$/fd && printf '%s ' *); echo; readlink /proc/$$/fd/0; pwd; ` +
	`cut -d' ' -f6 /proc/$$/stat; echo $$; env | sort | tr '\n' ' '; echo; touch "$1/made"; echo end; exec sleep 60`

func hostRole(dir string) error {
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 0, Max: 4096}); err != nil {
		return err
	}
	// A descriptor without close-on-exec, as one that was inherited.
	if _, err := unix.Open("/dev/zero", unix.O_RDONLY, 0); err != nil {
		return err
	}
	os.Setenv("PGPASSWORD", "secret")
	p, err := Start(writer.Spec{}, Program{Path: "/bin/sh", Args: []string{"-c", lookAround, "sh", dir}, Log: filepath.Join(dir, "log")})
	if err != nil {
		return err
	}
	fmt.Println(p.PID())
	return nil
}

// TestProgramOutlivesItsStarterAndInheritsNothing: the starter ends at once, and
// who waits for the end of its output sees that.
func TestProgramOutlivesItsStarterAndInheritsNothing(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "host", dir)
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the starter ended with %v, or its output did not end", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGKILL)
	log := waitFor(t, filepath.Join(dir, "log"), "end\n")
	lines := strings.Split(log, "\n")
	want := []string{"0022", "0", "0 1 2 ", "/dev/null", "/", strconv.Itoa(pid), strconv.Itoa(pid)}
	for i, w := range want {
		if lines[i] != w {
			t.Errorf("line %d of what it saw is %q, want %q; all:\n%s", i, lines[i], w, log)
		}
	}
	if env := lines[len(want)]; strings.Contains(env, "PGPASSWORD") || !strings.Contains(env, "PATH=") {
		t.Errorf("its environment is %s", env)
	}
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid)); err != nil || !strings.Contains(string(limits), "4096                 bytes") {
		t.Errorf("the hard limit of the core size is not what it was: %s, %v", limits, err)
	}
	for name, mode := range map[string]os.FileMode{"made": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %v", name, info, err, mode)
		}
	}
	if err := unix.Kill(pid, 0); err != nil {
		t.Errorf("it does not run any more: %v", err)
	}
}

func waitFor(t *testing.T, file, end string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(file)
		if err == nil && strings.HasSuffix(string(b), end) {
			return string(b)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s holds %q, %v; want it to end in %q", file, b, err, end)
		}
	}
}

func TestTheEndOfAProgramIsSeen(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := Start(writer.Spec{}, Program{Path: "/bin/sh", Args: []string{"-c", "echo because >&2; exit 3"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("its end is not seen")
	}
	var exit *exec.ExitError
	if err := p.Err(); !errors.Is(err, ErrEnded) || !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("%v, want status 3", err)
	}
	waitFor(t, log, "because\n")
}

func TestWhatCannotBeStartedIsAnErrorAtOnce(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]Program{
		"not there":      {Path: filepath.Join(dir, "none")},
		"relative":       {Path: "sh"},
		"a directory":    {Path: dir},
		"not executable": {Path: plain},
		"log is a link":  {Path: "/bin/true", Log: link},
		"log is no file": {Path: "/bin/true", Log: "/dev/null"},
		"no directory":   {Path: "/bin/true", Dir: filepath.Join(dir, "none")},
		"zero byte":      {Path: "/bin/true", Args: []string{"a\x00b"}},
		"too much":       {Path: "/bin/true", Args: []string{strings.Repeat("x", maxBytes)}},
		"too many":       {Path: "/bin/true", Args: make([]string, maxWords+1)},
	} {
		if p, err := Start(writer.Spec{}, p); err == nil {
			t.Errorf("%s: it was started as process %d", name, p.PID())
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("the file that the link leads to was made")
	}
}
