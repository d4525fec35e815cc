package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
)

// booted is a host run by systemd, in namespaces of its own: it has its own
// processes, control groups, /run and /tmp, and of the rest it can write to its
// directory alone. Ending it, with SIGKILL, and starting it again is a restart of
// the host without warning.
type booted struct {
	t   *testing.T
	dir string // seen at the same path inside
	cmd *exec.Cmd
	end io.Closer // ends it when closed, as the end of this process does
	pid int       // of systemd, as seen from here
}

// boot brings the host up, as PID 1 of a new namespace. All that is mounted below
// the directory stays as it is.
const boot = `set -e
dir=$1
mount --make-rprivate /
mount --rbind "$dir" "$dir"
mount -o remount,bind,ro /
for d in /run /tmp /var/log /var/lib/systemd; do mount -t tmpfs tmpfs $d; done
mkdir -p /run/systemd
mount --bind "$dir/units" /etc/systemd/system
mount --bind "$dir/fstab" /etc/fstab
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
while umount -l /sys/fs/cgroup 2>/dev/null; do :; done
mount -o remount,bind,ro /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToWall=no\n' >/run/systemd/journald.conf.d/e2e.conf
exec env -i container=sombra-e2e PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=e2e.target --log-target=null --show-status=0 --dump-core=0 --crash-reboot=0
`

// unshared runs it, in namespaces, until its standard input ends.
const unshared = `unshare -pfmC --kill-child --mount-proc sh -c "$0" sh "$1" </dev/null &
echo $! >"$1/unshare.pid"
cat >/dev/null
kill -9 $!
wait $!`

// newBooted makes a host that is not started yet; units are by name.
func newBooted(t *testing.T, dir string, units map[string]string) *booted {
	t.Helper()
	if os.Geteuid() != 0 {
		voltest.Skip(t, "a host of its own needs root")
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		voltest.Skip(t, "systemd is not installed: %v", err)
	}
	h := &booted{t: t, dir: dir}
	for _, d := range []string{"units", "bin"} {
		h.must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	write(t, filepath.Join(dir, "fstab"), "")
	h.mask()
	var wants []string
	for name, text := range units {
		write(t, filepath.Join(dir, "units", name), text)
		wants = append(wants, name)
	}
	slices.Sort(wants)
	h.unit("e2e.target", "[Unit]\nRequires=basic.target\nAfter=basic.target\nWants="+strings.Join(wants, " ")+"\n")
	h.copy(program, "sombra")
	h.copy("/proc/self/exe", "test")
	t.Cleanup(func() {
		if h.cmd != nil {
			h.crash()
		}
	})
	return h
}

// mask keeps all of the host's own units from being started, but the journal: some
// would write to what is shared with the real host.
func (h *booted) mask() {
	h.t.Helper()
	for _, target := range []string{"sysinit", "local-fs", "local-fs-pre", "basic", "sockets", "timers", "paths", "remote-fs", "multi-user"} {
		entries, _ := os.ReadDir("/lib/systemd/system/" + target + ".target.wants")
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), "systemd-journald") {
				h.must(ignoreExist(os.Symlink("/dev/null", filepath.Join(h.dir, "units", e.Name()))))
			}
		}
	}
	for _, name := range []string{"systemd-remount-fs.service", "systemd-fsck-root.service", "dbus.socket", "dbus.service", "systemd-logind.service", "swap.target", "tmp.mount"} {
		h.must(ignoreExist(os.Symlink("/dev/null", filepath.Join(h.dir, "units", name))))
	}
}

func ignoreExist(err error) error {
	if os.IsExist(err) {
		return nil
	}
	return err
}

// on is the same host, for a subtest.
func (h *booted) on(t *testing.T) *booted {
	on := *h
	on.t = t
	return &on
}

func (h *booted) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *booted) unit(name, text string) {
	h.t.Helper()
	write(h.t, filepath.Join(h.dir, "units", name), text)
}

// copy puts a program where it outlives a restart.
func (h *booted) copy(from, name string) {
	h.t.Helper()
	data, err := os.ReadFile(from)
	h.must(err)
	h.must(os.WriteFile(h.bin(name), data, 0o755))
}

func (h *booted) bin(name string) string { return filepath.Join(h.dir, "bin", name) }

