package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestServicesAreUnitsOfSystemd (R-RES-7, R-RES-36): with a real systemd, each
// state a service can be in, and each way to fail.
func TestServicesAreUnitsOfSystemd(t *testing.T) {
	dir := scratch(t)
	units := map[string]string{
		"app.service":       service(dir, "app", ""),
		"dependent.service": "[Unit]\nRequires=app.service\nAfter=app.service\n" + service(dir, "dependent", ""),
		"other.service":     service(dir, "other", ""),
		"broken.service":    "[Service]\nType=simple\nExecStart=/bin/sh -c 'echo no such table >&2; exit 7'\n",
		"fails.service":     "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo disk on fire; exit 3'\n",
		"listen.socket":     "[Socket]\nListenStream=/run/listen\n",
		"slow.service":      "[Service]\nType=exec\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\nTimeoutStopSec=120\n",
		"stays.service":     "[Service]\nType=exec\nExecStart=/bin/sh -c 'sleep 1000 & exec sleep 1001'\nKillMode=process\n",
		"once.service":      "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
	}
	h := newBooted(t, dir, units)
	h.unit("stopped.service", service(dir, "stopped", ""))
	h.unit("listen.service", "[Service]\nType=exec\nExecStart=/bin/sleep infinity\n")
	h.must(os.Symlink("/dev/null", filepath.Join(dir, "units", "hidden.service")))
	h.unit("tpl@.service", service(dir, "tpl", ""))
	h.unit("real.service", service(dir, "real", "[Install]\nAlias=also.service\n"))
	h.must(os.Symlink("real.service", filepath.Join(dir, "units", "also.service")))
	for _, n := range []string{"app", "dependent", "other", "stopped", "tpl", "real"} {
		write(t, h.data(n+".db"), n)
	}
	h.start()

	t.Run("states", func(t *testing.T) {
		h := h.on(t)
		for name, want := range map[string]string{
			"app": "app.service running dependent.service", "stopped.service": "stopped.service stopped", "hidden": "hidden.service masked",
			"fails": "fails.service failed", "listen": "listen.service waiting listen.socket", "once": "once.service running",
			"tpl@x": "tpl@x.service stopped", "also": "real.service stopped",
		} {
			if o := h.target("look", name).exits(0); strings.TrimSpace(o.out) != want {
				t.Errorf("%s: %q, want %q", name, strings.TrimSpace(o.out), want)
			}
		}
		h.target("look", "absent").exits(1).says("VSS_E_OBJECT_NOT_FOUND", "no such service")
		h.target("stop", "absent").exits(1).says("VSS_E_OBJECT_NOT_FOUND")
		h.target("start", "hidden").exits(1).says("masked")
		h.target("look", "poweroff.target").exits(1).says("only services")
		h.target("stop", "--help").exits(1).says("not the name of a service")
		h.target("stop", "systemd-journald").exits(1).says("of the system itself")
	})

	t.Run("stop and start", func(t *testing.T) {
		h := h.on(t)
		o := h.target("stop", "app", "look", "app", "look", "dependent", "start", "app", "look", "app").exits(0)
		want := "app.service running dependent.service\napp.service stopped \ndependent.service stopped \napp.service running dependent.service\n"
		if o.out != want {
			t.Errorf("%q, want %q", o.out, want)
		}
		lines := h.lines("log")
		for _, pair := range [][2]string{{"stop dependent", "stop app"}, {"stop app", "start app"}} {
			first := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, pair[0]) })
			last := len(lines) - 1
			for ; last >= 0 && !strings.HasPrefix(lines[last], pair[1]); last-- {
			}
			if first < 0 || last < first {
				t.Errorf("%q does not come before %q: %q", pair[0], pair[1], lines)
			}
		}
		if got := h.active("other"); got != "active" {
			t.Errorf("another service is %s", got)
		}
	})

	t.Run("what did not run stays so", func(t *testing.T) {
		h := h.on(t)
		o := h.target("stop", "stopped", "look", "stopped").exits(0)
		if o.out != "stopped.service stopped \nstopped.service stopped \n" {
			t.Errorf("%q", o.out)
		}
	})

	t.Run("socket", func(t *testing.T) {
		h := h.on(t)
		h.target("stop", "listen").exits(0).says("waiting")
		if got := h.active("listen.socket"); got != "inactive" {
			t.Errorf("the socket is %s, and would start the service in the middle of a restore", got)
		}
		h.target("start", "listen.service").exits(0)
		h.target("stop", "listen", "start", "listen").exits(0)
		if got := h.active("listen.service"); got != "active" {
			t.Errorf("the service is %s", got)
		}
	})

	t.Run("failed to start", func(t *testing.T) {
		h := h.on(t)
		h.target("start", "broken").exits(1).says("broken.service did not start", "status 7", "no such table")
		h.target("start", "fails").exits(1).says("fails.service did not start", "status 3", "disk on fire")
	})

	t.Run("bounded", func(t *testing.T) {
		h := h.on(t)
		h.target("stop", "slow").exits(1).says("has not ended within 2s")
	})

	t.Run("processes that stay", func(t *testing.T) {
		h := h.on(t)
		h.target("stop", "stays").exits(1).says("still run after its stop")
	})

	t.Run("not to be started again", func(t *testing.T) {
		h := h.on(t)
		h.must(os.Remove(filepath.Join(dir, "units", "other.service")))
		h.run("systemctl", "daemon-reload")
		h.target("stop", "other").exits(1).says("could not be started again", "no unit file")
		if got := h.active("other"); got != "active" {
			t.Errorf("it is %s", got)
		}
	})
}

// TestARestoreDoesNotStopWhatItRunsIn.
func TestARestoreDoesNotStopWhatItRunsIn(t *testing.T) {
	dir := scratch(t)
	h := newBooted(t, dir, nil)
	h.unit("own.service", "[Service]\nType=oneshot\nExecStart="+h.bin("test")+" test-target "+h.bin("sombra")+" "+h.state()+" stop own\n")
	h.start()
	h.run("systemctl", "start", "own")
	if said := h.journal("own"); !strings.Contains(said, "this program runs in own.service") {
		t.Errorf("it says %q", said)
	}
}
