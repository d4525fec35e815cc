package requester

import (
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/vss"
)

// leaf is one end of a restore method's tree: what leads there, and what comes
// of it.
type leaf struct {
	name   string // begins with the rule
	method vss.RestoreMethod
	target vss.RestoreTarget // ORIGINAL if zero
	view   RestoreView
	want   Branch
	says   string // of a refusal
	writer bool   // the refusal is the writer's error
}

var (
	nothing = Presence{}
	present = Presence{There: "/f"}
	stuck   = Presence{There: "/f", Blocked: "/f", Why: "busy"}
	// unmakeable: nothing is there, and nothing can be made there.
	unmakeable = Presence{Blocked: "/d/f", Why: "/d is not writable"}
)

func leaves() []leaf {
	const unmapped = "/g"
	return []leaf{
		{name: "R-RES-5 nothing is there", method: vss.RestoreMethodIfNotThere, view: RestoreView{Unmapped: unmapped}, want: BranchOriginal},
		{name: "R-RES-5 nothing is there nor can be made", method: vss.RestoreMethodIfNotThere, view: RestoreView{Original: unmakeable}, says: "/d is not writable"},
		{name: "R-RES-5 R-RES-4 a file has no mapping", method: vss.RestoreMethodIfNotThere,
			view: RestoreView{Original: present, Unmapped: unmapped}, says: "/f is there, and /g has no alternate location mapping"},
		{name: "R-RES-5 R-RES-4 a mapped place cannot be written", method: vss.RestoreMethodIfNotThere,
			view: RestoreView{Original: present, Alternate: unmakeable}, says: "/d/f cannot be replaced"},
		{name: "R-RES-5 D-25 a version is at a mapped place", method: vss.RestoreMethodIfNotThere,
			view: RestoreView{Original: present, Alternate: Presence{There: "/alt/f"}}, says: "so is /alt/f"},
		{name: "R-RES-5 R-RES-4 to the mapped places", method: vss.RestoreMethodIfNotThere, view: RestoreView{Original: present}, want: BranchAlternate},

		{name: "R-RES-6 nothing is there", method: vss.RestoreMethodIfCanReplace, view: RestoreView{Unmapped: unmapped}, want: BranchOriginal},
		{name: "R-RES-6 D-24 all can be replaced, though mappings are defined", method: vss.RestoreMethodIfCanReplace,
			view: RestoreView{Original: present}, want: BranchOriginal},
		{name: "R-RES-6 R-RES-4 a file has no mapping", method: vss.RestoreMethodIfCanReplace,
			view: RestoreView{Original: stuck, Unmapped: unmapped}, says: "busy"},
		{name: "R-RES-6 R-RES-4 a mapped place cannot be written", method: vss.RestoreMethodIfCanReplace,
			view: RestoreView{Original: stuck, Alternate: unmakeable}, says: "at its alternate location /d/f cannot be replaced"},
		{name: "R-RES-6 R-RES-4 a version at a mapped place can be replaced", method: vss.RestoreMethodIfCanReplace,
			view: RestoreView{Original: stuck, Alternate: Presence{There: "/alt/f"}}, want: BranchAlternate},
		{name: "R-RES-6 R-RES-4 to the mapped places", method: vss.RestoreMethodIfCanReplace, view: RestoreView{Original: unmakeable}, want: BranchAlternate},

		{name: "R-RES-7 the service cannot be stopped", method: vss.RestoreMethodStopRestoreStart,
			view: RestoreView{Running: "it does not answer"}, says: "it does not answer"},
		{name: "R-RES-7 all can be replaced", method: vss.RestoreMethodStopRestoreStart, view: RestoreView{Original: present, Unmapped: unmapped}, want: BranchOriginal},
		{name: "R-RES-7 R-RES-4 D-24 a file has no mapping", method: vss.RestoreMethodStopRestoreStart,
			view: RestoreView{Original: stuck, Unmapped: unmapped}, says: "/g has no alternate location mapping"},
		{name: "R-RES-7 R-RES-4 D-24 a mapped place cannot be written", method: vss.RestoreMethodStopRestoreStart,
			view: RestoreView{Original: stuck, Alternate: stuck}, says: "busy"},
		{name: "R-RES-7 R-RES-4 D-24 to the mapped places", method: vss.RestoreMethodStopRestoreStart, view: RestoreView{Original: stuck}, want: BranchAlternate},

		{name: "R-RES-8 all can be replaced", method: vss.RestoreMethodRestoreStopStart, view: RestoreView{Original: present}, want: BranchOriginal},
		{name: "R-RES-8 a file cannot, and mappings do not count", method: vss.RestoreMethodRestoreStopStart, view: RestoreView{Original: stuck}, says: "busy"},
		{name: "R-RES-8 the service runs on", method: vss.RestoreMethodRestoreStopStart, view: RestoreView{Running: "it runs"}, want: BranchOriginal},

		{name: "R-RES-9 R-RES-13 a file has no mapping", method: vss.RestoreMethodToAlternateLocation,
			view: RestoreView{Unmapped: unmapped}, says: "/g has no alternate location mapping", writer: true},
		{name: "R-RES-9 a mapped place cannot be written", method: vss.RestoreMethodToAlternateLocation, view: RestoreView{Alternate: stuck}, says: "busy"},
		{name: "R-RES-9 nothing is at the mapped places", method: vss.RestoreMethodToAlternateLocation, view: RestoreView{Original: present}, want: BranchAlternate},
		{name: "R-RES-9 D-25 what is at a mapped place can be replaced", method: vss.RestoreMethodToAlternateLocation,
			view: RestoreView{Alternate: present}, want: BranchAlternate},

		{name: "R-RES-10", method: vss.RestoreMethodAtReboot, view: RestoreView{Unmapped: unmapped}, want: BranchReboot},
		{name: "R-RES-10 what cannot be replaced now can be then", method: vss.RestoreMethodAtReboot, view: RestoreView{Original: stuck}, want: BranchReboot},
		{name: "R-RES-10 the host has no such thing", method: vss.RestoreMethodAtReboot, view: RestoreView{NoReboot: "no systemd"}, says: "no systemd"},

		{name: "R-RES-11 nothing is there", method: vss.RestoreMethodAtRebootIfCannotReplace, want: BranchOriginal},
		{name: "R-RES-11 all can be replaced", method: vss.RestoreMethodAtRebootIfCannotReplace,
			view: RestoreView{Original: present, NoReboot: "no systemd"}, want: BranchOriginal},
		{name: "R-RES-11 a file cannot, and mappings do not count", method: vss.RestoreMethodAtRebootIfCannotReplace,
			view: RestoreView{Original: stuck}, want: BranchReboot},
		{name: "R-RES-11 the host has no such thing", method: vss.RestoreMethodAtRebootIfCannotReplace,
			view: RestoreView{Original: stuck, NoReboot: "no systemd"}, says: "no systemd"},

		{name: "R-RES-12", method: vss.RestoreMethodCustom, says: "see https://example.org/how"},
		{name: "R-RES-13", method: vss.RestoreMethodUndefined, says: "error of the writer", writer: true},
		{name: "R-RES-13 a method that is none", method: 77, says: "which is none", writer: true},

		{name: "R-RES-17 ALTERNATE, a file has no mapping", method: vss.RestoreMethodIfCanReplace, target: vss.RestoreTargetAlternate,
			view: RestoreView{Unmapped: unmapped}, says: "/g has no alternate location mapping", writer: true},
		{name: "R-RES-17 ALTERNATE, a mapped place cannot be written", method: vss.RestoreMethodIfCanReplace, target: vss.RestoreTargetAlternate,
			view: RestoreView{Alternate: stuck}, says: "busy"},
		{name: "R-RES-17 ALTERNATE", method: vss.RestoreMethodIfNotThere, target: vss.RestoreTargetAlternate,
			view: RestoreView{Alternate: present}, want: BranchAlternate},
		{name: "R-RES-17 ORIGINAL_LOCATION", method: vss.RestoreMethodToAlternateLocation, target: vss.RestoreTargetOriginalLocation,
			view: RestoreView{Original: present, Unmapped: unmapped}, want: BranchOriginal},
		{name: "R-RES-17 ORIGINAL_LOCATION, replaces", method: vss.RestoreMethodIfNotThere, target: vss.RestoreTargetOriginalLocation,
			view: RestoreView{Original: present}, want: BranchOriginal},
		{name: "R-RES-17 ORIGINAL_LOCATION, a file cannot be replaced", method: vss.RestoreMethodIfCanReplace, target: vss.RestoreTargetOriginalLocation,
			view: RestoreView{Original: stuck}, says: "busy"},
		{name: "R-RES-17 DIRECTED", method: vss.RestoreMethodIfNotThere, target: vss.RestoreTargetDirected, view: RestoreView{Original: stuck}, want: BranchDirected},
		{name: "R-RES-16 a target beats a method that is none", method: vss.RestoreMethodUndefined, target: vss.RestoreTargetOriginalLocation, want: BranchOriginal},
		{name: "R-RES-16 UNDEFINED is the writer's error", method: vss.RestoreMethodIfCanReplace, target: 99, says: "which is none", writer: true},
		{name: "R-RES-16 R-RES-7 the service is stopped whatever the target", method: vss.RestoreMethodStopRestoreStart,
			target: vss.RestoreTargetOriginalLocation, view: RestoreView{Running: "it does not answer"}, says: "it does not answer"},
		{name: "R-RES-16 AT_REBOOT has its own way", method: vss.RestoreMethodAtReboot, target: vss.RestoreTargetOriginalLocation, want: BranchReboot},
		{name: "R-RES-16 AT_REBOOT_IF_CANNOT_REPLACE has its own way", method: vss.RestoreMethodAtRebootIfCannotReplace,
			target: vss.RestoreTargetDirected, view: RestoreView{Original: stuck}, want: BranchReboot},
		{name: "R-RES-16 CUSTOM has its own way", method: vss.RestoreMethodCustom, target: vss.RestoreTargetOriginalLocation, says: "documented way"},
	}
}

