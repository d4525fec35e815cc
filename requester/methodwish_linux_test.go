package requester_test

import (
	"os"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

func TestParseMethodWish(t *testing.T) {
	for text, want := range map[string]requester.MethodWish{
		"IF_NOT_THERE":                    {Method: vss.RestoreMethodIfNotThere},
		"at-reboot":                       {Method: vss.RestoreMethodAtReboot},
		"RESTORE_IF_CAN_BE_REPLACED":      {Method: vss.RestoreMethodIfCanReplace},
		"VSS_RME_STOP_RESTORE_START":      {Method: vss.RestoreMethodStopRestoreStart},
		"restore-stop-start":              {Method: vss.RestoreMethodRestoreStopStart},
		"app:main=to-alternate-location":  {Component: "app:main", Method: vss.RestoreMethodToAlternateLocation},
		"a=b=at-reboot-if-cannot-replace": {Component: "a=b", Method: vss.RestoreMethodAtRebootIfCannotReplace},
		`{5affb034}:x\y=if-can-replace`:   {Component: `{5affb034}:x\y`, Method: vss.RestoreMethodIfCanReplace},
	} {
		got, err := requester.ParseMethodWish(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "custom", "undefined", "=at-reboot", "x=", "sideways", "app:main"} {
		if got, err := requester.ParseMethodWish(bad); err == nil {
			t.Errorf("%q is taken: %+v", bad, got)
		}
	}
}

// What a method needs of the writer is needed of an overriding one, too.
func TestOverrideOfARestoreMethod(t *testing.T) {
	plain := requester.RestoreMethod{Given: true, Method: vss.RestoreMethodIfCanReplace}
	full := requester.RestoreMethod{Given: true, Method: vss.RestoreMethodUndefined, Service: "app", Mappings: []requester.Mapping{{}}}
	for by := vss.RestoreMethodIfNotThere; by <= vss.RestoreMethodRestoreStopStart; by++ {
		if by == vss.RestoreMethodCustom {
			continue
		}
		needs := by == vss.RestoreMethodStopRestoreStart || by == vss.RestoreMethodRestoreStopStart || by == vss.RestoreMethodToAlternateLocation
		if _, why := plain.Override(by); (why != "") != needs {
			t.Errorf("%v over a writer that says nothing: %q", by, why)
		}
		if m, why := full.Override(by); why != "" || m.Method != by || m.Service != "app" {
			t.Errorf("%v: %+v, %q", by, m, why)
		}
		if _, why := (requester.RestoreMethod{Given: true, Method: vss.RestoreMethodCustom}).Override(by); !strings.Contains(why, "documented way") {
			t.Errorf("%v over CUSTOM: %q", by, why)
		}
	}
}

func TestRestoreMethodChosenByTheUser(t *testing.T) {
	w, d := mapWorld(t, vss.RestoreMethodIfCanReplace, "app", "conf")
	res := w.backup(w.paths())
	w.write("app/db", "newer")
	back := w.restoreAgain(d, res, requester.RestoreRequest{Methods: []requester.MethodWish{{Component: "app:main", Method: vss.RestoreMethodToAlternateLocation}}})
	if back.Outcome != requester.Complete || w.read("app/db") != "newer" || w.read("alt/app/db") != "the data" {
		t.Errorf("outcome %v, %q, %s", back.Outcome, w.read("app/db"), leftOut(back.LeftOut))
	}
	if c := back.Components[0]; c.Method != vss.RestoreMethodIfCanReplace.Word() || c.MethodUsed != vss.RestoreMethodToAlternateLocation.Word() ||
		!strings.Contains(strings.Join(back.Warnings, "\n"), "as you ask") {
		t.Errorf("not recorded and warned about: %+v, %q", c, back.Warnings)
	}
	// The last wish counts, and the writer's own is none.
	back = w.restoreAgain(d, res, requester.RestoreRequest{Methods: []requester.MethodWish{
		{Method: vss.RestoreMethodToAlternateLocation}, {Method: vss.RestoreMethodIfCanReplace}}})
	if back.Outcome != requester.Complete || w.read("app/db") != "the data" || back.Components[0].MethodUsed != "" || len(back.Warnings) > 0 {
		t.Errorf("outcome %v, %q, %+v %q", back.Outcome, w.read("app/db"), back.Components[0], back.Warnings)
	}
	// One that cannot be: the component is left as it is.
	w.write("app/db", "newer")
	back = w.restoreAgain(d, res, requester.RestoreRequest{Methods: []requester.MethodWish{{Method: vss.RestoreMethodStopRestoreStart}}})
	if back.Outcome != requester.Incomplete || w.read("app/db") != "newer" || !strings.Contains(leftOut(back.LeftOut), "names no service") {
		t.Errorf("outcome %v, %q, %s", back.Outcome, w.read("app/db"), leftOut(back.LeftOut))
	}
	// One that names nothing: nothing is done.
	os.Remove(w.path("conf/a.conf"))
	w.writers = []*docWriter{d.again()}
	_, err := requester.Restore(t.Context(), w.open, w.repo, res.Record,
		requester.RestoreRequest{Methods: []requester.MethodWish{{Component: "mian", Method: vss.RestoreMethodIfCanReplace}}}, nil)
	if _, lerr := os.Lstat(w.path("conf/a.conf")); err == nil || !strings.Contains(err.Error(), "mian") || lerr == nil {
		t.Errorf("%v, %v", err, lerr)
	}
}
