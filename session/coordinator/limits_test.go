package coordinator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/sessiontest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// TestHeldTooLong: a writer that is not thawed within its own limit is let go at
// that limit, not when the others are, and is out alone with
// VSS_E_WRITERERROR_TIMEOUT.
func TestHeldTooLong(t *testing.T) {
	r := newRig(t, "short", "long")
	short, long := r.writers[0], r.writers[1]
	short.Description.FreezeTimeout = 2 * time.Second
	var letGo atomic.Bool
	short.On[writer.EventAbort] = sessiontest.Behaviour{Do: func(context.Context, *writer.Event) error {
		letGo.Store(true)
		return nil
	}}
	r.o.Limits = session.Limits{Hold: 30 * time.Second}
	r.prov.at = func(step string) error {
		if step != "Commit" {
			return nil
		}
		for end := time.Now().Add(20 * time.Second); !letGo.Load() && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		if !letGo.Load() {
			t.Error("it is still frozen long after its limit")
		}
		return nil
	}
	must(t, r.to("DoSnapshotSet"))
	r.wantFailed(short, vss.WriterFailedAtThaw, vss.ErrWriterErrorTimeout)
	if st := r.status(long); st.State != vss.WriterWaitingForBackupComplete {
		t.Errorf("the other writer: %v, %s", st.State, st.Message)
	}
	if n := r.log.Count("short", writer.EventThaw); n != 0 {
		t.Errorf("it got Thaw %d times after Abort", n)
	}
}

// TestFreezeLeavesRoomForTheHold: what a writer of a later level takes to freeze
// must not use up the limits of those frozen already.
func TestFreezeLeavesRoomForTheHold(t *testing.T) {
	r := newRig(t, "front", "back")
	front, back := r.writers[0], r.writers[1]
	back.Level = vss.LevelBackEnd
	back.On[writer.EventFreeze] = sessiontest.Behaviour{Hang: true}
	r.o.Limits = session.Limits{Writer: 6 * time.Second, Hold: 3 * time.Second}
	must(t, r.to("DoSnapshotSet"))
	r.wantFailed(back, vss.WriterFailedAtFreeze, vss.ErrWriterErrorTimeout)
	if st := r.status(front); st.State != vss.WriterWaitingForBackupComplete {
		t.Errorf("the writer frozen before: %v, %s", st.State, st.Message)
	}
}

// TestThawThatHangsHoldsNobodyElse: a writer that hangs in Thaw is out alone;
// those of the levels thawed after its own are not held until its time is up.
func TestThawThatHangsHoldsNobodyElse(t *testing.T) {
	r := newRig(t, "front", "back")
	front, back := r.writers[0], r.writers[1]
	back.Level = vss.LevelBackEnd // thawed first
	back.On[writer.EventThaw] = sessiontest.Behaviour{Hang: true}
	var after time.Duration
	var thawing time.Time
	r.prov.at = func(step string) error {
		if step == "Commit" {
			thawing = time.Now()
		}
		return nil
	}
	front.On[writer.EventThaw] = sessiontest.Behaviour{Do: func(context.Context, *writer.Event) error {
		after = time.Since(thawing)
		return nil
	}}
	r.o.Limits = session.Limits{Writer: 6 * time.Second, Hold: 3 * time.Second}
	must(t, r.to("DoSnapshotSet"))
	r.wantFailed(back, vss.WriterFailedAtThaw, vss.ErrWriterErrorTimeout)
	if st := r.status(front); st.State != vss.WriterWaitingForBackupComplete {
		t.Errorf("the writer thawed after it: %v, %s", st.State, st.Message)
	}
	if after > 4*time.Second {
		t.Errorf("it was held for %v after the commit", after)
	}
}