func TestDecideLeaves(t *testing.T) {
	for _, l := range leaves() {
		t.Run(l.name, func(t *testing.T) {
			m := RestoreMethod{Given: true, Method: l.method, Service: "app", Procedure: "https://example.org/how"}
			target := l.target
			switch target {
			case 0:
				target = vss.RestoreTargetOriginal
			case 99:
				target = vss.RestoreTargetUndefined
			}
			d := Decide(m, target, l.view)
			if d.Branch != l.want || d.WriterError != l.writer || !strings.Contains(d.Refusal, l.says) {
				t.Errorf("%+v, want %v, %q", d, l.want, l.says)
			}
			if (d.Branch == BranchRefused) != (d.Refusal != "") || (l.want == BranchRefused) != (l.says != "") {
				t.Errorf("%+v: a refusal and nothing else has a reason", d)
			}
		})
	}
}

// What is not needed for a decision need not be looked at: with any value of it
// the decision is the same.
func TestDecideNeedsOnlyWhatItSays(t *testing.T) {
	places := []Presence{nothing, present, stuck, unmakeable}
	for method := vss.RestoreMethodUndefined; method <= vss.RestoreMethodRestoreStopStart; method++ {
		for target := vss.RestoreTargetUndefined; target <= vss.RestoreTargetOriginalLocation; target++ {
			m := RestoreMethod{Given: true, Method: method}
			for _, original := range places {
				base := RestoreView{Original: original}
				want := Decide(m, target, base)
				for _, alternate := range places {
					for _, unmapped := range []string{"", "/g"} {
						v := base
						v.Alternate, v.Unmapped = alternate, unmapped
						if got := Decide(m, target, v); got != want && !m.UsesMappings(target) {
							t.Errorf("%v, %v uses mappings and does not say so: %+v", method, target, got)
						}
					}
				}
				v := base
				v.NoReboot = "no"
				if got := Decide(m, target, v); got != want && !m.UsesReboot() {
					t.Errorf("%v, %v stages files and does not say so: %+v", method, target, got)
				}
				v = base
				v.Running = "yes"
				if got := Decide(m, target, v); got != want && m.ServiceUse() != ServiceStopFirst {
					t.Errorf("%v, %v stops a service and does not say so: %+v", method, target, got)
				}
			}
		}
	}
}

func TestDecideWithoutMethodR_RES_37(t *testing.T) {
	for _, v := range []RestoreView{{}, {Original: present}, {Original: present, Running: "x", Unmapped: "/g", NoReboot: "x"}} {
		if d := Decide(RestoreMethod{}, vss.RestoreTargetOriginal, v); d.Branch != BranchOriginal {
			t.Errorf("%+v: %+v", v, d)
		}
	}
	if d := Decide(RestoreMethod{}, vss.RestoreTargetOriginal, RestoreView{Original: stuck}); d.Branch != BranchRefused {
		t.Errorf("blocked: %+v", d)
	}
}

func TestServiceUseR_RES_36(t *testing.T) {
	for method := vss.RestoreMethodUndefined; method <= vss.RestoreMethodRestoreStopStart; method++ {
		want := map[vss.RestoreMethod]ServiceUse{vss.RestoreMethodStopRestoreStart: ServiceStopFirst,
			vss.RestoreMethodRestoreStopStart: ServiceRestartAfter}[method]
		if got := (RestoreMethod{Given: true, Method: method, Service: "s"}).ServiceUse(); got != want {
			t.Errorf("%v: %v, want %v", method, got, want)
		}
	}
}
