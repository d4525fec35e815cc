package hold

import (
	"testing"
	"time"
)

func TestStopHoldsBusyProcessesAndResumeLetsThemGo(t *testing.T) {
	list := startBusy(t, 16, 1)
	k := startKeeper(t, Options{})
	for range 5 {
		s, err := k.Stop(t.Context(), pids(list))
		if err != nil {
			t.Fatal(err)
		}
		if s.Method != Ptrace || len(s.PIDs) != 16 || s.Tasks < 16 {
			t.Errorf("stopped %+v, want 16 processes by ptrace", s)
		}
		t.Logf("%d tasks stopped in %v", s.Tasks, s.Took.Round(10*time.Microsecond))
		mustRest(t, list, "while held")
		if err := k.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		allRun(t, list, "after Resume")
	}
}
