package requester_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// mapWorld has a writer whose component has files in app and below, hard links
// among them, and that maps them to alt; another file set of it, conf, is mapped
// to alt-conf.
func mapWorld(t *testing.T, method vss.RestoreMethod, mapped ...string) (*world, *docWriter) {
	t.Helper()
	w := newWorld(t)
	w.write("app/db", "the data")
	w.write("app/sub/log", "the log")
	w.write("conf/a.conf", "a")
	if err := os.Link(w.path("app/db"), w.path("app/sub/db2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("db", w.path("app/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.path("app/sub"), 0o710); err != nil {
		t.Fatal(err)
	}
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		errs := []error{group(m, "", "main", true), files(m, "", "main", w.path("app"), "*", true), files(m, "", "main", w.path("conf"), "*.conf", false)}
		for _, dir := range mapped {
			errs = append(errs, m.AddAlternateLocationMapping(metadata.AlternateLocationMapping{
				FileSpec:      vss.FileSpec{Path: w.path(dir), Pattern: map[string]string{"app": "*", "conf": "*.conf"}[dir], Recursive: dir == "app"},
				AlternatePath: w.path("alt/" + dir)}))
		}
		return errs
	})
	d.method.Method = method
	w.writers = []*docWriter{d}
	return w, d
}

// toldOf is what the writer is told of in PostRestore.
func toldOf(d *docWriter) (mappings *[]metadata.AlternateLocationMapping) {
	mappings = new([]metadata.AlternateLocationMapping)
	d.on[writer.EventPostRestore] = func(e *writer.Event) error {
		for _, c := range e.Components.Components() {
			*mappings = append(*mappings, c.AlternateLocationMappings()...)
		}
		return nil
	}
	return mappings
}

func below(all map[string]string, dir string) map[string]string {
	out := map[string]string{}
	for name, line := range all {
		if rest, ok := strings.CutPrefix(name, dir); ok && rest != "" {
			out[strings.TrimPrefix(rest, "/")] = line
		}
	}
	return out
}

func TestAlternateLocationMappingsTakeAllFilesR_RES_4(t *testing.T) {
	for _, method := range []vss.RestoreMethod{vss.RestoreMethodIfNotThere, vss.RestoreMethodIfCanReplace, vss.RestoreMethodToAlternateLocation} {
		t.Run(method.Word(), func(t *testing.T) {
			w, d := mapWorld(t, method, "app", "conf")
			before := tree(t, w.dir)
			res := w.backup(w.paths())
			switch method {
			case vss.RestoreMethodIfCanReplace: // R-RES-6: one file in the way
				os.Remove(w.path("conf/a.conf"))
				w.mkdir("conf/a.conf/in the way")
			case vss.RestoreMethodIfNotThere: // R-RES-5: one file is there
				os.Remove(w.path("app/db"))
				w.write("app/sub/log", "newer")
			}
			now := tree(t, w.dir)
			d = d.again()
			mappings := toldOf(d)
			w.writers = []*docWriter{d}
			back := w.restore(res.Record, requester.RestoreRequest{})
			if back.Outcome != requester.Complete || d.status["main"] != vss.FileRestoreStatusAll || back.Components[0].Branch != "alternate" {
				t.Fatalf("outcome %v, status %v, %s %+v", back.Outcome, d.status["main"], leftOut(back.LeftOut), back.Components)
			}
			after := tree(t, w.dir)
			// R-RES-18: names and subdirectories are kept.
			diffTrees(t, below(after, "alt/app/"), below(before, "app/"))
			diffTrees(t, below(after, "alt/conf/"), below(before, "conf/"))
			for name, line := range now {
				if after[name] != line && name != "." {
					t.Errorf("%s was changed", name)
				}
			}
			if after["alt/app"] != before["app"] || !strings.HasPrefix(after["alt"], before["app"][:10]) {
				t.Errorf("the directories are %s and %s, the mapped one was %s", after["alt"], after["alt/app"], before["app"])
			}
			a, _ := os.Stat(w.path("alt/app/db"))
			b, _ := os.Stat(w.path("alt/app/sub/db2"))
			if !os.SameFile(a, b) {
				t.Error("the hard link is a file of its own (R-SET-19)")
			}
			if len(*mappings) != 2 || (*mappings)[0].AlternatePath != w.path("alt/app") || (*mappings)[1].Pattern != "*.conf" {
				t.Errorf("the writer was told of %+v (R-RES-19)", *mappings)
			}
		})
	}
}