// TestMovedFilesPutTheirWriterOut: a file that changed while it was copied is
// worth nothing, and its writer alone is out; where a provider names no more,
// nobody in that copy is believed.
func TestMovedFilesPutTheirWriterOut(t *testing.T) {
	for _, tt := range []struct {
		n    int
		both bool
	}{{1, false}, {provider.MaxMoved, true}} {
		t.Run(fmt.Sprint(tt.n), func(t *testing.T) {
			r := newRig(t, "bad", "good")
			bad, good := r.writers[0], r.writers[1]
			r.prov.copied = func(c *provider.Copied) {
				loc, err := r.s.ResolvePath(deadline(t), filepath.Join(bad.Dir, "f"))
				if err != nil {
					t.Error(err)
				}
				c.Moved = slices.Repeat([]string{loc.Name}, tt.n)
			}
			must(t, r.to("DoSnapshotSet"))
			r.wantFailed(bad, vss.WriterFailedAtThaw, vss.ErrWriterErrorInconsistentSnapshot)
			if out := r.status(good).State == vss.WriterFailedAtThaw; out != tt.both {
				t.Errorf("the other writer is out: %v, want %v", out, tt.both)
			}
		})
	}
	t.Run("unless nothing was frozen", func(t *testing.T) {
		r := newRig(t, "one")
		r.o.NoFreeze = true
		r.prov.copied = func(c *provider.Copied) {
			loc, _ := r.s.ResolvePath(deadline(t), filepath.Join(r.writers[0].Dir, "f"))
			c.Moved = []string{loc.Name}
		}
		must(t, r.to("DoSnapshotSet"))
		if st := r.status(r.writers[0]); st.State != vss.WriterWaitingForBackupComplete {
			t.Errorf("%v: %s", st.State, st.Message)
		}
		if rc := r.receipt(r.writers[0]); rc.Stillness != "not frozen" {
			t.Errorf("receipt %+v", rc)
		}
	})
}

// TestProgressHoldsNobodyUp: a receiver of progress that does not return delays
// neither Thaw nor the call by more than a moment.
func TestProgressHoldsNobodyUp(t *testing.T) {
	r := newRig(t, "one")
	must(t, r.to("PrepareForBackup"))
	stuck := make(chan struct{})
	defer close(stuck)
	done := make(chan error, 1)
	go func() { done <- r.s.DoSnapshotSet(deadline(t), func(session.Step) { <-stuck }) }()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("DoSnapshotSet waits for the receiver of its progress")
	}
	if r.log.Count("one", writer.EventThaw) != 1 {
		t.Errorf("events %v", r.log.Of("one"))
	}
}

// TestProgressIsInOrderAndComplete before the call returns.
func TestProgressIsInOrderAndComplete(t *testing.T) {
	r := newRig(t, "one")
	must(t, r.to("PrepareForBackup"))
	var got []string
	must(t, r.s.DoSnapshotSet(deadline(t), func(st session.Step) {
		if st.Done {
			got = append(got, st.Event)
		}
	}))
	want := []string{"Prepare", "PrepareForSnapshot", "Freeze", "Commit", "Thaw", "PostSnapshot"}
	if !slices.Equal(got, want) {
		t.Errorf("steps ended: %v, want %v", got, want)
	}
}

// TestCloseWhileProviderHangs: neither Close nor AbortBackup waits for a provider
// that does not come back, whatever step it is in.
func TestCloseWhileProviderHangs(t *testing.T) {
	for _, at := range []string{"BeginPrepare", "EndPrepare", "Commit", "PostCommit"} {
		t.Run(at, func(t *testing.T) {
			r := newRig(t, "one")
			hanging, free := make(chan struct{}), make(chan struct{})
			r.prov.at = func(step string) error {
				if step == at {
					close(hanging)
					<-free
				}
				return nil
			}
			call, before := "DoSnapshotSet", "PrepareForBackup"
			if at == "BeginPrepare" {
				call, before = "AddToSnapshotSet", "StartSnapshotSet"
			}
			must(t, r.to(before))
			done := make(chan error, 1)
			go func() { done <- r.from(before, call) }()
			<-hanging
			closed := make(chan error, 1)
			go func() { closed <- r.s.Close() }()
			for _, c := range []chan error{done, closed} {
				select {
				case <-c:
				case <-time.After(30 * time.Second):
					t.Fatal("it waits for the provider")
				}
			}
			if r.log.Count("one", writer.EventFreeze) > r.log.Count("one", writer.EventThaw)+r.log.Count("one", writer.EventAbort) {
				t.Errorf("still frozen: %v", r.log.Of("one"))
			}
			close(free)
			// What is left when the call comes back goes then, or with the
			// next start.
			within(t, 10*time.Second, "the copy goes", func() bool { return len(copies(r.o.StateDir, r.dir)) == 0 })
			next := newRig(t)
			next.o.StateDir = r.o.StateDir
			must(t, next.to("StartSnapshotSet"))
			must(t, next.s.Close())
			if l := left(r.o.StateDir, r.dir); len(l) > 0 {
				t.Errorf("left after the next run: %v", l)
			}
		})
	}
}

// copies is what left gives without the journal.
func copies(state, dir string) []string {
	return slices.DeleteFunc(left(state, dir), func(p string) bool { return filepath.Dir(p) == filepath.Join(state, "journal") })
}

