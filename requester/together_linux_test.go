package requester_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// around is a session whose target is wrapped.
type around struct {
	session.Session
	wrap func(session.Target) session.Target
}

func (a *around) Target(ctx context.Context, dir string, roots []string) (session.Target, error) {
	t, err := a.Session.Target(ctx, dir, roots)
	if err != nil {
		return nil, err
	}
	return a.wrap(t), nil
}

func (w *world) restoreThrough(d *docWriter, res *requester.Result, r requester.RestoreRequest, wrap func(session.Target) session.Target) (*requester.RestoreResult, error) {
	w.t.Helper()
	w.writers = []*docWriter{d}
	return requester.Restore(w.t.Context(), func(ctx context.Context) (session.Session, error) {
		s, err := w.open(ctx)
		if err != nil {
			return nil, err
		}
		return &around{s, wrap}, nil
	}, w.repo, res.Record, r, nil)
}

// stubborn fails for one name: to make a new file, or to give it its name.
type stubborn struct {
	session.Target
	create, commit string
}

var errStubborn = errors.New("the disk says no")

func (s *stubborn) Create(ctx context.Context, name string) (session.NewFile, error) {
	if s.create != "" && path.Base(name) == s.create {
		return nil, errStubborn
	}
	n, err := s.Target.Create(ctx, name)
	if err == nil && s.commit != "" && path.Base(name) == s.commit {
		return unnamed{n}, nil
	}
	return n, err
}

type unnamed struct{ session.NewFile }

func (unnamed) Commit(context.Context, session.Entry) error { return errStubborn }

func manyWorld(t *testing.T) (*world, *docWriter) {
	t.Helper()
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c", "d", "empty"} {
		w.write("app/"+name, strings.TrimPrefix("saved "+name, "saved empty"))
	}
	if err := os.Symlink("a", w.path("app/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(w.path("app/a"), w.path("app/also a")); err != nil {
		t.Fatal(err)
	}
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "main", true), files(m, "", "main", w.path("app"), "*", true)}
	})
	w.writers = []*docWriter{d}
	return w, d
}

// R-RES-15: a file that cannot be written leaves the others of its set as they
// were; the writer is told that nothing was written.
func TestSetIsNotHalfReplacedR_RES_15(t *testing.T) {
	w, d := manyWorld(t)
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	for _, name := range []string{"a", "b", "c", "d"} {
		w.write("app/"+name, "now "+name)
	}
	if err := os.Chmod(w.path("app"), 0o750); err != nil {
		t.Fatal(err)
	}
	now := tree(t, w.dir)
	d = d.again()
	main := requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{"main"}}}
	back, err := w.restoreThrough(d, res, main, func(t session.Target) session.Target { return &stubborn{Target: t, create: "c"} })
	if err != nil || back.Outcome != requester.Incomplete || d.status["main"] != vss.FileRestoreStatusNone || back.Components[0].Succeeded {
		t.Errorf("outcome %v, status %v, %v, %+v", back.Outcome, d.status["main"], err, back.Components)
	}
	diffTrees(t, tree(t, w.dir), now)
	if !slices.ContainsFunc(back.Failures, func(f requester.Failure) bool {
		return strings.HasSuffix(f.Path, "app/c") && strings.Contains(f.Error, errStubborn.Error())
	}) {
		t.Errorf("failures %+v", back.Failures)
	}
	d = d.again()
	back, err = w.restoreThrough(d, res, main, func(t session.Target) session.Target { return t })
	if err != nil || back.Outcome != requester.Complete || d.status["main"] != vss.FileRestoreStatusAll {
		t.Errorf("again: outcome %v, status %v, %v, %+v", back.Outcome, d.status["main"], err, back.Failures)
	}
	diffTrees(t, tree(t, w.dir), before)
}