// launch starts the host.
func (h *booted) launch(said *os.File) {
	h.t.Helper()
	h.must(ignoreMissing(os.Remove(filepath.Join(h.dir, "unshare.pid"))))
	h.cmd = exec.Command("sh", "-c", unshared, boot, h.dir)
	h.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	h.cmd.Stdout, h.cmd.Stderr = said, said
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var err error
	h.end, err = h.cmd.StdinPipe()
	h.must(err)
	h.pid = 0
	h.must(h.cmd.Start())
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// findPID finds out which process the host's first one is, if there is one yet.
func (h *booted) findPID() bool {
	text, _ := os.ReadFile(filepath.Join(h.dir, "unshare.pid"))
	above := strings.TrimSpace(string(text))
	data, _ := os.ReadFile("/proc/" + above + "/task/" + above + "/children")
	h.pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
	return h.pid > 0
}

// start starts the host and waits until it is up.
func (h *booted) start() {
	h.t.Helper()
	said, err := os.CreateTemp(h.dir, "boot-")
	h.must(err)
	defer said.Close()
	h.launch(said)
	last := ""
	for deadline := time.Now().Add(longest); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if h.pid == 0 && !h.findPID() {
			continue
		}
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", h.pid)); strings.TrimSpace(string(comm)) != "systemd" {
			continue
		}
		out, _ := h.command("systemctl", "is-system-running").Output()
		if last = strings.TrimSpace(string(out)); last == "running" || last == "degraded" {
			return
		}
	}
	text, _ := os.ReadFile(said.Name())
	h.t.Fatalf("the host is not up (%q): %s", last, text)
}

// crash ends all processes of the host at once.
func (h *booted) crash() {
	h.t.Helper()
	h.end.Close() // unshare is killed, with it the namespace's first process, and with that all
	h.cmd.Wait()
	h.cmd = nil
	// The first process of a namespace ends when all others have; who reaps it
	// may take his time.
	waitFor(h.t, longest, "the end of the host's processes", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid))
		_, rest, _ := strings.Cut(string(stat), ") ")
		return h.pid == 0 || err != nil || strings.HasPrefix(rest, "Z")
	})
}

func (h *booted) restart() {
	h.t.Helper()
	h.crash()
	h.start()
}

// command runs in the host.
func (h *booted) command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(h.pid), "-m", "-p", "-C", "--wd=/", "--"}, args...)...)
	config := filepath.Join(h.dir, "sombra.yaml")
	if _, err := os.Stat(config); err != nil {
		config = os.DevNull
	}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + h.dir, "SOMBRA_CONFIG=" + config, "SOMBRA_STATE_DIR=" + h.state(),
		"SOMBRA_REPOSITORY=" + filepath.Join(h.dir, "repository"), "SOMBRA_PASSWORD=e2e"}
	return cmd
}

func (h *booted) state() string { return filepath.Join(h.dir, "state") }

// run runs in the host and gives what it printed and its exit code.
func (h *booted) run(args ...string) (out string, code int) {
	h.t.Helper()
	var b bytes.Buffer
	cmd := h.command(args...)
	cmd.Stdout, cmd.Stderr = &b, &b
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return b.String(), cmd.ProcessState.ExitCode()
}

// sombra runs the program in the host.
func (h *booted) sombra(want int, args ...string) string {
	h.t.Helper()
	out, code := h.run(append([]string{h.bin("sombra")}, args...)...)
	if code != want {
		h.t.Fatalf("sombra %s: exit code %d, want %d\n%s", strings.Join(args, " "), code, want, out)
	}
	return out
}

// target runs this test program in the host, in its role of a session's target.
func (h *booted) target(args ...string) *outcome {
	h.t.Helper()
	var out, said bytes.Buffer
	cmd := h.command(append([]string{h.bin("test"), "test-target", h.bin("sombra"), h.state()}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return &outcome{t: h.t, args: args, code: cmd.ProcessState.ExitCode(), out: out.String(), err: said.String()}
}

// state of a unit, as systemctl shows it.
func (h *booted) active(unit string) string {
	h.t.Helper()
	out, _ := h.run("systemctl", "is-active", unit)
	return strings.TrimSpace(out)
}

// journal is what units wrote since the host started.
func (h *booted) journal(unit string) string {
	h.t.Helper()
	out, _ := h.run("journalctl", "--no-pager", "--output=cat", "-u", unit)
	return out
}

// data is a file of the host.
func (h *booted) data(name string) string { return filepath.Join(h.dir, "data", name) }

func (h *booted) reads(name, want string) {
	h.t.Helper()
	got, err := os.ReadFile(h.data(name))
	if err != nil || string(got) != want {
		h.t.Errorf("%s reads %q, %v, want %q", name, got, err, want)
	}
}

// lines are those of a file of the host.
func (h *booted) lines(name string) []string {
	data, _ := os.ReadFile(h.data(name))
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// service is a unit that writes to a log what its data file reads, at its start
// and its end.
func service(dir, name, more string) string {
	log, data := filepath.Join(dir, "data", "log"), filepath.Join(dir, "data", name+".db")
	return "[Service]\nType=exec\nExecStartPre=/bin/sh -c 'echo start " + name + " $(cat " + data + ") >>" + log + "'\n" +
		"ExecStart=/bin/sleep infinity\nExecStopPost=/bin/sh -c 'echo stop " + name + " $(cat " + data + ") >>" + log + "'\n" + more
}
