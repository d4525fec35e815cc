package coordinator_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/voltest"
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/sessiontest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// wide is a writer whose component has files in another directory too.
type wide struct {
	*sessiontest.Script
	other string
}

func (w *wide) Identify(ctx context.Context) (*metadata.WriterMetadata, error) {
	m, err := w.Script.Identify(ctx)
	if err != nil {
		return nil, err
	}
	return m, m.AddFilesToFileGroup("", "data", vss.FileSpec{Path: w.other, Pattern: "*", Recursive: true}, "", vss.DefaultFileSpecBackupType)
}

// TestStillnessSufficesOrProcessesAreStopped is the table of what each stillness
// is worth: where it suffices nobody is stopped; where it does not, the processes
// are, and a writer that names none is refused before anything is frozen.
func TestStillnessSufficesOrProcessesAreStopped(t *testing.T) {
	tests := []struct {
		name      string
		atomic    bool // the volumes are each taken in one operation
		second    bool // another volume is in the set
		spread    bool // the writer declares files there
		stillness writer.Stillness
		stopped   bool
	}{
		{"files still, file by file", false, false, false, writer.FilesStill, false},
		{"files still, two volumes", true, true, true, writer.FilesStill, false},
		{"commits held, one atomic copy", true, false, false, writer.CommitsHeld, false},
		{"commits held, file by file", false, false, false, writer.CommitsHeld, true},
		{"commits held, all its files in one of two", true, true, false, writer.CommitsHeld, false},
		{"commits held, files in both", true, true, true, writer.CommitsHeld, true},
		{"nothing held, one atomic copy", true, false, false, writer.NothingHeld, false},
		{"nothing held, file by file", false, false, false, writer.NothingHeld, true},
		{"nothing held, all its files in one of two", true, true, false, writer.NothingHeld, true},
		{"nothing held, files in both", true, true, true, writer.NothingHeld, true},
		{"nothing held, files outside the set", true, false, true, writer.NothingHeld, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			other := voltest.Tmpfs(t, 16<<20)
			start := func(t *testing.T) *rig {
				r := newRig(t, "one")
				r.prov.caps = func(c *provider.Capabilities) { c.Atomic = tt.atomic }
				if tt.spread {
					r.o.InProcess[0] = &wide{r.writers[0], other.Root}
				}
				return r
			}
			t.Run("processes named", func(t *testing.T) {
				r := start(t)
				w := r.writers[0]
				dir := w.Dir
				if !tt.stopped {
					dir = scratch(t) // the provider here takes no file in one operation
				}
				a := startApp(t, filepath.Join(dir, "data"))
				commitsHeld(w, a.cmd.Process.Pid)
				w.Description.Stillness = tt.stillness
				if held := r.doSet(tt.second, tt.spread, other); (len(held) > 0) != tt.stopped || len(held) > 0 && (held[0].Instance != w.Instance() || held[0].Refusal != "") {
					t.Errorf("foretold: %+v; stopped: %v", held, tt.stopped)
				}
				if st := r.status(w); st.State != vss.WriterWaitingForBackupComplete {
					t.Errorf("%v: %s", st.State, st.Message)
				}
				want := tt.stillness.String()
				if tt.stopped {
					want = writer.FilesStill.String()
				}
				if rc := r.receipt(w); rc.Stopped != tt.stopped || rc.Stillness != want || rc.ReadsPaused != tt.stopped {
					t.Errorf("stopped %v, %q, reads paused %v; want %v, %q", rc.Stopped, rc.Stillness, rc.ReadsPaused, tt.stopped, want)
				}
				a.wantRunning()
			})
			t.Run("none named", func(t *testing.T) {
				r := start(t)
				w := r.writers[0]
				commitsHeld(w)
				w.Description.Stillness = tt.stillness
				if held := r.doSet(tt.second, tt.spread, other); (len(held) > 0) != tt.stopped || len(held) > 0 && !strings.Contains(held[0].Refusal, "names no processes") {
					t.Errorf("foretold: %+v; refused: %v", held, tt.stopped)
				}
				if !tt.stopped {
					if st := r.status(w); st.State != vss.WriterWaitingForBackupComplete {
						t.Errorf("%v: %s", st.State, st.Message)
					}
					return
				}
				r.wantFailed(w, vss.WriterFailedAtPrepareSnapshot, vss.ErrWriterErrorNonRetryable)
				if st := r.status(w); !strings.Contains(st.Message, "names no processes") {
					t.Errorf("message %q", st.Message)
				}
				if n := r.log.Count("one", writer.EventFreeze); n != 0 {
					t.Errorf("it got Freeze %d times", n)
				}
			})
		})
	}
}

// doSet takes a backup to DoSnapshotSet, with another volume in the set where
// that is wanted, and with files of the first writer on it or not. It gives whom
// the estimates said would be stopped.
func (r *rig) doSet(second, claimed bool, other *voltest.Volume) (held []session.HeldWriter) {
	r.t.Helper()
	must(r.t, r.to("AddToSnapshotSet"))
	if second {
		c := deadline(r.t)
		loc, err := r.s.ResolvePath(c, other.Root)
		must(r.t, err)
		all := []provider.FileSet{{Dir: loc.Name, Pattern: "*", Recursive: true}}
		sc := session.Scope{Unclaimed: all}
		if claimed {
			sc = session.Scope{Claims: []provider.Claim{{Writer: r.writers[0].Instance().String(), Files: all}}}
		}
		_, err = r.s.AddToSnapshotSet(c, loc.Volume, vss.GUID{}, sc)
		must(r.t, err)
	}
	list, err := r.s.Estimates(deadline(r.t))
	must(r.t, err)
	for _, e := range list {
		held = append(held, e.Held...)
	}
	must(r.t, r.from("AddToSnapshotSet", "DoSnapshotSet"))
	return held
}

// TestNobodyIsStoppedForOthersFiles: a writer of which nothing is in the set, as in
// a backup of its logs alone beside another's data, is not stopped for it.
func TestNobodyIsStoppedForOthersFiles(t *testing.T) {
	for _, stillness := range []writer.Stillness{writer.CommitsHeld, writer.NothingHeld} {
		t.Run(stillness.String(), func(t *testing.T) {
			r := newRig(t, "logs", "data")
			w := r.writers[0]
			commitsHeld(w)
			w.Description.Stillness = stillness
			r.scope = func(s session.Scope) session.Scope {
				s.Foreign, s.Claims = s.Claims[:1], s.Claims[1:]
				return s
			}
			must(t, r.to("DoSnapshotSet"))
			if st := r.status(w); st.State != vss.WriterWaitingForBackupComplete {
				t.Errorf("%v: %s", st.State, st.Message)
			}
			if rc := r.receipt(w); rc.Stopped || rc.Stillness != stillness.String() {
				t.Errorf("receipt %+v", rc)
			}
		})
	}
}