func TestAlternateLocationNeedsAMappingForEachFileR_RES_4(t *testing.T) {
	for _, method := range []vss.RestoreMethod{vss.RestoreMethodIfCanReplace, vss.RestoreMethodToAlternateLocation} {
		w, d := mapWorld(t, method, "app")
		res := w.backup(w.paths())
		w.wipe()
		w.mkdir("app/db/in the way")
		now := tree(t, w.dir)
		d = d.again()
		mappings := toldOf(d)
		w.writers = []*docWriter{d}
		back := w.restore(res.Record, requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{"main"}}})
		if back.Outcome != requester.Incomplete || d.status["main"] != vss.FileRestoreStatusNone || len(*mappings) > 0 ||
			!strings.Contains(leftOut(back.LeftOut), "a.conf has no alternate location mapping") {
			t.Errorf("%v: outcome %v, status %v, %s", method, back.Outcome, d.status["main"], leftOut(back.LeftOut))
		}
		if writerError := strings.Contains(leftOut(back.LeftOut), "error of the writer"); writerError != (method == vss.RestoreMethodToAlternateLocation) {
			t.Errorf("%v: R-RES-13: %s", method, leftOut(back.LeftOut))
		}
		diffTrees(t, tree(t, w.dir), now)
	}
}

// D-25: what IF_NOT_THERE finds at the mapped place it does not replace either.
func TestIfNotThereReplacesNothingAtTheMappedPlaceR_RES_5(t *testing.T) {
	w, d := mapWorld(t, vss.RestoreMethodIfNotThere, "app", "conf")
	res := w.backup(w.paths())
	w.write("app/db", "newer")
	w.write("alt/app/sub/log", "kept")
	now := tree(t, w.dir)
	d = d.again()
	w.writers = []*docWriter{d}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Incomplete || d.status["main"] != vss.FileRestoreStatusNone || !strings.Contains(leftOut(back.LeftOut), w.path("alt/app/sub/log")) {
		t.Errorf("outcome %v, status %v, %s", back.Outcome, d.status["main"], leftOut(back.LeftOut))
	}
	diffTrees(t, tree(t, w.dir), now)
}

// R-RES-9, D-25: what is at the mapped place can be replaced.
func TestToAlternateLocationReplacesAndIgnoresTheOriginal(t *testing.T) {
	w, d := mapWorld(t, vss.RestoreMethodToAlternateLocation, "app", "conf")
	res := w.backup(w.paths())
	w.write("alt/app/db", "an older version")
	w.write("app/db", "newer")
	w.writers = []*docWriter{d.again()}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Complete || w.read("alt/app/db") != "the data" || w.read("app/db") != "newer" {
		t.Errorf("outcome %v, %q, %q, %s", back.Outcome, w.read("alt/app/db"), w.read("app/db"), leftOut(back.LeftOut))
	}
}

func TestRestoreTargetsOfTheWriterR_RES_16_R_RES_17(t *testing.T) {
	for _, tt := range []struct {
		method vss.RestoreMethod
		target vss.RestoreTarget
		branch string
	}{
		{vss.RestoreMethodIfCanReplace, vss.RestoreTargetAlternate, "alternate"},
		{vss.RestoreMethodToAlternateLocation, vss.RestoreTargetOriginalLocation, "original"},
		{vss.RestoreMethodIfNotThere, vss.RestoreTargetOriginalLocation, "original"},
	} {
		w, d := mapWorld(t, tt.method, "app", "conf")
		res := w.backup(w.paths())
		w.write("app/db", "newer")
		d = d.again()
		d.on[writer.EventPreRestore] = func(e *writer.Event) error {
			for _, c := range e.Components.Components() {
				if err := c.SetRestoreTarget(tt.target); err != nil {
					return err
				}
			}
			return nil
		}
		w.writers = []*docWriter{d}
		back := w.restore(res.Record, requester.RestoreRequest{})
		if back.Outcome != requester.Complete || back.Components[0].Branch != tt.branch {
			t.Errorf("%v, %v: outcome %v, branch %s, %s", tt.method, tt.target, back.Outcome, back.Components[0].Branch, leftOut(back.LeftOut))
		}
		if got := w.read("app/db"); (got == "the data") != (tt.branch == "original") {
			t.Errorf("%v, %v: the original has %q", tt.method, tt.target, got)
		}
	}
}

