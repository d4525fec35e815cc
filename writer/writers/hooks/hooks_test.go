//go:build unix

package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// childEnv makes the test binary a writer host over descriptor 3.
const childEnv = "HOOKS_TEST_CONFIG"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := host(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func host(text string) error {
	w, err := Kind{}.New(context.Background(), writer.Spec{Config: json.RawMessage(text)})
	if err != nil {
		return err
	}
	conn, err := net.FileConn(os.NewFile(3, "conn"))
	if err != nil {
		return err
	}
	return writer.ServeConn(context.Background(), conn, w)
}

// scripts makes a directory of scripts. A script's text is run by sh after it
// has noted its name and argument in the log.
func scripts(t *testing.T, files map[string]string) (dir, log string) {
	t.Helper()
	base := t.TempDir()
	dir, log = filepath.Join(base, "hooks.d"), filepath.Join(base, "log")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(dir, name), fmt.Sprintf("#!/bin/sh\necho \"${0##*/} $*\" >> %s\n%s\n", log, text), 0o755)
	}
	return dir, log
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func make1(t *testing.T, c config) writer.Writer {
	t.Helper()
	w, err := Kind{}.New(t.Context(), writer.Spec{Kind: kindName, Config: encode(t, c)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func encode(t *testing.T, c config) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func wantLog(t *testing.T, log string, want ...string) {
	t.Helper()
	got, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if lines := strings.Fields(strings.ReplaceAll(string(got), " ", ":")); !slices.Equal(lines, want) {
		t.Errorf("calls: got %v, want %v", lines, want)
	}
}

func TestScriptsFreezeInOrderAndThawInReverse(t *testing.T) {
	dir, log := scripts(t, map[string]string{"10-b": "", "2-a": "", "zz": ""})
	w := make1(t, config{Directory: dir})
	if err := w.Freeze(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Thaw(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	wantLog(t, log, "10-b:freeze", "2-a:freeze", "zz:freeze", "zz:thaw", "2-a:thaw", "10-b:thaw")
	// What is thawed is not thawed again.
	if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	wantLog(t, log, "10-b:freeze", "2-a:freeze", "zz:freeze", "zz:thaw", "2-a:thaw", "10-b:thaw")
}

func TestOnlyStartedScriptsAreThawedTheFailedOneToo(t *testing.T) {
	dir, log := scripts(t, map[string]string{
		"1": "", "2": `if [ "$1" = freeze ]; then seq 1 5000; echo cannot lock >&2; exit 3; fi`, "3": "",
	})
	w := make1(t, config{Directory: dir})
	e := &writer.Event{}
	err := w.Freeze(t.Context(), e)
	if writer.FailureCode(err) != vss.ErrWriterErrorNonRetryable {
		t.Errorf("code %v of error %v", writer.FailureCode(err), err)
	}
	text := fmt.Sprint(err)
	if !strings.HasSuffix(text, "cannot lock") || !strings.Contains(text, filepath.Join(dir, "2")) || len(text) > keepOutput+1000 {
		t.Errorf("error of %d bytes does not name the script and end with its output: %.300s", len(text), text)
	}
	if e.Failure == nil || e.Failure.Application != 3 || e.Failure.Code != vss.ErrWriterErrorNonRetryable {
		t.Errorf("failure: %+v", e.Failure)
	}
	if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	wantLog(t, log, "1:freeze", "2:freeze", "2:thaw", "1:thaw")
}

func TestAThawThatFailsKeepsNoOtherFromBeingThawed(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "broken")
	write(t, flag, "", 0o600)
	dir, log := scripts(t, map[string]string{"1": "", "2": `[ "$1" = freeze ] || ! [ -e ` + flag + ` ]`, "3": ""})
	w := make1(t, config{Directory: dir})
	if err := w.Freeze(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Thaw(t.Context(), &writer.Event{}); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "2")) {
		t.Errorf("Thaw: %v", err)
	}
	wantLog(t, log, "1:freeze", "2:freeze", "3:freeze", "3:thaw", "2:thaw", "1:thaw")
	if err := w.Freeze(t.Context(), &writer.Event{}); err == nil {
		t.Error("frozen again over a script that was never thawed")
	}
	// Abort tries again what is left, and only that.
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	wantLog(t, log, "1:freeze", "2:freeze", "3:freeze", "3:thaw", "2:thaw", "1:thaw", "2:thaw")
}

func TestAScriptThatTakesTooLongIsKilledWithAllItStarted(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "child")
	dir, log := scripts(t, map[string]string{"1": `[ "$1" = thaw ] || { sh -c "echo \$\$ > ` + mark + `; exec sleep 600" & wait; }`})
	for _, test := range []struct {
		name    string
		timeout string
		limit   time.Duration // of the event
	}{
		{"its own limit", "2s", time.Minute},
		{"the event's limit", "10m", 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := make1(t, config{Directory: dir, Timeout: test.timeout})
			ctx, cancel := context.WithTimeout(t.Context(), test.limit)
			defer cancel()
			start := time.Now()
			err := w.Freeze(ctx, &writer.Event{})
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("Freeze took %v", took)
			}
			if writer.FailureCode(err) != vss.ErrWriterErrorTimeout {
				t.Errorf("got %v", err)
			}
			pid := 0
			text, err := os.ReadFile(mark)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Sscan(string(text), &pid)
			for end := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("process %d, which the script started, is still there", pid)
				}
			}
			if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
				t.Error(err)
			}
		})
	}
	wantLog(t, log, "1:freeze", "1:thaw", "1:freeze", "1:thaw")
}