// R-RES-32: what is half written is said to be corrupt, never ok.
func TestHalfWrittenSetIsSaidToBeCorruptR_RES_32(t *testing.T) {
	w, d := manyWorld(t)
	res := w.backup(w.paths())
	for _, name := range []string{"a", "b", "c", "d"} {
		w.write("app/"+name, "now "+name)
	}
	d = d.again()
	back, err := w.restoreThrough(d, res, requester.RestoreRequest{}, func(t session.Target) session.Target { return &stubborn{Target: t, commit: "c"} })
	if err != nil || back.Outcome != requester.Incomplete || d.status["main"] != vss.FileRestoreStatusFailed ||
		back.Components[0].Succeeded || !strings.Contains(back.Components[0].Error, "corrupt") {
		t.Errorf("outcome %v, status %v, %v, %+v", back.Outcome, d.status["main"], err, back.Components)
	}
}

// A restore of IF_NOT_THERE that was stopped half-way can be run again: files that
// are the very ones to be restored do not count as there.
func TestIfNotThereCanBeRunAgainR_RES_5(t *testing.T) {
	w, d := manyWorld(t)
	d.method.Method = vss.RestoreMethodIfNotThere
	before := tree(t, w.dir)
	res := w.backup(w.paths())
	for _, name := range []string{"b", "c", "also a"} {
		if err := os.Remove(w.path("app/" + name)); err != nil {
			t.Fatal(err)
		}
	}
	back := w.restoreAgain(d, res, requester.RestoreRequest{})
	if back.Outcome != requester.Complete || back.Components[0].Branch != "original" || back.Totals.Unchanged == 0 {
		t.Errorf("outcome %v, %s, %+v", back.Outcome, leftOut(back.LeftOut), back.Totals)
	}
	diffTrees(t, tree(t, w.dir), before)
	i, err := os.Stat(w.path("app/a"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("app/a", "other a!") // the same size and time
	if err := os.Chtimes(w.path("app/a"), i.ModTime(), i.ModTime()); err != nil {
		t.Fatal(err)
	}
	back = w.restoreAgain(d, res, requester.RestoreRequest{})
	if back.Outcome != requester.Incomplete {
		t.Errorf("a file with other bytes: outcome %v", back.Outcome)
	}
}

// starts stages sets as a host that can does, and takes them at its next start.
type starts struct {
	session.Target
	mu       sync.Mutex
	pending  map[string]string // final names by staged ones
	refuse   bool
	closed   int
	stagings int
	names    []string // that were staged
	blocked  bool     // nothing that is there can be replaced now
}

func (s *starts) Obstacles(ctx context.Context, names []string) ([]session.Obstacle, error) {
	list, err := s.Target.Obstacles(ctx, names)
	if s.blocked && len(names) > 0 {
		list = append(list, session.Obstacle{Name: names[0], Why: "a program keeps it open"})
	}
	return list, err
}

// finals are the places that files take at the next start.
func (s *starts) finals() map[string]bool {
	out := map[string]bool{}
	for _, final := range s.pending {
		out[final] = true
	}
	return out
}

func (s *starts) AtReboot(context.Context, string) (session.RebootSet, error) {
	if s.refuse {
		return nil, vss.Errorf(vss.ErrNotSupported, "restore at the next start", "", "no systemd")
	}
	s.stagings++
	return &startSet{s: s, staged: map[string]string{}}, nil
}

type startSet struct {
	s         *starts
	staged    map[string]string
	committed bool
}

func (s *startSet) Stage(_ context.Context, name string) (string, error) {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	staged := path.Join(path.Dir(name), ".staged-"+path.Base(name))
	s.staged[staged] = name
	s.s.names = append(s.s.names, name)
	return staged, nil
}

func (s *startSet) Commit(ctx context.Context) (string, error) {
	for staged, final := range s.staged {
		if _, err := s.s.Target.Lstat(ctx, staged); err != nil {
			return "", err
		}
		s.s.pending[staged] = final
	}
	s.committed = true
	return "set 1", nil
}

func (s *startSet) Close() error {
	s.s.closed++
	if !s.committed {
		for staged := range s.staged {
			os.Remove("/" + staged)
		}
	}
	return nil
}

func (s *starts) start(t *testing.T) {
	t.Helper()
	for staged, final := range s.pending {
		if err := os.Rename("/"+staged, "/"+final); err != nil {
			t.Error(err)
		}
	}
}

func TestRestoreAtTheNextStartR_RES_10_R_RES_11_R_RES_33(t *testing.T) {
	for _, method := range []vss.RestoreMethod{vss.RestoreMethodAtReboot, vss.RestoreMethodAtRebootIfCannotReplace} {
		t.Run(method.Word(), func(t *testing.T) {
			w, d := manyWorld(t)
			d.method.Method, d.method.RebootRequired = method, true
			before := tree(t, w.dir)
			res := w.backup(w.paths())
			w.write("app/a", "now a")
			if method == vss.RestoreMethodAtRebootIfCannotReplace {
				os.Remove(w.path("app/b"))
				w.mkdir("app/b") // cannot be replaced now, nor then while it is there
			}
			now := tree(t, w.dir)
			host := &starts{pending: map[string]string{}}
			d = d.again()
			main := requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{"main"}}}
			back, err := w.restoreThrough(d, res, main, func(t session.Target) session.Target { host.Target = t; return host })
			if err != nil {
				t.Fatal(err)
			}
			if method == vss.RestoreMethodAtRebootIfCannotReplace {
				// One of the set cannot be staged: nothing of it is (R-RES-2).
				if back.Outcome != requester.Incomplete || len(host.pending) > 0 || d.status["main"] != vss.FileRestoreStatusNone || host.closed != 1 {
					t.Errorf("outcome %v, pending %v, status %v", back.Outcome, host.pending, d.status["main"])
				}
				diffTrees(t, tree(t, w.dir), now)
				os.Remove(w.path("app/b"))
				d = d.again()
				back, err = w.restoreThrough(d, res, main, func(t session.Target) session.Target { host.Target = t; return host })
				if err != nil || back.Outcome != requester.Complete || host.stagings != 1 || len(back.RebootFor) != 1 {
					t.Errorf("R-RES-11, all replaceable: %v, %v, stagings %d, %q", back.Outcome, err, host.stagings, back.RebootFor)
				}
				diffTrees(t, tree(t, w.dir), before)
				return
			}
			if back.Outcome != requester.Complete || d.status["main"] != vss.FileRestoreStatusAll || back.Components[0].PendingReboot != "set 1" ||
				back.Components[0].Branch != "reboot" || len(back.RebootFor) != 1 || w.read("app/a") != "now a" {
				t.Errorf("outcome %v, %+v, %q, %+v", back.Outcome, back.Components, back.RebootFor, back.Failures)
			}
			host.start(t)
			after := tree(t, w.dir)
			for name := range after { // the directory was written to since
				if name == "app" || name == "." {
					delete(after, name)
					delete(before, name)
				}
			}
			diffTrees(t, after, before)
			a, _ := os.Stat(w.path("app/a"))
			b, _ := os.Stat(w.path("app/also a"))
			if !os.SameFile(a, b) {
				t.Error("the hard link is a file of its own (R-SET-19)")
			}
		})
	}
}

