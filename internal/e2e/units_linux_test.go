package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/writer"
)

// unitHost is a host with a service that writes all the time, and the writer
// "systemd" for it.
func unitHost(t *testing.T, how, unit, more string) (*booted, *machine) {
	t.Helper()
	dir := scratch(t)
	h := newBooted(t, dir, map[string]string{"app.service": ticker(dir, unit)})
	h.must(os.MkdirAll(h.data("app"), 0o755))
	h.must(os.MkdirAll(h.data("other"), 0o755))
	h.configureUnit(how, more)
	h.start()
	h.sombra(0, "init")
	m := &machine{t: t, dir: dir, repo: filepath.Join(dir, "repository"),
		through: append(h.command().Args, "sh", "-c", `shift; exec "$0" "$@"`, h.bin("sombra"))}
	h.ticks()
	return h, m
}

// ticker is a service that writes a line to its file every few milliseconds, and
// to a log when it starts and ends.
func ticker(dir, more string) string {
	data := filepath.Join(dir, "data")
	return "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nExecStartPre=/bin/sh -c 'echo start >>" + data + "/log'\n" +
		"ExecStart=/bin/sh -c 'while echo tick; do sleep 0.01; done >>" + data + "/app/ticks'\n" +
		"ExecStopPost=/bin/sh -c 'echo stop >>" + data + "/log'\n" + more
}

func (h *booted) configureUnit(how, more string) {
	h.t.Helper()
	write(h.t, filepath.Join(h.dir, "sombra.yaml"), fmt.Sprintf("writers:\n  - kind: systemd\n    name: app\n%s    config:\n      unit: app\n      paths: [%s]\n      exclude: [%s]\n      how: %s\n",
		more, h.data("app"), h.data("app/cache"), how))
}

func (h *booted) size(name string) int64 {
	info, err := os.Stat(h.data(name))
	if err != nil {
		return 0
	}
	return info.Size()
}

// ticks waits until the service writes.
func (h *booted) ticks() {
	h.t.Helper()
	before := h.size("app/ticks")
	waitFor(h.t, longest, "the service writes", func() bool { return h.size("app/ticks") > before+10 })
}

// notes are the units noted as stopped or frozen.
func (h *booted) notes() string {
	h.t.Helper()
	out, _ := h.run("sh", "-c", "ls /run/sombra/units 2>/dev/null | grep -v lock; true")
	return strings.TrimSpace(out)
}

// insideGate is a gate whose program runs in the host, where writers have to.
type insideGate struct {
	h    *booted
	base string
}

// gate serves a gate to the host's runs. What is returned opens and ends it.
func (h *booted) gate(at writer.EventKind) (g insideGate, end func()) {
	h.t.Helper()
	g = insideGate{h, filepath.Join(h.dir, fmt.Sprintf("gate-%d", time.Now().UnixNano()))}
	write(h.t, h.data("other/gate/file"), "the gate's")
	sockets := filepath.Join(h.state(), "writers.d")
	h.must(os.MkdirAll(sockets, 0o700))
	cmd := h.command(h.bin("test"), "test-gate", filepath.Join(sockets, "gate.sock"), h.data("other"), at.String(), g.base)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	h.must(err)
	h.must(cmd.Start())
	end = sync.OnceFunc(func() {
		g.release()
		in.Close()
		if err := cmd.Wait(); err != nil {
			h.t.Errorf("gate: %v", err)
		}
	})
	h.t.Cleanup(end)
	g.until("listens")
	return g, end
}

func (g insideGate) until(what string) {
	g.h.t.Helper()
	waitFor(g.h.t, longest, "the gate "+what, func() bool {
		_, err := os.Lstat(g.base + "-" + what)
		return err == nil
	})
}

// wait waits until a run stands at the gate.
func (g insideGate) wait(t *testing.T, r *running) {
	t.Helper()
	for deadline := time.Now().Add(longest); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(g.base + "-reached"); err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.cmd.Process.Kill()
			o := r.wait()
			t.Fatalf("the run has not come to the gate:\n%s\n%s", o.out, o.err)
		}
	}
}

func (g insideGate) release() { write(g.h.t, g.base+"-released", "") }

// gateClient is the gate's program.
func gateClient(args []string) error {
	at, err := writer.ParseEventKind(args[2])
	if err != nil && args[2] != writer.EventKind(0).String() { // which keeps nobody
		return err
	}
	g, base := makeGate(args[1], at), args[3]
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	go func() {
		<-g.reached
		os.WriteFile(base+"-reached", nil, 0o600)
		for {
			if _, err := os.Lstat(base + "-released"); err == nil {
				g.release()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	go func() {
		for {
			if _, err := os.Lstat(args[0]); err == nil {
				os.WriteFile(base+"-listens", nil, 0o600)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return writer.Serve(ctx, args[0], g)
}

// TestAUnitIsHeldForItsFiles: the file in the backup has the same size as the live one
// had as long as it was held, and the unit writes on afterwards.
func TestAUnitIsHeldForItsFiles(t *testing.T) {
	for _, how := range []string{"stop", "freeze"} {
		t.Run(how, func(t *testing.T) {
			h, m := unitHost(t, how, "", "")
			write(t, h.data("app/cache/x"), "not this")
			log := len(h.lines("log"))
			g, end := h.gate(writer.EventFreeze)
			r := m.start(false, "backup", "--json", "-vv", h.data(""))
			go r.read()
			g.wait(t, r)
			size := h.size("app/ticks")
			want := map[string]string{"stop": "inactive", "freeze": "active"}[how]
			if got := h.active("app"); got != want || h.notes() != "app.service" {
				t.Errorf("while held the service is %s, want %s; notes: %q", got, want, h.notes())
			}
			time.Sleep(200 * time.Millisecond)
			if now := h.size("app/ticks"); now != size {
				t.Errorf("while held its file grew by %d bytes", now-size)
			}
			g.release()
			o := r.wait().exits(0)
			end()
			h.released(how, log)
			out := filepath.Join(h.dir, "out")
			h.sombra(0, "extract", o.summary().ID, out)
			if info, err := os.Stat(filepath.Join(out, h.data("app/ticks"))); err != nil || info.Size() != size {
				t.Errorf("the copy has %v, %v; want the %d bytes from when it was held", info, err, size)
			}
			if _, err := os.Stat(filepath.Join(out, h.data("app/cache"), "x")); err == nil {
				t.Error("an excluded file is in the backup")
			}
			if !strings.Contains(o.out, "reads") && !strings.Contains(o.out, "reads_paused") {
				t.Errorf("nothing says that reads are paused:\n%s", o.out)
			}
		})
	}
}

// released checks that the unit goes on, and how often it was started.
func (h *booted) released(how string, log int) {
	h.t.Helper()
	waitFor(h.t, longest, "the service is active", func() bool { return h.active("app") == "active" })
	h.ticks()
	waitFor(h.t, longest, "nothing is noted", func() bool { return h.notes() == "" })
	got, want := strings.Join(h.lines("log")[log:], " "), map[string]string{"stop": "stop start", "freeze": ""}[how]
	if got != want {
		h.t.Errorf("the service saw %q, want %q", got, want)
	}
}
