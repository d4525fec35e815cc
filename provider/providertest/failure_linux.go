package providertest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

func testOrder(t *testing.T, f *fixture) {
	f.populate(t)
	m := f.begin(t, f.request())
	for i, due := range steps {
		for _, s := range steps {
			early := s != due && !(i == 1 && s == "Estimate") && !(i == 0 && s == "EndPrepare")
			if early {
				wantCode(t, s+" when "+due+" is due", m.do(t, s), vss.ErrBadState)
			}
		}
		m.must(t, due)
	}
	for _, s := range steps {
		wantCode(t, s+" after PostCommit", m.do(t, s), vss.ErrBadState)
	}
	must(t, m.snap.Abort(t.Context()))
	f.nothingLeft(t, "after Abort")
}

func testAbort(t *testing.T, f *fixture) {
	f.populate(t)
	for n := range len(steps) + 1 {
		m := f.begin(t, f.request())
		m.must(t, steps[:n]...)
		for range 2 {
			must(t, m.snap.Abort(t.Context()))
			f.nothingLeft(t, "Abort after "+strings.Join(steps[:n], ", "))
		}
		for _, s := range steps {
			wantCode(t, s+" after Abort", m.do(t, s), vss.ErrBadState)
		}
		f.nothingLeft(t, "steps after Abort")
	}
}

