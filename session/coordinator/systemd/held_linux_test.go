package systemd

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/writer"
)

// TestOnlyAConfiguredUnitMayBeSomebodyElses: that a writer is configured says nothing
// of a unit that was only found for it.
func TestOnlyAConfiguredUnitMayBeSomebodyElses(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	other := writer.Owner{UID: uint32(os.Geteuid()) + 1}
	for _, test := range []struct {
		what string
		spec writer.Spec
		unit properties
		want string // in the refusal; empty: none
	}{
		{"found, of another user", writer.Spec{Owner: other}, properties{"MainPID": self}, "name the unit"},
		{"found for a discovered writer, of another user", writer.Spec{Owner: other, Discovered: true}, properties{"MainPID": self}, "name the unit"},
		{"found, does not run, root's", writer.Spec{Owner: writer.Owner{UID: 1}}, properties{"MainPID": "0"}, "it runs as root"},
		{"found, the owner's", writer.Spec{Owner: writer.Owner{UID: uint32(os.Geteuid())}}, properties{"MainPID": self}, ""},
		{"configured, of another user", writer.Spec{Owner: other, UnitConfigured: true}, properties{"MainPID": self}, ""},
	} {
		h := &Held{spec: test.spec}
		err := h.ours(&closure{unit: "app.service", units: map[string]properties{"app.service": test.unit}})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.what, err, test.want)
		}
	}
}

// TestThawLeavesAloneWhatARestoreStopped: the two ends of a hold are one matter,
// PreRestore and PostRestore another, also in a note that another process reads.
func TestThawLeavesAloneWhatARestoreStopped(t *testing.T) {
	dir := t.TempDir()
	n := &note{path: filepath.Join(dir, "app.service")}
	n.stop([]string{"app.service"})
	n.hold([]string{"app.socket"})
	n.hold([]string{"app.socket"})
	if err := n.write(); err != nil {
		t.Fatal(err)
	}
	n, err := readNote(dir, "app.service")
	if err != nil {
		t.Fatal(err)
	}
	if got := n.stoppedBefore(opThaw); !slices.Equal(got, []string{"app.socket"}) {
		t.Errorf("Thaw starts %q", got)
	}
	if got := n.stoppedBefore(opRelease); !slices.Equal(got, []string{"app.socket", "app.service"}) {
		t.Errorf("the end of a restore starts %q", got)
	}
	n.started(n.stoppedBefore(opThaw))
	if !n.nothing(opThaw) || n.nothing(opRelease) {
		t.Errorf("after Thaw it notes %+v", n)
	}
	n.started(n.stoppedBefore(opRelease))
	if err := n.write(); err != nil || !n.empty() {
		t.Errorf("after the restore it notes %+v, %v", n, err)
	}
	if _, err := os.Lstat(n.path); !os.IsNotExist(err) {
		t.Errorf("an empty note is left: %v", err)
	}
}
