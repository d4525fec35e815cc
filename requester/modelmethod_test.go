package requester

import (
	"fmt"
	"testing"

	"github.com/sombra-backup/sombra/requester/internal/model"
	"github.com/sombra-backup/sombra/vss"
)

// TestMethodsAgainstModel compares restore decisions with the model, for random
// sets of files at random places: R-RES-2 to R-RES-17.
func TestMethodsAgainstModel(t *testing.T) {
	r, runs := seeded(t, 200_000)
	ways := map[model.Way]int{}
	for run := range runs {
		s := model.Scene{Method: vss.RestoreMethod(r.IntN(int(vss.RestoreMethodRestoreStopStart) + 1)),
			Target: vss.RestoreTarget(r.IntN(int(vss.RestoreTargetOriginalLocation) + 1)), ServiceRuns: r.IntN(4) == 0, NoReboot: r.IntN(4) == 0}
		if r.IntN(2) == 0 {
			s.Target = vss.RestoreTargetOriginal
		}
		there, free, mapped := r.IntN(4), r.IntN(8), r.IntN(8)
		spot := func() model.Spot { return model.Spot{There: r.IntN(4) < there, Free: r.IntN(8) <= free} }
		for range r.IntN(5) {
			f := model.Restored{Original: spot()}
			if r.IntN(8) <= mapped {
				at := spot()
				f.Mapped = &at
			}
			s.Files = append(s.Files, f)
		}
		m := RestoreMethod{Given: true, Method: s.Method, Service: "s"}
		got := Decide(m, s.Target, view(s))
		want := s.Way()
		ways[want]++
		if got.Branch.String() != string(want) || (got.Branch == BranchRefused) != (got.Refusal != "") {
			t.Fatalf("run %d: %v, target %v, files %s, service runs %v, no reboot %v: %+v, want %s",
				run, s.Method, s.Target, scenery(s.Files), s.ServiceRuns, s.NoReboot, got, want)
		}
	}
	t.Logf("%d decisions: %v", runs, ways)
}

func scenery(files []model.Restored) (out string) {
	for _, f := range files {
		out += fmt.Sprintf("[%+v", f.Original)
		if f.Mapped != nil {
			out += fmt.Sprintf(" mapped %+v", *f.Mapped)
		}
		out += "]"
	}
	return out
}

// view is what the requester sees of a scene.
func view(s model.Scene) (v RestoreView) {
	see := func(p *Presence, at model.Spot, name string) {
		if at.There && p.There == "" {
			p.There = name
		}
		if !at.Free && p.Blocked == "" {
			p.Blocked, p.Why = name, "busy"
		}
	}
	for i, f := range s.Files {
		name := fmt.Sprint("/f", i)
		see(&v.Original, f.Original, name)
		if f.Mapped == nil {
			v.Unmapped = name
		} else {
			see(&v.Alternate, *f.Mapped, "/alt"+name)
		}
	}
	if s.ServiceRuns {
		v.Running = "it does not answer"
	}
	if s.NoReboot {
		v.NoReboot = "no service manager"
	}
	return v
}
