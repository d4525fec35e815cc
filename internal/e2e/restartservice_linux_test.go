package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// methodHost is a host with a service, its data file, and a writer whose restore
// method is given.
func methodHost(t *testing.T, method, attrs string) *booted {
	t.Helper()
	dir := scratch(t)
	h := newBooted(t, dir, map[string]string{"app.service": service(dir, "app", "")})
	h.method(method, attrs)
	write(t, h.data("app.db"), "first")
	h.start()
	h.sombra(0, "init")
	return h
}

// method gives the writer its restore method.
func (h *booted) method(method, attrs string) {
	h.t.Helper()
	write(h.t, filepath.Join(h.dir, "writer.xml"), fmt.Sprintf(`<TestWriter usage="USER_DATA" stillness="filesStill">
    <RestoreMethod method="%s" writerRestore="always" rebootRequired="no" %s/>
    <Component componentType="filegroup" componentName="App">
        <ComponentFile path="%s" filespec="app*.db" recursive="no"/>
    </Component>
</TestWriter>
`, method, attrs, filepath.Dir(h.data("app.db"))))
	write(h.t, filepath.Join(h.dir, "sombra.yaml"), fmt.Sprintf("writers:\n  - kind: testwriter\n    name: app\n    config: {file: %s}\n",
		filepath.Join(h.dir, "writer.xml")))
}

// backup makes one of the writer's component.
func (h *booted) backup() {
	h.t.Helper()
	h.sombra(0, "backup", "--component", "App")
}

// steps are the events of a restore's JSON lines that have ended, in order.
func steps(t *testing.T, out string) (list []string) {
	t.Helper()
	for line := range strings.Lines(out) {
		var s struct {
			Event string
			Done  bool
		}
		if messageType(line) == "step" && json.Unmarshal([]byte(line), &s) == nil && s.Done && !slices.Contains([]string{"Identify"}, s.Event) {
			list = append(list, s.Event)
		}
	}
	return list
}

// TestAServiceIsStoppedForItsFiles (R-RES-7, R-RES-36): it stops with the old file
// and starts with the restored one, after PreRestore and before PostRestore.
func TestAServiceIsStoppedForItsFiles(t *testing.T) {
	h := methodHost(t, "STOP_RESTORE_START", `service="app"`)
	h.backup()
	write(t, h.data("app.db"), "later")
	before := len(h.lines("log"))
	out := h.sombra(0, "restore", "--json", "latest")
	if got := h.lines("log")[before:]; !slices.Equal(got, []string{"stop app later", "start app first"}) {
		t.Errorf("the service saw %q", got)
	}
	if got := steps(t, out); !slices.Equal(got, []string{"PreRestore", "StopService", "StartService", "PostRestore"}) {
		t.Errorf("the order was %q", got)
	}
	if got := h.active("app"); got != "active" {
		t.Errorf("the service is %s", got)
	}

	// One that did not run is not started.
	h.run("systemctl", "stop", "app")
	write(t, h.data("app.db"), "later")
	before = len(h.lines("log"))
	h.sombra(0, "restore", "latest")
	h.reads("app.db", "first")
	if got := h.active("app"); got != "inactive" || len(h.lines("log")) != before {
		t.Errorf("the service is %s, and saw %q", got, h.lines("log")[before:])
	}

	// A dry run touches nothing.
	h.run("systemctl", "start", "app")
	before = len(h.lines("log"))
	h.sombra(0, "restore", "--dry-run", "latest")
	if got := h.lines("log")[before:]; len(got) > 0 {
		t.Errorf("in a dry run the service saw %q", got)
	}
}

// TestAServiceIsRestartedAfterItsFiles (R-RES-8): it stops with the restored file in
// place, after PostRestore.
func TestAServiceIsRestartedAfterItsFiles(t *testing.T) {
	h := methodHost(t, "RESTORE_STOP_START", `service="app.service"`)
	h.backup()
	write(t, h.data("app.db"), "later")
	before := len(h.lines("log"))
	out := h.sombra(0, "restore", "--json", "latest")
	if got := h.lines("log")[before:]; !slices.Equal(got, []string{"stop app first", "start app first"}) {
		t.Errorf("the service saw %q", got)
	}
	if got := steps(t, out); !slices.Equal(got, []string{"PreRestore", "PostRestore", "StopService", "StartService"}) {
		t.Errorf("the order was %q", got)
	}
}

// TestAServiceThatDoesNotStopKeepsItsFiles (R-RES-7): an error, and nothing is
// touched.
func TestAServiceThatDoesNotStopKeepsItsFiles(t *testing.T) {
	h := methodHost(t, "STOP_RESTORE_START", `service="app"`)
	h.backup()
	write(t, h.data("app.db"), "later")
	h.must(os.Remove(filepath.Join(h.dir, "units", "app.service")))
	h.run("systemctl", "daemon-reload")
	if out := h.sombra(3, "restore", "latest"); !strings.Contains(out, "cannot be stopped") || !strings.Contains(out, "could not be started again") {
		t.Errorf("it says\n%s", out)
	}
	h.reads("app.db", "later")
	if got := h.active("app"); got != "active" {
		t.Errorf("the service is %s", got)
	}
}

// TestAServiceThatDoesNotStartAgainIsSaid: the files are restored, and exit 5 says
// that the service is down, with its last words.
func TestAServiceThatDoesNotStartAgainIsSaid(t *testing.T) {
	h := methodHost(t, "STOP_RESTORE_START", `service="app"`)
	h.backup()
	h.unit("app.service", "[Service]\nType=exec\nExecStart=/bin/sh -c 'echo the disk is upside down >&2; exit 9'\n")
	h.run("systemctl", "daemon-reload")
	write(t, h.data("app.db"), "later")
	out := h.sombra(5, "restore", "latest")
	for _, words := range []string{"does not start again", "status 9", "the disk is upside down"} {
		if !strings.Contains(out, words) {
			t.Errorf("it does not say %q:\n%s", words, out)
		}
	}
	h.reads("app.db", "first")
}