// alive reports whether a process runs; one that only waits to be reaped by
// whoever inherited it does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	return !strings.Contains(string(stat), ") Z ")
}

// A common script leaves a process running that holds a lock until thaw.
func TestAProcessLeftRunningHoldsUpNothing(t *testing.T) {
	base := t.TempDir()
	dir, _ := scripts(t, map[string]string{"1": `
if [ "$1" = freeze ]; then
	( while ! [ -e ` + base + `/stop ]; do sleep 0.05; echo tick; done; echo ended > ` + base + `/ended ) &
else
	touch ` + base + `/stop
	while ! [ -e ` + base + `/ended ]; do sleep 0.05; done
fi`})
	w := make1(t, config{Directory: dir})
	start := time.Now()
	if err := w.Freeze(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Freeze waited %v for a process that was left running", took)
	}
	time.Sleep(200 * time.Millisecond) // it writes meanwhile, and must get no broken pipe
	if err := w.Thaw(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
}

func TestAbortInANewProcessThawsEverything(t *testing.T) {
	dir, log := scripts(t, map[string]string{"1": "", "2": ""})
	w := make1(t, config{Directory: dir})
	if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	wantLog(t, log, "2:thaw", "1:thaw")
	// But not in one that knows that nothing is frozen.
	w = make1(t, config{Directory: dir})
	if err := w.(writer.BackupPreparer).PrepareForBackup(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	wantLog(t, log, "2:thaw", "1:thaw")
}

func TestAfterTheHostIsKilledFrozenANewOneThaws(t *testing.T) {
	dir, log := scripts(t, map[string]string{"1": "", "2": ""})
	text := string(encode(t, config{Directory: dir}))
	first, cmd := startHost(t, text)
	if !first.Describe().OutlivesProcess {
		t.Error("the writer does not say that scripts outlive its process")
	}
	if err := first.Freeze(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	wantLog(t, log, "1:freeze", "2:freeze")
	second, _ := startHost(t, text)
	if err := second.Abort(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	wantLog(t, log, "1:freeze", "2:freeze", "2:thaw", "1:thaw")
}

func TestWhenTheServiceIsGoneTheHostThaws(t *testing.T) {
	dir, log := scripts(t, map[string]string{"1": "", "2": ""})
	w, cmd := startHost(t, string(encode(t, config{Directory: dir})))
	if err := w.Freeze(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	w.Client().Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("host: %v", err)
	}
	wantLog(t, log, "1:freeze", "2:freeze", "2:thaw", "1:thaw")
}

func startHost(t *testing.T, text string) (*writer.Remote, *exec.Cmd) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+text)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	c, err := writer.Dial(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ws, err := c.Writers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ws[0], cmd
}

func TestWhatIsNoScriptIsPassedOver(t *testing.T) {
	dir, log := scripts(t, map[string]string{
		"run": "", "a~": "", "b.rpmsave": "", "c.dpkg-old": "", "d.bak": "", "e.sample": "", ".hidden": "", "f.rpmnew": "", "g.orig": "",
	})
	write(t, filepath.Join(dir, "README"), "not executable", 0o644)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "run"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	w := make1(t, config{Directory: dir})
	if err := w.Freeze(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	wantLog(t, log, "link:freeze", "run:freeze")
}

func TestScriptsThatOthersCouldChangeAreRefused(t *testing.T) {
	root := os.Geteuid() == 0
	if !root {
		t.Log("NOT RUN: cases with another owner need root")
	}
	for _, test := range []struct {
		name   string
		spoil  func(dir string) error
		asRoot bool
		want   string
	}{
		{"script writable by all", func(d string) error { return os.Chmod(filepath.Join(d, "1"), 0o777) }, false, "can be written by others"},
		{"script writable by its group", func(d string) error { return os.Chmod(filepath.Join(d, "1"), 0o775) }, false, "can be written by others"},
		{"directory writable by all", func(d string) error { return os.Chmod(d, 0o777) }, false, "can be written by others"},
		{"directory sticky", func(d string) error { return os.Chmod(d, 0o777|os.ModeSticky) }, false, "can be written by others"},
		{"directory above writable", func(d string) error { return os.Chmod(filepath.Dir(d), 0o777) }, false, "can be written by others"},
		{"script of another user", func(d string) error { return os.Chown(filepath.Join(d, "1"), 12345, 0) }, true, "belongs to user id 12345"},
		{"directory of another user", func(d string) error { return os.Chown(d, 12345, 0) }, true, "belongs to user id 12345"},
		{"link to a script others can change", func(d string) error {
			target := filepath.Join(filepath.Dir(d), "target")
			if err := os.Rename(filepath.Join(d, "1"), target); err != nil {
				return err
			}
			return errors.Join(os.Chmod(target, 0o777), os.Symlink(target, filepath.Join(d, "1")))
		}, false, "can be written by others"},
		{"link by way of a directory others can change", func(d string) error {
			// The script itself is beyond doubt, but somebody else decides
			// which one it is.
			good, way := filepath.Join(filepath.Dir(d), "good"), filepath.Join(filepath.Dir(d), "way")
			return errors.Join(os.Rename(filepath.Join(d, "1"), good), os.Mkdir(way, 0o700), os.Chmod(way, 0o777),
				os.Symlink(good, filepath.Join(way, "link")), os.Symlink(filepath.Join(way, "link"), filepath.Join(d, "1")))
		}, false, "can be written by others"},
		{"another user's link", func(d string) error {
			good, way := filepath.Join(filepath.Dir(d), "good"), filepath.Join(filepath.Dir(d), "way")
			return errors.Join(os.Rename(filepath.Join(d, "1"), good), os.Mkdir(way, 0o700), os.Chmod(way, 0o777|os.ModeSticky),
				os.Symlink(good, filepath.Join(way, "link")), os.Lchown(filepath.Join(way, "link"), 12345, 12345),
				os.Symlink("../way/link", filepath.Join(d, "1")))
		}, true, "belongs to user id 12345"},
		{"link in a circle", func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "1")), os.WriteFile(filepath.Join(d, "2"), nil, 0o755),
				os.Symlink("1", filepath.Join(d, "1")))
		}, false, "too many levels"},
		{"no script left", func(d string) error { return os.Remove(filepath.Join(d, "1")) }, false, "no executable script"},
		{"no directory", os.RemoveAll, false, "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.asRoot && !root {
				t.Skip("NOT RUN: needs root to give a file away")
			}
			dir, log := scripts(t, map[string]string{"1": ""})
			w := make1(t, config{Directory: dir})
			if err := test.spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Kind{}.New(t.Context(), writer.Spec{Config: encode(t, config{Directory: dir})})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New: got %v, want %q", err, test.want)
			}
			// A writer that was made before it was spoilt refuses too.
			for _, kind := range []writer.EventKind{writer.EventPrepareForBackup, writer.EventFreeze} {
				err := writer.Notify(t.Context(), w, kind, &writer.Event{})
				if writer.FailureCode(err) != vss.ErrWriterErrorNonRetryable || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v: got %v, want %q", kind, err, test.want)
				}
			}
			wantLog(t, log)
		})
	}
}