// A mapping of a stored document leads where a restore may write only if the
// backup is of that place, a running writer has the same mapping, or the user
// says so: the document is the medium's.
func TestStoredMappingCannotLeadAnywhere(t *testing.T) {
	outside := filepath.Join(scratch(t), "outside")
	w := newWorld(t)
	w.write("app/db", "the data")
	build := func(dest string) func(m *metadata.WriterMetadata) []error {
		return func(m *metadata.WriterMetadata) []error {
			errs := []error{group(m, "", "main", true), files(m, "", "main", w.path("app"), "*", true)}
			if dest != "" {
				errs = append(errs, m.AddAlternateLocationMapping(metadata.AlternateLocationMapping{
					FileSpec: vss.FileSpec{Path: w.path("app"), Pattern: "*", Recursive: true}, AlternatePath: dest}))
			}
			return errs
		}
	}
	d := newDocWriter("app", build(outside))
	d.method.Method = vss.RestoreMethodToAlternateLocation
	w.writers = []*docWriter{d}
	res := w.backup(w.paths())

	d = d.again()
	d.build = build("") // the running writer offers no such mapping
	w.writers = []*docWriter{d}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if _, err := os.Lstat(outside); err == nil || back.Outcome != requester.Incomplete || d.status["main"] != vss.FileRestoreStatusNone ||
		!strings.Contains(leftOut(back.LeftOut), "--allow-destination "+outside) {
		t.Fatalf("outcome %v, %v, %s", back.Outcome, err, leftOut(back.LeftOut))
	}
	back = w.restoreAgain(d, res, requester.RestoreRequest{Destinations: []string{outside + "/elsewhere", outside[:len(outside)-1]}})
	if _, err := os.Lstat(outside); err == nil || back.Outcome != requester.Incomplete {
		t.Fatalf("other places were allowed: outcome %v, %v", back.Outcome, err)
	}
	back = w.restoreAgain(d, res, requester.RestoreRequest{Destinations: []string{filepath.Dir(outside)}})
	if got, err := os.ReadFile(filepath.Join(outside, "db")); err != nil || string(got) != "the data" || back.Outcome != requester.Complete {
		t.Errorf("allowed by the user: outcome %v, %v, %s", back.Outcome, err, leftOut(back.LeftOut))
	}
	if err := os.RemoveAll(outside); err != nil {
		t.Fatal(err)
	}
	d.build = build(outside)
	back = w.restoreAgain(d, res, requester.RestoreRequest{})
	if _, err := os.Lstat(filepath.Join(outside, "db")); err != nil || back.Outcome != requester.Complete {
		t.Errorf("offered by the running writer: outcome %v, %v, %s", back.Outcome, err, leftOut(back.LeftOut))
	}
}

func (w *world) restoreAgain(d *docWriter, res *requester.Result, r requester.RestoreRequest) *requester.RestoreResult {
	w.t.Helper()
	w.writers = []*docWriter{d.again()}
	return w.restore(res.Record, r)
}

// No link on the way to a mapping's destination is followed.
func TestMappingDoesNotLeadThroughLinks(t *testing.T) {
	w, d := mapWorld(t, vss.RestoreMethodToAlternateLocation, "app", "conf")
	res := w.backup(w.paths())
	outside := filepath.Join(scratch(t), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, w.path("alt")); err != nil {
		t.Fatal(err)
	}
	back := w.restoreAgain(d, res, requester.RestoreRequest{})
	if list, _ := os.ReadDir(outside); len(list) > 0 || back.Outcome != requester.Incomplete {
		t.Errorf("outcome %v, %v", back.Outcome, list)
	}
}

// R-SEL-31: what depends on a component that is refused late, by its method, is
// not restored either, and the other way round it is.
func TestDependentOfARefusedComponentIsRefusedR_SEL_31(t *testing.T) {
	w := newWorld(t)
	w.write("a/f", "a")
	w.write("b/f", "b")
	first := newDocWriter("first", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "a", true), files(m, "", "a", w.path("a"), "*", true)}
	})
	first.method.Method = vss.RestoreMethodCustom
	second := newDocWriter("second", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "b", true), files(m, "", "b", w.path("b"), "*", true),
			m.AddComponentDependency("", "b", metadata.Dependency{WriterClass: first.class, Name: "a"})}
	})
	w.writers = []*docWriter{second, first}
	res := w.backup(w.paths())
	w.wipe()
	w.writers = []*docWriter{second.again(), first.again()}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if _, err := os.Lstat(w.path("b/f")); err == nil || back.Outcome != requester.Incomplete ||
		!strings.Contains(leftOut(back.LeftOut), "b depends on first:\\a, which is not restored") {
		t.Errorf("outcome %v, %v, %s", back.Outcome, err, leftOut(back.LeftOut))
	}
	if st := w.writers[0].status["b"]; st != vss.FileRestoreStatusNone {
		t.Errorf("status %v", st)
	}
}