func TestRestoreAtTheNextStartWhereThereIsNoneR_RES_10(t *testing.T) {
	w, d := manyWorld(t)
	d.method.Method = vss.RestoreMethodAtReboot
	res := w.backup(w.paths())
	now := tree(t, w.dir)
	d = d.again()
	back, err := w.restoreThrough(d, res, requester.RestoreRequest{}, func(t session.Target) session.Target { return &starts{Target: t, refuse: true} })
	if err != nil || back.Outcome != requester.Incomplete || !strings.Contains(leftOut(back.LeftOut), "no systemd") {
		t.Errorf("outcome %v, %v, %s", back.Outcome, err, leftOut(back.LeftOut))
	}
	diffTrees(t, tree(t, w.dir), now)
	// A dry run finds out, too, and one on a host that can leaves nothing staged.
	host := &starts{refuse: true}
	through := func(t session.Target) session.Target { host.Target = t; return host }
	dry := requester.RestoreRequest{DryRun: true}
	back, err = w.restoreThrough(d, res, dry, through)
	if err != nil || back.Outcome != requester.Incomplete || !strings.Contains(leftOut(back.LeftOut), "no systemd") {
		t.Errorf("a dry run: outcome %v, %v, %s", back.Outcome, err, leftOut(back.LeftOut))
	}
	host.refuse = false
	back, err = w.restoreThrough(d, res, dry, through)
	if err != nil || back.Outcome != requester.Complete || host.stagings != 1 || host.closed != 1 {
		t.Errorf("a dry run where there is: outcome %v, %v, %d begun, %d ended", back.Outcome, err, host.stagings, host.closed)
	}
	diffTrees(t, tree(t, w.dir), now)
}

