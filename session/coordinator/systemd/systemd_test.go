package systemd

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/vss"
)

// TestNamesOfServices: they come from a medium, and nothing but a service is taken.
func TestNamesOfServices(t *testing.T) {
	for name, want := range map[string]string{
		"app": "app.service", "app.service": "app.service", "my.app": "my.app.service", "pg@15-main": "pg@15-main.service",
		`a\x2db`: `a\x2db.service`, "a:b_c-d.1": "a:b_c-d.1.service", "app.socket.service": "app.socket.service",
		"MSSQLSERVER": "MSSQLSERVER.service", strings.Repeat("a", 247): strings.Repeat("a", 247) + ".service",
	} {
		if got, err := serviceName(name); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
	for name, code := range map[string]vss.Code{
		"": vss.ErrInvalidArgument, "-H": vss.ErrInvalidArgument, "--host=evil": vss.ErrInvalidArgument, "-.service": vss.ErrInvalidArgument,
		"a/b": vss.ErrInvalidArgument, "/etc/x.service": vss.ErrInvalidArgument, "../a": vss.ErrInvalidArgument, "a b": vss.ErrInvalidArgument,
		"a\nb": vss.ErrInvalidArgument, "a\x00": vss.ErrInvalidArgument, "*": vss.ErrInvalidArgument, "a?": vss.ErrInvalidArgument, "[a]": vss.ErrInvalidArgument,
		"é": vss.ErrInvalidArgument, "$(id)": vss.ErrInvalidArgument, "poweroff.target": vss.ErrInvalidArgument, "a.socket": vss.ErrInvalidArgument,
		"a.mount": vss.ErrInvalidArgument, "init.scope": vss.ErrInvalidArgument, ".service": vss.ErrInvalidArgument, "pg@": vss.ErrInvalidArgument,
		"pg@.service": vss.ErrInvalidArgument, "@x": vss.ErrInvalidArgument, strings.Repeat("a", 248): vss.ErrInvalidArgument, strings.Repeat("a", 1<<20): vss.ErrInvalidArgument,
		"systemd-poweroff": vss.ErrAccessDenied, "systemd-journald.service": vss.ErrAccessDenied, "dbus": vss.ErrAccessDenied, "user@0": vss.ErrAccessDenied,
	} {
		got, err := serviceName(name)
		if !errors.Is(err, code) {
			t.Errorf("%.40q: %q, %v, want %v", name, got, err, code)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}

func TestMountUnitsAreNamedAsSystemdDoes(t *testing.T) {
	escape, err := exec.LookPath("systemd-escape")
	for point, want := range map[string]string{
		"/": "-.mount", "/srv": "srv.mount", "/srv/a-b": `srv-a\x2db.mount`, "/.hidden": `\x2ehidden.mount`, "/a/.b": "a-.b.mount",
		"/a b/é": `a\x20b-\xc3\xa9.mount`, "/a_b:c.d": "a_b:c.d.mount",
	} {
		if got := MountUnit(point); got != want {
			t.Errorf("%s: %s, want %s", point, got, want)
		}
		if err != nil {
			continue
		}
		out, err := exec.Command(escape, "--path", "--suffix=mount", "--", point).Output()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("systemd-escape says %s, %v of %s, want %s", out, err, point, want)
		}
	}
	if err != nil {
		voltest.Skip(t, "no systemd-escape to compare with")
	}
}

// TestServicesAreRefusedClearlyWhereThereIsNoSystemd.
func TestServicesAreRefusedClearlyWhereThereIsNoSystemd(t *testing.T) {
	if Booted() {
		voltest.Skip(t, "systemd runs here")
	}
	s := NewServices(time.Minute)
	_, err := s.StopService(context.Background(), "app")
	if !errors.Is(err, vss.ErrNotSupported) || !strings.Contains(err.Error(), "systemd does not run here") {
		t.Errorf("stop: %v", err)
	}
	if err := s.StartService(context.Background(), "app"); !errors.Is(err, vss.ErrNotSupported) {
		t.Errorf("start: %v", err)
	}
	if _, err := s.StopService(context.Background(), "-H"); !errors.Is(err, vss.ErrInvalidArgument) {
		t.Errorf("a name that is none: %v", err)
	}
}

func TestShowIsRead(t *testing.T) {
	list := parseShow("Id=a.service\nActiveState=active\nStatusText=a=b\nRequiredBy=x.service y.service\n\nId=b.service\nActiveState=inactive\n")
	if len(list) != 2 || list[0]["StatusText"] != "a=b" || !list[0].runs() || list[1].runs() ||
		!slices.Equal(list[0].list("RequiredBy"), []string{"x.service", "y.service"}) {
		t.Errorf("%v", list)
	}
}

// TestStartThatSystemdHasNotTakenOnIsTold: a hold that fails has systemd start again
// what it has stopped, and when systemd does not answer says of what.
func TestStartThatSystemdHasNotTakenOnIsTold(t *testing.T) {
	if runtime.GOOS != "linux" {
		voltest.Skip(t, "no systemd anywhere")
	}
	for _, answers := range []string{"app.service", "nothing"} {
		systemctl := filepath.Join(t.TempDir(), "systemctl")
		script := "#!/bin/sh\ncase \"$*\" in *" + answers + "*) exit 0;; esac\nexec sleep 1000\n"
		if err := os.WriteFile(systemctl, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		c := &closure{systemctl: systemctl}
		err := c.startLater(t.Context(), []string{"app.service", "app.target"})
		if err == nil || !strings.Contains(err.Error(), "app.service") || !strings.Contains(err.Error(), "app.target") {
			t.Errorf("where systemd answers of %s: %v", answers, err)
		}
	}
}

func FuzzServiceName(f *testing.F) {
	for _, s := range []string{"app", "-H", "a@b", "a.socket", "pg@.service", `\x2d`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		unit, err := serviceName(name)
		if err != nil {
			return
		}
		if !isUnit(unit) || !strings.HasSuffix(unit, ".service") || strings.ContainsAny(unit, "/ \n*?[") {
			t.Errorf("%q gives %q", name, unit)
		}
		if again, err := serviceName(unit); err != nil || again != unit {
			t.Errorf("%q gives %q, and that %q, %v", name, unit, again, err)
		}
	})
}
