package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAUnitAsItWas: what did not run is not started, what would start the unit
// meanwhile is held, too, its start limit does not keep it down, and a restore stops
// and starts it.
func TestAUnitAsItWas(t *testing.T) {
	h, _ := unitHost(t, "stop", "", "")
	t.Run("one that does not run is not started", func(t *testing.T) {
		h := h.on(t)
		h.run("systemctl", "stop", "app")
		log := len(h.lines("log"))
		h.sombra(0, "backup", "--component", "app.service")
		if got := h.active("app"); got != "inactive" || len(h.lines("log")) != log || h.notes() != "" {
			t.Errorf("the service is %s and saw %q; notes: %q", got, h.lines("log")[log:], h.notes())
		}
		h.run("systemctl", "start", "app")
		h.ticks()
	})
	t.Run("a socket that would start it is stopped and started with it", func(t *testing.T) {
		h := h.on(t)
		h.unit("app.socket", "[Socket]\nListenStream="+filepath.Join(h.dir, "app.sock")+"\n")
		h.run("systemctl", "daemon-reload")
		h.run("systemctl", "stop", "app")
		h.run("systemctl", "start", "app.socket")
		log := len(h.lines("log"))
		h.sombra(0, "backup", "--component", "app.service")
		if got := h.active("app.socket") + " " + h.active("app"); got != "active inactive" || len(h.lines("log")) != log {
			t.Errorf("socket and service are %s; the service saw %q", got, h.lines("log")[log:])
		}
		h.run("systemctl", "start", "app")
		h.sombra(0, "backup", "--component", "app.service")
		if got := h.active("app.socket") + " " + h.active("app"); got != "active active" {
			t.Errorf("socket and service that both ran are %s", got)
		}
		h.run("systemctl", "stop", "app.socket")
		h.must(os.Remove(filepath.Join(h.dir, "units", "app.socket")))
		h.run("systemctl", "daemon-reload")
		h.run("systemctl", "start", "app")
	})
	t.Run("its start limit does not keep it down", func(t *testing.T) {
		h := h.on(t)
		h.unit("app.service", strings.Replace(ticker(h.dir, ""), "StartLimitIntervalSec=0", "StartLimitIntervalSec=600\nStartLimitBurst=1", 1))
		h.run("systemctl", "daemon-reload")
		h.run("systemctl", "restart", "app")
		h.sombra(0, "backup", "--component", "app.service")
		h.ticks()
		h.unit("app.service", ticker(h.dir, ""))
		h.run("systemctl", "daemon-reload")
	})
	t.Run("a restore stops it and starts it", func(t *testing.T) {
		h := h.on(t)
		write(t, h.data("app/file"), "first")
		h.sombra(0, "backup", "--component", "app.service")
		write(t, h.data("app/file"), "later")
		log := len(h.lines("log"))
		h.sombra(0, "restore", "latest")
		h.reads("app/file", "first")
		h.released("stop", log)
	})
	t.Run("one that a restore has left down is started by the next restore and by no backup", func(t *testing.T) {
		h := h.on(t)
		h.sombra(0, "backup", "--component", "app.service")
		// What a restore leaves that has been killed, or has restored some of the files.
		h.run("systemctl", "stop", "app")
		h.run("sh", "-c", `mkdir -p /run/sombra/units; read up rest </proc/uptime
			printf '{"kind":"systemd","name":"app","stopped":["app.service"],"at":%s0000}' "$(echo $up | tr -d .)" >/run/sombra/units/app.service`)
		log := len(h.lines("log"))
		h.sombra(0, "backup", "--component", "app.service")
		if got := h.active("app"); got != "inactive" || len(h.lines("log")) != log {
			t.Errorf("the backup has started it: it is %s and saw %q", got, h.lines("log")[log:])
		}
		h.sombra(0, "restore", "latest")
		h.ticks()
		if h.notes() != "" {
			t.Errorf("still noted: %q", h.notes())
		}
	})
	t.Run("one that does not stop in time goes on", func(t *testing.T) {
		h := h.on(t)
		h.unit("app.service", ticker(h.dir, "KillSignal=SIGCONT\nTimeoutStopSec=6\n"))
		h.run("systemctl", "daemon-reload")
		h.run("systemctl", "restart", "app")
		h.ticks()
		out := h.sombra(1, "backup", "--component", "app.service", "--freeze-limit", "2s")
		if !strings.Contains(out, "app.service") {
			t.Errorf("it does not name the service:\n%s", out)
		}
		// Systemd ends it, and starts it, by itself.
		waitFor(t, 2*longest, "the service is active", func() bool { return h.active("app") == "active" })
		h.ticks()
		h.unit("app.service", ticker(h.dir, ""))
		h.run("systemctl", "daemon-reload")
		// What is left of the hold does not keep the next backup from stopping it
		// and starting it.
		h.run("systemctl", "restart", "app")
		log := len(h.lines("log"))
		h.sombra(0, "backup", "--component", "app.service")
		h.released("stop", log)
	})
}