// host is a service manager with one service.
type hostServices struct {
	session.Target
	d       *docWriter
	state   session.ServiceState
	log     []string
	noStop  bool
	noStart bool
	file    string
}

func (h *hostServices) note(what string) {
	events := len(h.d.seen)
	last := "nothing"
	if events > 0 {
		last = h.d.seen[events-1].String()
	}
	data, err := os.ReadFile(h.file)
	if errors.Is(err, fs.ErrNotExist) {
		data = []byte("no file")
	}
	h.log = append(h.log, what+" after "+last+" with "+string(data))
}

func (h *hostServices) Service(_ context.Context, name string) (session.Service, error) {
	return session.Service{Name: name, State: h.state}, nil
}

func (h *hostServices) StopService(_ context.Context, name string) (session.Service, error) {
	h.note("stop " + name)
	before := session.Service{Name: name, State: h.state}
	if h.noStop {
		return before, vss.Errorf(vss.ErrAccessDenied, "stop service", name, "it does not stop")
	}
	h.state = session.ServiceStopped
	return before, nil
}

func (h *hostServices) StartService(_ context.Context, name string) error {
	h.note("start " + name)
	if h.noStart {
		return vss.Errorf(vss.ErrUnexpected, "start service", name, "it does not start")
	}
	h.state = session.ServiceRunning
	return nil
}

func TestServicesAreStoppedAndStartedR_RES_7_R_RES_8(t *testing.T) {
	for _, tt := range []struct {
		name    string
		method  vss.RestoreMethod
		host    hostServices
		blocked bool
		want    string
		outcome requester.Outcome
	}{
		{"R-RES-7", vss.RestoreMethodStopRestoreStart, hostServices{state: session.ServiceRunning}, false,
			"stop app.service after PreRestore with newer, start app.service after PreRestore with saved b", requester.Complete},
		{"R-RES-7 not running before", vss.RestoreMethodStopRestoreStart, hostServices{state: session.ServiceStopped}, false,
			"stop app.service after PreRestore with newer", requester.Complete},
		{"R-RES-7 cannot be stopped", vss.RestoreMethodStopRestoreStart, hostServices{state: session.ServiceRunning, noStop: true}, false,
			"stop app.service after PreRestore with newer, start app.service after PreRestore with newer", requester.Incomplete},
		{"R-RES-7 started again though the files fail", vss.RestoreMethodStopRestoreStart, hostServices{state: session.ServiceRunning}, true,
			"stop app.service after PreRestore with newer, start app.service after PreRestore with newer", requester.Incomplete},
		{"R-RES-7 does not start", vss.RestoreMethodStopRestoreStart, hostServices{state: session.ServiceRunning, noStart: true}, false,
			"stop app.service after PreRestore with newer, start app.service after PreRestore with saved b", requester.WriterFailedAfter},
		{"R-RES-8", vss.RestoreMethodRestoreStopStart, hostServices{state: session.ServiceRunning}, false,
			"stop app.service after PostRestore with saved b, start app.service after PostRestore with saved b", requester.Complete},
		{"R-RES-8 not running before", vss.RestoreMethodRestoreStopStart, hostServices{state: session.ServiceStopped}, false,
			"stop app.service after PostRestore with saved b", requester.Complete},
		{"R-RES-8 nothing was restored", vss.RestoreMethodRestoreStopStart, hostServices{state: session.ServiceRunning}, true, "", requester.Incomplete},
		{"R-RES-36", vss.RestoreMethodIfCanReplace, hostServices{state: session.ServiceRunning}, false, "", requester.Complete},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, d := manyWorld(t)
			d.method.Method = tt.method
			if tt.method != vss.RestoreMethodIfCanReplace {
				d.method.Service = "app.service"
			}
			res := w.backup(w.paths())
			w.write("app/b", "newer")
			if tt.blocked {
				os.Remove(w.path("app/a"))
				w.mkdir("app/a/in the way")
			}
			d = d.again()
			host := tt.host
			host.d, host.file = d, w.path("app/b")
			back, err := w.restoreThrough(d, res, requester.RestoreRequest{}, func(t session.Target) session.Target { host.Target = t; return &host })
			if err != nil || back.Outcome != tt.outcome || strings.Join(host.log, ", ") != tt.want {
				t.Errorf("outcome %v, %v, %q, %s %q", back.Outcome, err, host.log, leftOut(back.LeftOut), back.Warnings)
			}
			if left := strings.Contains(strings.Join(back.Warnings, ""), "app.service does not run"); left != (tt.name == "R-RES-7 not running before") {
				t.Errorf("that it does not run was said: %v, %q", left, back.Warnings)
			}
			if !d.saw(writer.EventPostRestore) {
				t.Error("the writer got no PostRestore")
			}
		})
	}
}