func testAbortRunning(t *testing.T, f *fixture) {
	f.populate(t)
	f.write(t, "data/large", strings.Repeat("0123456789abcdef", 1<<20))
	for i := range 20 {
		m := f.begin(t, f.request())
		done := make(chan error)
		go func() {
			for _, s := range steps {
				if err := m.do(t, s); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		time.Sleep(time.Duration(i*i) * 500 * time.Microsecond)
		must(t, m.snap.Abort(t.Context()))
		if err := <-done; err != nil && !errors.Is(err, vss.ErrBadState) {
			t.Errorf("aborted: %v, want VSS_E_BAD_STATE", err)
		}
		must(t, m.snap.Abort(t.Context()))
		f.nothingLeft(t, "Abort while a step ran")
	}
}

// testDeath forgets a copy at every step, as a process that dies does, and
// deletes it with nothing but its Ref.
func testDeath(t *testing.T, f *fixture) {
	f.populate(t)
	for n := range len(steps) + 1 {
		req := f.request()
		// Not begin: the test's clean-up must not abort what died.
		s, err := f.p.BeginPrepare(t.Context(), req)
		must(t, err)
		m := &making{fixture: f, req: req, snap: s}
		m.must(t, steps[:n]...)
		for range 2 {
			must(t, f.h.New().Delete(t.Context(), req.Ref))
			f.nothingLeft(t, "Delete after "+strings.Join(steps[:n], ", "))
		}
		must(t, s.Abort(t.Context())) // only frees what this process holds
	}
}

func testDeleteNothing(t *testing.T, f *fixture) {
	req := f.request()
	must(t, f.p.Delete(t.Context(), req.Ref))
	f.nothingLeft(t, "Delete of a copy never begun")
	// Another copy beside it stays.
	f.populate(t)
	m := f.prepared(t, f.request())
	c := m.finish(t)
	must(t, f.p.Delete(t.Context(), req.Ref))
	if _, err := os.Stat(filepath.Join(c.Root, "data/plain")); err != nil {
		t.Errorf("Delete of another copy took this one: %v", err)
	}
}

func testLocate(t *testing.T, f *fixture) {
	f.populate(t)
	req := f.request()
	locate := func() (provider.Copied, error) { return f.h.New().Locate(t.Context(), req.Ref) }
	_, err := locate()
	wantCode(t, "Locate before BeginPrepare", err, vss.ErrObjectNotFound)
	m := f.prepared(t, req)
	_, err = locate()
	wantCode(t, "Locate before Commit", err, vss.ErrObjectNotFound)
	c := m.finish(t)
	got, err := locate()
	if err != nil || got.Root != c.Root {
		t.Errorf("Locate: %q, %v; PostCommit said %q", got.Root, err, c.Root)
	}
	must(t, f.h.New().Delete(t.Context(), req.Ref))
	_, err = locate()
	wantCode(t, "Locate after Delete", err, vss.ErrObjectNotFound)
}

// needFill skips a test on a volume that cannot be filled.
func (f *fixture) needFill(t *testing.T) {
	t.Helper()
	if f.v.Fill == nil {
		t.Skip("this harness cannot fill the volume")
	}
}

func testNoRoom(t *testing.T, f *fixture) {
	f.needFill(t)
	f.populate(t)
	f.v.Fill(t, 1<<20)
	m := f.begin(t, f.request())
	wantCode(t, "Estimate on a full volume", m.do(t, "Estimate"), vss.ErrInsufficientStorage)
	must(t, m.snap.Abort(t.Context()))
	f.nothingLeft(t, "Estimate on a full volume")
	m = f.begin(t, f.request())
	wantCode(t, "EndPrepare on a full volume", m.do(t, "EndPrepare"), vss.ErrInsufficientStorage)
	must(t, m.snap.Abort(t.Context()))
	f.nothingLeft(t, "EndPrepare on a full volume")
	f.v.Empty(t)
	m = f.begin(t, f.request())
	m.must(t, "Estimate", "EndPrepare")
	m.finish(t)
}

func testRoomLost(t *testing.T, f *fixture) {
	f.needFill(t)
	f.populate(t)
	req := f.request()
	m := f.prepared(t, req)
	f.v.Fill(t, 0)
	// What cannot be copied any more, if files are copied at all. On a full
	// volume only a file that takes no room itself can be made longer.
	for i := range 200 {
		os.Truncate(f.path("data/sparse"), 20<<20+int64(i))
	}
	must(t, m.do(t, "PreCommit"))
	wantCode(t, "Commit on a volume filled meanwhile", m.do(t, "Commit"), vss.ErrInsufficientStorage)
	wantCode(t, "PostCommit after that", m.do(t, "PostCommit"), vss.ErrBadState)
	must(t, m.snap.Abort(t.Context()))
	f.v.Empty(t)
	f.nothingLeft(t, "Abort after room was lost")
}

func testHoldLimit(t *testing.T, f *fixture) {
	f.populate(t)
	for _, step := range []string{"Estimate", "EndPrepare"} {
		req := f.request()
		req.HoldLimit = time.Nanosecond
		m := f.begin(t, req)
		wantCode(t, step+" with a hold limit out of reach", m.do(t, step), vss.ErrHoldWritesTimeout)
		must(t, m.snap.Abort(t.Context()))
		f.nothingLeft(t, step+" with a hold limit out of reach")
	}
}

func testContext(t *testing.T, f *fixture) {
	f.populate(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.p.Supports(ended, f.v.Volume, f.v.Area); !errors.Is(err, context.Canceled) {
		t.Errorf("Supports: %v, want context.Canceled", err)
	}
	if _, err := f.p.BeginPrepare(ended, f.request()); !errors.Is(err, context.Canceled) {
		t.Errorf("BeginPrepare: %v, want context.Canceled", err)
	}
	f.nothingLeft(t, "an ended context")
	for n := range steps {
		m := f.begin(t, f.request())
		m.must(t, steps[:n]...)
		var err error
		switch steps[n] {
		case "Estimate":
			_, err = m.snap.Estimate(ended)
		case "EndPrepare":
			err = m.snap.EndPrepare(ended)
		case "PreCommit":
			err = m.snap.PreCommit(ended)
		case "Commit":
			err = m.snap.Commit(ended)
		case "PostCommit":
			_, err = m.snap.PostCommit(ended)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", steps[n], err)
		}
		must(t, m.snap.Abort(t.Context()))
		f.nothingLeft(t, steps[n]+" with an ended context")
	}
}

func testArea(t *testing.T, f *fixture) {
	f.populate(t)
	old := unix.Umask(0)
	defer unix.Umask(old)
	m := f.prepared(t, f.request())
	m.finish(t)
	var st unix.Stat_t
	must(t, unix.Lstat(f.v.Area, &st))
	if st.Mode != unix.S_IFDIR|0o700 || int(st.Uid) != os.Geteuid() {
		t.Errorf("the area has mode %o and owner %d, want 40700 and %d", st.Mode, st.Uid, os.Geteuid())
	}
	must(t, m.snap.Abort(t.Context()))
	f.nothingLeft(t, "Abort")

	// Somebody put something else in its place: before, so that another way
	// must be found while there is time, or in the last moment.
	elsewhere := f.path("elsewhere")
	must(t, os.Mkdir(elsewhere, 0o777))
	places := map[string]func(){
		"a link": func() { must(t, os.Symlink(elsewhere, f.v.Area)) },
		"a file": func() { must(t, os.WriteFile(f.v.Area, nil, 0o600)) },
		"a pipe": func() { must(t, unix.Mkfifo(f.v.Area, 0o600)) },
	}
	if os.Geteuid() == 0 {
		places["somebody else's directory"] = func() {
			must(t, os.Mkdir(f.v.Area, 0o777))
			must(t, os.Chown(f.v.Area, 1234, 1234))
		}
	}
	for what, put := range places {
		m = f.begin(t, f.request())
		put()
		_, err := f.p.Supports(t.Context(), f.v.Volume, f.v.Area)
		wantCode(t, "Supports with "+what+" where the area would be", err, vss.ErrVolumeNotSupportedByProvider)
		if err == nil || !strings.Contains(err.Error(), "move it away") || !strings.Contains(err.Error(), f.v.Area) {
			t.Errorf("%s: %v; want the path and the way out", what, err)
		}
		if err := m.do(t, "EndPrepare"); err == nil {
			t.Errorf("%s is used as an area", what)
		} else if vss.CodeOf(err) == vss.ErrUnexpected {
			t.Errorf("an error without a code: %v", err)
		}
		m.snap.Abort(t.Context()) // can say only that it may not look
		if left, err := os.ReadDir(elsewhere); err != nil || len(left) != 0 {
			t.Errorf("behind %s lies %v, %v", what, left, err)
		}
		must(t, os.Remove(f.v.Area))
	}
}
