package requester_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// foreigners is a session whose writers all run as another user.
type foreigners struct {
	session.Session
	wrap func(session.Target) session.Target
}

func (f *foreigners) WriterMetadata(ctx context.Context) ([]session.WriterInfo, error) {
	list, err := f.Session.WriterMetadata(ctx)
	for i := range list {
		list[i].Foreign = true
	}
	return list, err
}

func (f *foreigners) Target(ctx context.Context, dir string, roots []string) (session.Target, error) {
	t, err := f.Session.Target(ctx, dir, roots)
	if err == nil && f.wrap != nil {
		t = f.wrap(t)
	}
	return t, err
}

func (w *world) restoreForeign(d *docWriter, res *requester.Result, r requester.RestoreRequest, wrap func(session.Target) session.Target) *requester.RestoreResult {
	w.t.Helper()
	w.writers = []*docWriter{d}
	back, err := requester.Restore(w.t.Context(), func(ctx context.Context) (session.Session, error) {
		s, err := w.open(ctx)
		if err != nil {
			return nil, err
		}
		return &foreigners{s, wrap}, nil
	}, w.repo, res.Record, r, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return back
}

// A user's writer could else have root stop the host's services.
func TestWriterOfAnotherUserStopsNoServiceR_RES_7_R_RES_8(t *testing.T) {
	for _, method := range []vss.RestoreMethod{vss.RestoreMethodStopRestoreStart, vss.RestoreMethodRestoreStopStart} {
		w, d := manyWorld(t)
		d.method.Method, d.method.Service = method, "sshd.service"
		res := w.backup(w.paths())
		run := func(r requester.RestoreRequest) (*requester.RestoreResult, []string) {
			w.write("app/b", "newer")
			d = d.again()
			host := &hostServices{state: session.ServiceRunning, file: w.path("app/b"), d: d}
			back := w.restoreForeign(d, res, r, func(t session.Target) session.Target { host.Target = t; return host })
			return back, host.log
		}
		back, log := run(requester.RestoreRequest{})
		said := leftOut(back.LeftOut) + strings.Join(back.Warnings, "\n")
		if len(log) > 0 || back.Outcome == requester.Complete || !strings.Contains(said, "--allow-service sshd.service") {
			t.Errorf("%v: outcome %v, %q, %s", method, back.Outcome, log, said)
		}
		if back, log = run(requester.RestoreRequest{Services: []string{"sshd"}}); len(log) != 2 || back.Outcome != requester.Complete {
			t.Errorf("%v, allowed: outcome %v, %q", method, back.Outcome, log)
		}
	}
}

// Where a user's writer directs was looked at when it said so. A link that its user
// has put on the way since is not followed.
func TestDirectedTargetOfAnotherUserLeadsThroughNoLinkR_RES_23(t *testing.T) {
	for _, dest := range []string{"there/passwd", "there/new"} {
		for _, ranges := range []string{"0:1000", "0:10"} {
			w, d := directWorld(t)
			res := w.backup(w.paths())
			outside := filepath.Join(scratch(t), "outside")
			if err := errors.Join(os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "passwd"), []byte("root"), 0o644)); err != nil {
				t.Fatal(err)
			}
			d = w.direct(d, w.to("data/b", ranges, dest, ranges))
			direct := d.on[writer.EventPreRestore]
			d.on[writer.EventPreRestore] = func(e *writer.Event) error {
				return errors.Join(direct(e), os.Symlink(outside, w.path("there")))
			}
			back := w.restoreForeign(d, res, requester.RestoreRequest{}, nil)
			list, _ := os.ReadDir(outside)
			was, _ := os.ReadFile(filepath.Join(outside, "passwd"))
			if len(list) != 1 || string(was) != "root" || back.Outcome != requester.Incomplete || !strings.Contains(leftOut(back.LeftOut), "reached through a link") {
				t.Errorf("%s: outcome %v, %d files, %q, %s", dest, back.Outcome, len(list), was, leftOut(back.LeftOut))
			}
		}
	}
}

// A mapping that goes up by dot-dot leads where links lead: it is not used.
func TestMappingWithDotDotIsNotUsedR_RES_18(t *testing.T) {
	w, d := mapWorld(t, vss.RestoreMethodToAlternateLocation)
	outside := filepath.Join(scratch(t), "outside")
	if err := errors.Join(os.MkdirAll(filepath.Join(outside, "in"), 0o755), os.Symlink(filepath.Join(outside, "in"), w.path("link"))); err != nil {
		t.Fatal(err)
	}
	build := d.build
	d.build = func(m *metadata.WriterMetadata) []error {
		var errs []error
		for dir, pattern := range map[string]string{"app": "*", "conf": "*.conf"} {
			errs = append(errs, m.AddAlternateLocationMapping(metadata.AlternateLocationMapping{
				FileSpec: vss.FileSpec{Path: w.path(dir), Pattern: pattern, Recursive: dir == "app"}, AlternatePath: w.path("link") + "/../" + dir}))
		}
		return append(build(m), errs...)
	}
	res := w.backup(w.paths())
	back := w.restoreAgain(d, res, requester.RestoreRequest{})
	if list, _ := os.ReadDir(outside); len(list) != 1 || back.Outcome != requester.Incomplete {
		t.Errorf("outcome %v, %d files outside, %q", back.Outcome, len(list), back.Warnings)
	}
}

// stopsAfter is a session whose user stops when the writers have handled PreRestore.
type stopsAfter struct {
	session.Session
	stop func()
}

func (s *stopsAfter) PreRestore(ctx context.Context, p session.Progress) error {
	err := s.Session.PreRestore(ctx, p)
	s.stop()
	return errors.Join(err, ctx.Err())
}

// A user who stops a restore while writers close their files does not leave closed
// what is closed already.
func TestRestoreStoppedInPreRestoreEndsWithPostRestore(t *testing.T) {
	w, d := appWorld(t)
	res := w.backup(w.paths())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d = d.again()
	w.writers = []*docWriter{d}
	back, err := requester.Restore(ctx, func(ctx context.Context) (session.Session, error) {
		s, err := w.open(ctx)
		return &stopsAfter{s, cancel}, err
	}, w.repo, res.Record, requester.RestoreRequest{}, nil)
	if back.Outcome != requester.Interrupted || !errors.Is(err, context.Canceled) {
		t.Errorf("outcome %v, %v", back.Outcome, err)
	}
	if !d.saw(writer.EventPreRestore) || !d.saw(writer.EventPostRestore) {
		t.Errorf("the writer saw %v", d.seen)
	}
}