// The name of a service in a stored document is the medium's: it is stopped only if
// a running writer names it too, or the user.
func TestStoredDocumentCannotStopAnyService(t *testing.T) {
	w, d := manyWorld(t)
	d.method.Method, d.method.Service = vss.RestoreMethodStopRestoreStart, "sshd.service"
	res := w.backup(w.paths())
	host := &hostServices{state: session.ServiceRunning, file: w.path("app/b")}
	run := func(r requester.RestoreRequest) *requester.RestoreResult {
		host.log = nil
		n := d.again()
		n.method.Service = "app.service"
		host.d = n
		back, err := w.restoreThrough(n, res, r, func(t session.Target) session.Target { host.Target = t; return host })
		if err != nil {
			t.Fatal(err)
		}
		return back
	}
	back := run(requester.RestoreRequest{})
	if len(back.Services) != 1 || !strings.Contains(back.Services[0].Error, "--allow-service sshd.service") {
		t.Errorf("services %+v", back.Services)
	}
	if len(host.log) > 0 || back.Outcome != requester.Incomplete || !strings.Contains(leftOut(back.LeftOut), "--allow-service sshd.service") {
		t.Errorf("outcome %v, %q, %s", back.Outcome, host.log, leftOut(back.LeftOut))
	}
	back = run(requester.RestoreRequest{Services: []string{"sshd"}})
	if len(host.log) != 2 || back.Outcome != requester.Complete || len(back.Services) != 1 || !back.Services[0].Started {
		t.Errorf("allowed: outcome %v, %q, %+v", back.Outcome, host.log, back.Services)
	}
	back = run(requester.RestoreRequest{Services: []string{"sshd"}, DryRun: true})
	if len(host.log) != 0 || back.Services[0].Before != "running" {
		t.Errorf("a dry run: %q, %+v", host.log, back.Services)
	}
}

// bare is a target whose file system does not keep all attributes.
type bare struct{ session.Target }

func (b *bare) Create(ctx context.Context, name string) (session.NewFile, error) {
	n, err := b.Target.Create(ctx, name)
	return bareFile{n, name}, err
}

type bareFile struct {
	session.NewFile
	name string
}

func (b bareFile) Commit(ctx context.Context, e session.Entry) error {
	if err := b.NewFile.Commit(ctx, e); err != nil {
		return err
	}
	return &session.AttributeError{Name: b.name, Problems: []session.AttributeProblem{{Attribute: "user.x", Err: errStubborn}}}
}

// A file that has its bytes, and lacks an attribute, was written.
func TestFilesThatLackAttributesWereWrittenR_RES_32(t *testing.T) {
	w, d := appWorld(t)
	res := w.backup(w.paths())
	w.wipe()
	d = d.again()
	back, err := w.restoreThrough(d, res, requester.RestoreRequest{}, func(t session.Target) session.Target { return &bare{t} })
	if err != nil || back.Outcome != requester.Incomplete || len(back.Components) == 0 {
		t.Fatalf("outcome %v, %v", back.Outcome, err)
	}
	for _, c := range back.Components {
		if c.Status != vss.FileRestoreStatusFailed.String() || !strings.Contains(c.Error, "corrupt") {
			t.Errorf("status %s, %q", c.Status, c.Error)
		}
	}
}