// What "can be replaced" means here (R-RES-6): a file that a running program has
// open for writing or mapped is none that can, since it would go on with the old
// one; one that is only read is.
func TestFileInUseCannotBeReplacedR_RES_6(t *testing.T) {
	for _, tt := range []struct {
		redirect string
		want     string
	}{{"<", "original"}, {">>", "alternate"}} {
		w, d := mapWorld(t, vss.RestoreMethodIfCanReplace, "app", "conf")
		res := w.backup(w.paths())
		useFile(t, w.path("app/sub/log"), tt.redirect)
		back := w.restoreAgain(d, res, requester.RestoreRequest{})
		if back.Outcome != requester.Complete || back.Components[0].Branch != tt.want {
			t.Errorf("%s: outcome %v, %+v, %s", tt.redirect, back.Outcome, back.Components, leftOut(back.LeftOut))
		}
	}
}

// A dry run tells nobody of the restore, and says of files in use that their writer
// will be asked.
func TestDryRunTrustsWritersToLetGoR_RES_6(t *testing.T) {
	w, d := mapWorld(t, vss.RestoreMethodIfCanReplace)
	res := w.backup(w.paths())
	useFile(t, w.path("app/sub/log"), ">>")
	back := w.restoreAgain(d, res, requester.RestoreRequest{DryRun: true})
	if back.Outcome != requester.Complete || back.Components[0].Branch != "original" || !strings.Contains(strings.Join(back.Warnings, "\n"), "its writer is asked to let go") {
		t.Errorf("outcome %v, %+v, %q, %s", back.Outcome, back.Components, back.Warnings, leftOut(back.LeftOut))
	}
	back = w.restoreAgain(d, res, requester.RestoreRequest{DryRun: true, NoWriters: true})
	if back.Outcome == requester.Complete && back.Components[0].Branch == "original" && len(back.Warnings) > 0 {
		t.Errorf("without writers: %q", back.Warnings)
	}
}

// useFile has a program open a file as the shell's redirection says. It is no child
// of this process: those know of a restore.
func useFile(t *testing.T, name, redirect string) {
	t.Helper()
	pid := filepath.Join(t.TempDir(), "pid")
	// The shell that starts it ends, so that it becomes somebody else's child.
	shell := exec.Command("sh", "-c", `sleep 600 `+redirect+` "$0" >/dev/null 2>&1 & echo $! > "$1"`, name, pid)
	if redirect == ">>" {
		shell = exec.Command("sh", "-c", `sleep 600 3>> "$0" >/dev/null 2>&1 </dev/null & echo $! > "$1"`, name, pid)
	}
	if err := shell.Run(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(n, syscall.SIGKILL) })
}

// R-RES-6: what the file system keeps from being replaced.
func TestProtectedFileCannotBeReplacedR_RES_6(t *testing.T) {
	w, d := mapWorld(t, vss.RestoreMethodIfCanReplace)
	res := w.backup(w.paths())
	w.write("app/db", "newer")
	if out, err := exec.Command("chattr", "+i", w.path("app/sub/log")).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: the attribute immutable cannot be set here: %v %s", err, out)
	}
	defer exec.Command("chattr", "-i", w.path("app/sub/log")).Run()
	d = d.again()
	w.writers = []*docWriter{d}
	back := w.restore(res.Record, requester.RestoreRequest{})
	if back.Outcome != requester.Incomplete || !strings.Contains(leftOut(back.LeftOut), "attribute immutable") ||
		w.read("app/db") != "newer" || d.status["main"] != vss.FileRestoreStatusNone {
		t.Errorf("outcome %v, %q, %v, %s", back.Outcome, w.read("app/db"), d.status["main"], leftOut(back.LeftOut))
	}
}

// A writer that takes part only if replacing fails gets PostRestore then alone.
func TestPostRestoreOnlyIfReplacingFailed(t *testing.T) {
	for _, tt := range []struct {
		mapped []string
		block  bool
		want   bool
	}{{nil, false, false}, {nil, true, true}, {[]string{"app", "conf"}, true, true}} {
		w, d := mapWorld(t, vss.RestoreMethodIfCanReplace, tt.mapped...)
		d.method.WriterRestore = vss.WriterRestoreIfReplaceFails
		res := w.backup(w.paths())
		if tt.block {
			os.Remove(w.path("conf/a.conf"))
			w.mkdir("conf/a.conf/in the way")
		}
		d = d.again()
		w.writers = []*docWriter{d}
		w.restore(res.Record, requester.RestoreRequest{})
		if !d.saw(writer.EventPreRestore) || d.saw(writer.EventPostRestore) != tt.want {
			t.Errorf("%+v: the writer saw %v", tt, d.seen)
		}
	}
}