// TestCancelledAtEachStep: a context that ends in any call ends it, lets
// everything go, and leaves nothing behind once the session is closed.
func TestCancelledAtEachStep(t *testing.T) {
	at := map[string]writer.EventKind{"PrepareForBackup": writer.EventPrepareForBackup, "PrepareForSnapshot": writer.EventPrepareForSnapshot,
		"Freeze": writer.EventFreeze, "PostSnapshot": writer.EventPostSnapshot, "BackupComplete": writer.EventBackupComplete,
		"EndPrepare": 0, "PreCommit": 0, "Commit": 0, "PostCommit": 0}
	for step, kind := range at {
		t.Run(step, func(t *testing.T) {
			r := newRig(t, "one", "two")
			c, cancel := context.WithCancel(deadline(t))
			if kind != 0 {
				r.writers[0].On[kind] = sessiontest.Behaviour{Do: func(c context.Context, _ *writer.Event) error {
					cancel()
					<-c.Done()
					return c.Err()
				}}
			}
			r.prov.at = func(s string) error {
				if s == step {
					cancel()
				}
				return nil
			}
			var err error
			for _, st := range r.steps(c) {
				if err = st.do(); err != nil {
					break
				}
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want %v", err, context.Canceled)
			}
			must(t, r.s.Close())
			for _, w := range r.writers {
				if n := r.log.Count(w.Name, writer.EventFreeze); n > r.log.Count(w.Name, writer.EventThaw)+r.log.Count(w.Name, writer.EventAbort) {
					t.Errorf("%s is still frozen: %v", w.Name, r.log.Of(w.Name))
				}
				if r.log.Count(w.Name, writer.EventBackupShutdown) != 1 {
					t.Errorf("%s: no BackupShutdown: %v", w.Name, r.log.Of(w.Name))
				}
			}
			if l := left(r.o.StateDir, r.dir); len(l) > 0 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
}

// TestOneSetAtATime: while one session has a set another cannot begin one, in
// this process or in another.
func TestOneSetAtATime(t *testing.T) {
	r := newRig(t, "one")
	must(t, r.to("StartSnapshotSet"))
	other := newRig(t)
	other.o.StateDir = r.o.StateDir
	if err := other.to("StartSnapshotSet"); !errors.Is(err, vss.ErrSnapshotSetInProgress) {
		t.Errorf("error %v, want %v", err, vss.ErrSnapshotSetInProgress)
	}
	must(t, r.s.Close())
	must(t, other.from("GatherWriterMetadata", "StartSnapshotSet"))
	must(t, other.s.Close())
}

// TestOpeningDoesNotKeepOthersFromWorking: a session that only looks does not
// hold the lock that a set needs.
func TestOpeningDoesNotKeepOthersFromWorking(t *testing.T) {
	r := newRig(t, "one")
	must(t, r.to("GatherWriterMetadata"))
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			s, err := openErr(r.o)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		}
	}()
	for range 20 {
		next := newRig(t)
		next.o.StateDir = r.o.StateDir
		if err := next.to("StartSnapshotSet"); err != nil {
			t.Errorf("while others open sessions: %v", err)
			break
		}
		must(t, next.s.Close())
	}
	close(stop)
	<-stopped
}

// TestSecondAbort does nothing, and neither does one that comes late.
func TestSecondAbort(t *testing.T) {
	r := newRig(t, "one")
	must(t, r.to("PrepareForBackup"))
	for range 3 {
		must(t, r.s.AbortBackup(deadline(t)))
	}
	must(t, r.s.Close())
	must(t, r.s.AbortBackup(deadline(t)))
	must(t, r.s.Close())
	if a, d := r.log.Count("one", writer.EventAbort), r.log.Count("one", writer.EventBackupShutdown); a != 1 || d != 1 {
		t.Errorf("Abort came %d times and BackupShutdown %d times, want once each", a, d)
	}
}

// hostedRig is a rig with one configured writer in a writer host.
func hostedRig(t *testing.T, c scriptConfig) *rig {
	t.Helper()
	r := newRig(t)
	if c.Dir == "" {
		c.Dir = filepath.Join(r.dir, "hosted")
		must(t, os.Mkdir(c.Dir, 0o755))
		must(t, os.WriteFile(filepath.Join(c.Dir, "f"), []byte("x"), 0o644))
	}
	config, err := json.Marshal(c)
	must(t, err)
	r.o.Options.Writers = []session.WriterConfig{{Kind: "script", Name: "hosted", Config: config}}
	return r
}

// gatherHosted takes the backup to AddComponent with the one hosted writer.
func gatherHosted(t *testing.T, r *rig) vss.GUID {
	t.Helper()
	c := deadline(t)
	must(t, r.to("GatherWriterMetadata"))
	infos, err := r.s.WriterMetadata(c)
	must(t, err)
	if len(infos) != 1 {
		t.Fatalf("%d writers, want 1", len(infos))
	}
	id := infos[0].Instance
	must(t, r.s.AddComponent(c, session.Component{Instance: id, Writer: scriptClass, Type: vss.ComponentTypeFileGroup, Name: "data"}))
	loc, err := r.s.ResolvePath(c, filepath.Join(r.dir, "hosted"))
	must(t, err)
	r.volume = loc.Volume
	r.scope = func(session.Scope) session.Scope {
		return session.Scope{Claims: []provider.Claim{{Writer: id.String(), Files: []provider.FileSet{{Dir: loc.Name, Pattern: "*", Recursive: true}}}}}
	}
	return id
}

func killHost(t *testing.T) {
	pid := children(t, os.Getpid())["test-host"]
	if pid == 0 {
		t.Error("no writer host to kill")
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("kill host: %v", err)
	}
	within(t, 10*time.Second, "the host ends", func() bool { return children(t, os.Getpid())["test-host"] != pid })
}

// TestWriterDiesBetweenEvents: its status says so, and the backup ends well
// without it.
func TestWriterDiesBetweenEvents(t *testing.T) {
	for _, after := range []string{"PrepareForBackup", "DoSnapshotSet", "SetBackupSucceeded"} {
		t.Run(after, func(t *testing.T) {
			r := hostedRig(t, scriptConfig{Dir: ""})
			id := gatherHosted(t, r)
			must(t, r.from("AddComponent", after))
			killHost(t)
			within(t, 10*time.Second, "the loss is noticed", func() bool {
				return statusOf(t, r.s, id).Failure == vss.ErrWriterNotResponding
			})
			st := statusOf(t, r.s, id)
			if st.State != vss.WriterUnknown || st.Event != "" || st.Message == "" {
				t.Errorf("status %+v", st)
			}
			must(t, r.from(after, "BackupComplete"))
			must(t, r.s.Close())
			if l := left(r.o.StateDir, r.dir); len(l) > 0 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
}

// TestWriterDiesFrozen at any point of the hold: if what it held outlives it,
// another writer undoes that soon, though the set goes on.
func TestWriterDiesFrozen(t *testing.T) {
	for _, at := range []string{"PreCommit", "Commit", "Thaw"} {
		t.Run(at, func(t *testing.T) {
			marker := filepath.Join(scratch(t), "frozen")
			c := scriptConfig{Marker: marker}
			if at == "Thaw" {
				c.Exit = at
			}
			r := hostedRig(t, c)
			id := gatherHosted(t, r)
			r.prov.at = func(step string) error {
				if step == at {
					killHost(t)
				}
				return nil
			}
			must(t, r.from("AddComponent", "DoSnapshotSet"))
			within(t, 20*time.Second, "what it held is undone", func() bool {
				_, err := os.Lstat(marker)
				return errors.Is(err, os.ErrNotExist)
			})
			if st := statusOf(t, r.s, id); st.State != vss.WriterFailedAtThaw || st.Failure != vss.ErrWriterNotResponding {
				t.Errorf("status %+v", st)
			}
			must(t, r.from("DoSnapshotSet", "BackupComplete"))
		})
	}
}

// TestSessionsLeaveNothingOpen: descriptors, goroutines and processes of a
// session go with it.
func TestSessionsLeaveNothingOpen(t *testing.T) {
	state := filepath.Join(scratch(t), "state")
	run := func() {
		r := hostedRig(t, scriptConfig{})
		r.o.StateDir = state
		s := open(t, r.o)
		r.s = s
		gatherHosted(t, r)
		must(t, r.from("AddComponent", "DoSnapshotSet"))
		must(t, s.Close())
	}
	count := func() [3]int {
		fds, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return [3]int{len(fds), runtime.NumGoroutine(), len(children(t, os.Getpid()))}
	}
	for range 3 {
		run()
	}
	before := count()
	for range 50 {
		run()
	}
	within(t, 10*time.Second, "the count of descriptors, goroutines and children falls back", func() bool {
		after := count()
		return after[0] <= before[0]+2 && after[1] <= before[1]+5 && after[2] <= before[2]
	})
	if after := count(); t.Failed() {
		t.Errorf("descriptors, goroutines, children: %v before, %v after 50 sessions", before, after)
	}
}
