package systemd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// units are those of a host, of which a script answers in place of systemctl: show
// prints a file for each, start, stop and so on are only noted. A file "hang" makes
// it answer nothing.
type units struct {
	t    *testing.T
	dir  string
	held *Held
}

func newUnits(t *testing.T) *units {
	t.Helper()
	if os.Geteuid() != 0 {
		voltest.Skip(t, "only root stops and starts units")
	}
	u := &units{t: t, dir: t.TempDir()}
	script := `#!/bin/sh
cd ` + u.dir + `
[ ! -e hang ] || exec sleep 1000
if [ "$1" = show ]; then
	while [ "$1" != -- ]; do shift; done
	shift
	for u; do cat "$u"; echo; done
	exit
fi
echo "$@" >>asked
`
	u.put("systemctl", script)
	if err := os.Chmod(filepath.Join(u.dir, "systemctl"), 0o700); err != nil {
		t.Fatal(err)
	}
	u.held = &Held{
		spec: writer.Spec{Name: "app", UnitConfigured: true}, unit: "app.service", dir: t.TempDir(),
		find: func(string, string, string) (string, error) { return filepath.Join(u.dir, "systemctl"), nil },
	}
	return u
}

func (u *units) put(name, text string) {
	u.t.Helper()
	if err := os.WriteFile(filepath.Join(u.dir, name), []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

// state sets a unit's; one that was ever active came up after all that is noted.
func (u *units) state(name, active string, more ...string) {
	u.t.Helper()
	u.put(name, "Id="+name+"\nLoadState=loaded\nType=notify\nActiveState="+active+"\n"+strings.Join(append(more, ""), "\n"))
}

const cameUp = "ActiveEnterTimestampMonotonic=9000000000000000000"

// asked is what systemctl was told to do since the last call.
func (u *units) asked() string {
	u.t.Helper()
	text, err := os.ReadFile(filepath.Join(u.dir, "asked"))
	if err != nil && !os.IsNotExist(err) {
		u.t.Fatal(err)
	}
	u.put("asked", "")
	return string(text)
}

// note gives that of app.service.
func (u *units) note() *note {
	u.t.Helper()
	n, err := readNote(u.held.dir, u.held.unit)
	if err != nil {
		u.t.Fatal(err)
	}
	return n
}

func (u *units) keep(change func(*note)) {
	u.t.Helper()
	n := u.note()
	change(n)
	if err := n.write(); err != nil {
		u.t.Fatal(err)
	}
}

func holdsApp(n *note) { n.hold([]string{"app.service", "dependent.service"}) }

// TestAUnitThatFailsWhenItIsLetGoIsTold: that it was up for a moment is our own doing.
// It is not let go, and stays noted with those that need it.
func TestAUnitThatFailsWhenItIsLetGoIsTold(t *testing.T) {
	u := newUnits(t)
	u.state("app.service", "inactive", "RequiredBy=dependent.service")
	u.state("dependent.service", "inactive")
	u.keep(holdsApp)
	if starting, err := u.held.LetGo(t.Context()); err != nil || !starting {
		t.Fatalf("let go: %v, %v", starting, err)
	}
	u.state("app.service", "failed", "Result=exit-code", "ExecMainStatus=7", cameUp, "RequiredBy=dependent.service")
	for range 2 { // and another process says the same
		u.asked()
		err := u.held.Thaw(t.Context())
		if err == nil || errors.Is(err, vss.ErrWriterErrorInconsistentSnapshot) || !strings.Contains(err.Error(), "status 7") {
			t.Errorf("thaw of a unit that failed: %v", err)
		}
		if n := u.note(); len(n.Held) != 2 {
			t.Errorf("noted is %q, want both units", n.Held)
		}
		if got := u.asked(); !strings.Contains(got, "app.service dependent.service") {
			t.Errorf("it was not started again: %q", got)
		}
	}
	u.state("app.service", "active", cameUp, "RequiredBy=dependent.service")
	u.state("dependent.service", "active")
	if err := u.held.Thaw(t.Context()); err != nil || !u.note().empty() {
		t.Errorf("thaw of a unit that came up: %v, noted is %+v", err, u.note())
	}
}

// TestAFailureCountsMoreThanAUnitThatWasNotHeld: who only asks whether the unit goes
// on is not to take the second for it.
func TestAFailureCountsMoreThanAUnitThatWasNotHeld(t *testing.T) {
	u := newUnits(t)
	u.state("app.service", "failed", "Result=exit-code", cameUp)
	u.keep(func(n *note) { n.hold([]string{"app.service"}) })
	err := u.held.Thaw(t.Context())
	if err == nil || errors.Is(err, vss.ErrWriterErrorInconsistentSnapshot) || !strings.Contains(err.Error(), "did not start") {
		t.Errorf("thaw of a unit that somebody else started and that failed: %v", err)
	}
	if u.note().empty() {
		t.Error("it is down, and not noted any more")
	}
}

// TestASocketWhoseServiceStopsIsForALaterCall: systemd refuses it, and says so only to
// those who wait. The service is not started without it.
func TestASocketWhoseServiceStopsIsForALaterCall(t *testing.T) {
	u := newUnits(t)
	u.state("app.service", "deactivating", "TriggeredBy=app.socket")
	u.state("app.socket", "inactive")
	u.keep(func(n *note) { n.hold([]string{"app.service", "app.socket"}) })
	starting, err := u.held.LetGo(t.Context())
	if err == nil || starting || !strings.Contains(err.Error(), "app.socket") {
		t.Errorf("let go while it stops: %v, %v", starting, err)
	}
	if got := u.asked(); strings.Contains(got, "app.service") {
		t.Errorf("the service is to be started before its socket: %q", got)
	}
	c, err := lookWith(t.Context(), "look", "app.service", filepath.Join(u.dir, "systemctl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.startLater(t.Context(), []string{"app.service", "app.socket"}); err == nil || !strings.Contains(err.Error(), "app.socket") {
		t.Errorf("start later while it stops: %v", err)
	}
	u.asked()
	u.state("app.service", "inactive", "TriggeredBy=app.socket")
	if starting, err := u.held.LetGo(t.Context()); err != nil || !starting {
		t.Errorf("let go once it has stopped: %v, %v", starting, err)
	}
	if got := u.asked(); !strings.Contains(got, "-- app.socket app.service") {
		t.Errorf("asked for: %q", got)
	}
	u.state("app.service", "active", cameUp, "TriggeredBy=app.socket")
	u.state("app.socket", "active")
	if err := u.held.Thaw(t.Context()); err != nil || !u.note().empty() {
		t.Errorf("thaw: %v, noted is %+v", err, u.note())
	}
}

// TestAFrozenUnitGoesOnWithoutSystemd, also if others are to be started for which
// systemd is needed.
func TestAFrozenUnitGoesOnWithoutSystemd(t *testing.T) {
	for _, held := range []bool{false, true} {
		u := newUnits(t)
		before := groupMounts
		groupMounts = []string{t.TempDir()}
		t.Cleanup(func() { groupMounts = before })
		u.state("app.service", "active", "ControlGroup=/app")
		group := filepath.Join(groupMounts[0], "app")
		if err := os.Mkdir(group, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"cgroup.freeze": "0", "cgroup.events": "frozen 1\n"} {
			if err := os.WriteFile(filepath.Join(group, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := u.held.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if held {
			u.keep(func(n *note) { n.hold([]string{"app.socket"}) })
		}
		u.put("hang", "")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := u.held.Thaw(ctx); (err != nil) != held || errors.Is(err, vss.ErrWriterErrorInconsistentSnapshot) {
			t.Errorf("thaw, with a socket held %v: %v", held, err)
		}
		text, err := os.ReadFile(filepath.Join(group, "cgroup.freeze"))
		if err != nil || string(text) != "0" {
			t.Errorf("with a socket held %v, it is frozen still: %q, %v", held, text, err)
		}
		if n := u.note(); n.Frozen || n.empty() == held {
			t.Errorf("with a socket held %v, noted is %+v", held, n)
		}
	}
}

// TestWhatIsOverIsForgotten: a unit that ran again and that an administrator stopped
// is neither started by the next backup, nor by the next restore, nor do they say that
// somebody else started it.
func TestWhatIsOverIsForgotten(t *testing.T) {
	for _, starting := range []bool{false, true} {
		u := newUnits(t)
		for what, calls := range map[string][2]func(context.Context) error{
			"backup": {u.held.Hold, u.held.Thaw}, "restore": {u.held.Stop, u.held.Release},
		} {
			u.state("app.service", "inactive", "RequiredBy=dependent.service")
			u.state("dependent.service", "inactive")
			u.keep(holdsApp)
			if starting {
				if _, err := u.held.LetGo(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			u.state("app.service", "inactive", cameUp)
			u.asked()
			if err := calls[0](t.Context()); err != nil {
				t.Errorf("%s, told to start %v: stop: %v", what, starting, err)
			}
			if n := u.note(); !n.empty() {
				t.Errorf("%s, told to start %v: noted is %+v", what, starting, n)
			}
			if err := calls[1](t.Context()); err != nil {
				t.Errorf("%s, told to start %v: start: %v", what, starting, err)
			}
			if got := u.asked(); got != "" {
				t.Errorf("%s, told to start %v: systemctl %s", what, starting, got)
			}
		}
	}
}