func TestScriptsSeeNothingOfTheService(t *testing.T) {
	t.Setenv("SOMBRA_PASSWORD", "secret")
	t.Setenv("SOMBRA_REPOSITORY", "here")
	t.Setenv("HOOK_COLOUR", "blue")
	out := filepath.Join(t.TempDir(), "env")
	dir, _ := scripts(t, map[string]string{"1": "env > " + out + "; pwd >> " + out})
	if err := make1(t, config{Directory: dir}).Freeze(t.Context(), &writer.Event{}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "SOMBRA_") || !strings.Contains(string(text), "HOOK_COLOUR=blue") ||
		!strings.Contains(string(text), "PATH=") || !strings.HasSuffix(string(text), "\n/\n") {
		t.Errorf("environment and directory of a script:\n%s", text)
	}
}

func TestComponentsClaimTheConfiguredPaths(t *testing.T) {
	base := t.TempDir()
	data := filepath.Join(base, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(base, "x.db"), "", 0o600)
	if err := os.Symlink(data, filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	dir, _ := scripts(t, map[string]string{"1": ""})
	w := make1(t, config{Directory: dir, Components: map[string][]string{
		"app": {filepath.Join(base, "link"), filepath.Join(base, "x.db")},
	}})
	doc, err := w.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id := doc.Identity(); id.ClassID != (Kind{}).Class() || id.InstanceName != dir || id.InstanceID.IsZero() {
		t.Errorf("identity: %+v", id)
	}
	want := []metadata.FileSet{
		{FileSpec: vss.FileSpec{Path: data, Pattern: "*", Recursive: true}, BackupType: vss.DefaultFileSpecBackupType},
		{FileSpec: vss.FileSpec{Path: base, Pattern: "x.db"}, BackupType: vss.DefaultFileSpecBackupType},
	}
	c, ok := doc.Component("", "app")
	if !ok || !slices.Equal(c.FileSets, want) || !c.Selectable {
		t.Errorf("component app: %+v", c)
	}
	if d := w.Describe(); d.Stillness != writer.CommitsHeld || d.Weak == "" {
		t.Errorf("description: %+v", d)
	}

	// R-SEL-5: without paths there is a component without files.
	doc, err = make1(t, config{Directory: dir, FilesStill: true}).Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if cs := doc.Components(); len(cs) != 1 || len(cs[0].FileSets) != 0 || cs[0].Name != "hooks.d" {
		t.Errorf("components: %+v", cs)
	}
	if d := make1(t, config{Directory: dir, FilesStill: true}).Describe(); d.Stillness != writer.FilesStill || d.Weak == "" {
		t.Errorf("description with files_still: %+v", d)
	}

	_, err = Kind{}.New(t.Context(), writer.Spec{Config: encode(t, config{Directory: dir, Components: map[string][]string{"app": {base + "/absent"}}})})
	if err == nil || !strings.Contains(err.Error(), base+"/absent") {
		t.Errorf("a path that is not there: %v", err)
	}
}

func TestDiscover(t *testing.T) {
	dir, _ := scripts(t, map[string]string{"1": ""})
	other, _ := scripts(t, map[string]string{"1": ""})
	empty := t.TempDir()
	conf := writer.Config{Kind: kindName, Name: "mine", Required: true, Config: encode(t, config{Directory: other})}
	auto := os.Geteuid() == 0
	for _, test := range []struct {
		name     string
		d        writer.Discovery
		standard string
		want     []string
	}{
		{"nothing", writer.Discovery{}, dir, nil},
		{"found", writer.Discovery{Auto: true, Paths: []string{"/"}}, dir, []string{dir}},
		{"for a copy of the whole machine", writer.Discovery{Auto: true, Running: true}, dir, []string{dir}},
		{"for such a copy, not allowed to look", writer.Discovery{Running: true}, dir, nil},
		{"not allowed to look", writer.Discovery{Paths: []string{"/"}}, dir, nil},
		{"in a restore", writer.Discovery{Auto: true, Stored: []writer.Stored{{}}}, dir, nil},
		{"no scripts in it", writer.Discovery{Auto: true, Paths: []string{"/"}}, empty, nil},
		{"not there", writer.Discovery{Auto: true, Paths: []string{"/"}}, empty + "/x", nil},
		{"configured", writer.Discovery{Configs: []writer.Config{conf}}, dir, []string{"mine"}},
		{"configured for a copy of the whole machine", writer.Discovery{Auto: true, Running: true, Configs: []writer.Config{conf}}, other, []string{"mine"}},
		{"both", writer.Discovery{Auto: true, Paths: []string{"/"}, Configs: []writer.Config{conf}}, dir, []string{"mine", dir}},
		{"the standard one configured", writer.Discovery{Auto: true, Paths: []string{"/"}, Configs: []writer.Config{conf}}, other, []string{"mine"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			specs, err := discover(test.d, test.standard)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range specs {
				got = append(got, s.Name)
				if s.Discovered || s.Required != (s.Name == "mine") || s.Owner.UID != uint32(os.Geteuid()) {
					t.Errorf("spec: %+v", s)
				}
			}
			want := test.want
			if !auto {
				want = slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s == dir })
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	if _, err := discover(writer.Discovery{Configs: []writer.Config{conf, conf}}, dir); err == nil {
		t.Error("one directory twice was taken")
	}
}

func TestConfigurationErrorsNameTheThing(t *testing.T) {
	for text, want := range map[string]string{
		`{"directoy":"/x"}`:              `"directoy"`,
		`{"directory":"x"}`:              `"x"`,
		`{"timeout":"soon"}`:             `"soon"`,
		`{"timeout":"-1s"}`:              `"-1s"`,
		`{"timeout":"99h"}`:              `"99h"`,
		`{"components":{"a\\b":["/x"]}}`: "backslash",
		`{"components":{"":["/x"]}}`:     "empty",
		`{"components":{"a":[]}}`:        `"a"`,
		`{"components":{"a":["x"]}}`:     `"x"`,
		`{} {}`:                          "goes on",
		`[]`:                             "array",
		`{"components":{"a":["/x"]}`:     "unexpected EOF",
	} {
		if _, err := parseConfig(json.RawMessage(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", text, err, want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, s := range []string{"", "{}", `{"directory":"/a/../b","timeout":"1s","components":{"a":["/x"]},"files_still":true}`, "null"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseConfig(text)
		if err != nil {
			return
		}
		if !filepath.IsAbs(c.Directory) || c.timeout <= 0 || c.timeout > maxTimeout {
			t.Errorf("%q gave %+v", text, c)
		}
		for name, paths := range c.Components {
			if name == "" || len(paths) == 0 {
				t.Errorf("%q gave component %q with %v", text, name, paths)
			}
		}
	})
}
