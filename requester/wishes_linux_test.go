package requester_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// everyCall is a schema with which a writer can be told everything.
const everyCall = vss.SchemaCopy | vss.SchemaNewTarget | vss.SchemaRestoreWithMove | vss.SchemaRollForwardRestore |
	vss.SchemaRestoreRename | vss.SchemaAuthoritativeRestore

// wishWorld has a writer with the components main, which is selectable and has the
// member main\part, and fixed, which is not selectable.
func wishWorld(t *testing.T, schema vss.BackupSchema) (*world, *docWriter) {
	t.Helper()
	w := newWorld(t)
	for _, f := range []string{"main/a", "main/sub/b", "part/c", "fixed/d"} {
		w.write(f, f)
	}
	if err := os.Chmod(w.path("main"), 0o751); err != nil {
		t.Fatal(err)
	}
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		return []error{
			m.SetBackupSchema(schema),
			group(m, "", "main", true), files(m, "", "main", w.path("main"), "*", true),
			group(m, "main", "part", false), files(m, "main", "part", w.path("part"), "*", false),
			group(m, "", "fixed", false), files(m, "", "fixed", w.path("fixed"), "*", false),
		}
	})
	w.writers = []*docWriter{d}
	return w, d
}

// heard makes the writer's next instance keep what PreRestore tells of main.
func (w *world) heard(d *docWriter) (*docWriter, *metadata.Component) {
	d = d.again()
	said := new(metadata.Component)
	d.on[writer.EventPreRestore] = func(e *writer.Event) error {
		if c, ok := e.Components.Component("", "main"); ok {
			*said = *c
		}
		return nil
	}
	w.writers = []*docWriter{d}
	return d, said
}

func option(t *testing.T, text string) requester.OptionWish {
	t.Helper()
	o, err := requester.ParseOptionWish(text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func target(t *testing.T, text string) requester.NewTargetWish {
	t.Helper()
	n, err := requester.ParseNewTarget(text, vss.POSIX)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWritersAreToldWhatIsWished(t *testing.T) {
	w, d := wishWorld(t, everyCall)
	res := w.backup(w.paths())
	main := requester.Selectors{Components: []string{"main"}}
	for _, tt := range []struct {
		name   string
		wishes requester.Wishes
		told   string // of the result
		heard  func(c *metadata.Component) bool
	}{
		{"R-RES-31 options, one text", requester.Wishes{Options: []requester.OptionWish{option(t, `"Authoritative"="Item:x"`), option(t, `app:main:"part":"n"="v"`)}},
			`restore options "Authoritative"="Item:x","part":"n"="v"`,
			func(c *metadata.Component) bool {
				o, ok := c.RestoreOptions()
				return ok && o == `"Authoritative"="Item:x","part":"n"="v"`
			}},
		{"authoritative", requester.Wishes{Authoritative: true}, "authoritative", (*metadata.Component).AuthoritativeRestore},
		{"roll forward all", requester.Wishes{RollForward: vss.RollForwardAll}, "roll forward all", func(c *metadata.Component) bool {
			k, point := c.RollForward()
			return k == vss.RollForwardAll && point == ""
		}},
		{"roll forward to a point", requester.Wishes{RollForward: vss.RollForwardPartial, Point: "noon"}, "roll forward to noon", func(c *metadata.Component) bool {
			k, point := c.RollForward()
			return k == vss.RollForwardPartial && point == "noon"
		}},
		{"new name", requester.Wishes{Names: []requester.NameWish{{Name: `main\New`}}}, `new name main\New`, func(c *metadata.Component) bool {
			n, _ := c.RestoreName()
			return n == `main\New`
		}},
		{"nothing", requester.Wishes{}, "", func(c *metadata.Component) bool {
			_, named := c.RestoreName()
			_, options := c.RestoreOptions()
			k, _ := c.RollForward()
			return !named && !options && !c.AuthoritativeRestore() && k == vss.RollForwardUndefined && len(c.NewTargets()) == 0
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.t = t
			_, said := w.heard(d)
			back := w.restore(res.Record, requester.RestoreRequest{Selectors: main, Wishes: tt.wishes})
			if back.Outcome != requester.Complete || strings.Join(back.Components[0].Told, "; ") != tt.told {
				t.Errorf("outcome %v, told %q, warnings %q", back.Outcome, back.Components[0].Told, back.Warnings)
			}
			if !tt.heard(said) {
				t.Error("the writer was told something else")
			}
			// A dry run shows it, and tells nobody.
			d, _ := w.heard(d)
			dry := w.restore(res.Record, requester.RestoreRequest{Selectors: main, Wishes: tt.wishes, DryRun: true})
			if !slices.Equal(dry.Components[0].Told, back.Components[0].Told) || d.saw(writer.EventPreRestore) {
				t.Errorf("the dry run tells %q; the writer saw %v", dry.Components[0].Told, d.seen)
			}
		})
	}
}

// TestWhatHasNoLogsIsRestoredBesideWhatIsRolledForward: a backup has a database with
// logs and one without. The first is rolled forward, the second restored, and a line
// says which; asked for alone it is an error.
func TestWhatHasNoLogsIsRestoredBesideWhatIsRolledForward(t *testing.T) {
	w, logs := wishWorld(t, everyCall)
	w.write("cache/x", "cache/x")
	cache := newDocWriter("cache", func(m *metadata.WriterMetadata) []error {
		return []error{m.SetBackupSchema(vss.SchemaCopy), group(m, "", "cache", true), files(m, "", "cache", w.path("cache"), "*", true)}
	})
	w.writers = append(w.writers, cache)
	res := w.backup(w.paths())
	for _, dry := range []bool{true, false} {
		if err := os.Remove(w.path("cache/x")); err != nil {
			t.Fatal(err)
		}
		_, said := w.heard(logs)
		w.writers = append(w.writers, cache.again())
		back := w.restore(res.Record, requester.RestoreRequest{DryRun: dry, Wishes: requester.Wishes{RollForward: vss.RollForwardPartial, Point: "noon"}})
		text := strings.Join(back.Warnings, "\n")
		if back.Outcome != requester.Complete || !strings.Contains(text, "NOT rolled forward") || !strings.Contains(text, "cache") || strings.Contains(text, "main") {
			t.Errorf("dry run %v: outcome %v, warnings %q", dry, back.Outcome, text)
		}
		if dry {
			w.write("cache/x", "cache/x")
			continue
		}
		if k, point := said.RollForward(); k != vss.RollForwardPartial || point != "noon" {
			t.Errorf("the database was told to roll forward %v, %q", k, point)
		}
		if text, err := os.ReadFile(w.path("cache/x")); err != nil || string(text) != "cache/x" {
			t.Errorf("the other was not restored: %q, %v", text, err)
		}
	}
	_, err := requester.Restore(t.Context(), w.open, w.repo, res.Record, requester.RestoreRequest{
		Selectors: requester.Selectors{Writers: []string{"cache"}}, Wishes: requester.Wishes{RollForward: vss.RollForwardAll}}, nil)
	if !errors.Is(err, vss.ErrNotSupported) || !strings.Contains(err.Error(), "ROLLFORWARD_RESTORE") {
		t.Errorf("by itself: %v", err)
	}
}

// TestOptionsAreNotGivenInSilenceToWhoKnowsNone: an option for all that is restored
// reaches those who may know it, and a line names the others: a writer that is known
// to know none, one that takes no part, and a component that can have none. Meant for
// these alone it is an error.
func TestOptionsAreNotGivenInSilenceToWhoKnowsNone(t *testing.T) {
	w, knows := wishWorld(t, everyCall)
	plain := func(name string) *docWriter {
		w.write(name+"/x", name)
		return newDocWriter(name, func(m *metadata.WriterMetadata) []error {
			return []error{group(m, "", name, true), files(m, "", name, w.path(name), "*", true)}
		})
	}
	cache, scripts := plain("cache"), plain("scripts")
	scripts.method.WriterRestore = vss.WriterRestoreNever
	w.writers = append(w.writers, cache, scripts)
	res := w.backup(w.paths())
	request := func(options ...string) requester.RestoreRequest {
		req := requester.RestoreRequest{Wishes: requester.Wishes{Optionless: []vss.GUID{cache.class}}}
		for _, o := range options {
			req.Wishes.Options = append(req.Wishes.Options, option(t, o))
		}
		return req
	}
	for _, dry := range []bool{true, false} {
		_, said := w.heard(knows)
		heard := "nothing"
		again := cache.again()
		again.on = map[writer.EventKind]func(*writer.Event) error{writer.EventPreRestore: func(e *writer.Event) error {
			c, _ := e.Components.Component("", "cache")
			heard, _ = c.RestoreOptions()
			return nil
		}}
		w.writers = append(w.writers, again, scripts.again())
		req := request(`"target-time"="noon"`)
		req.DryRun = dry
		back := w.restore(res.Record, req)
		text := strings.Join(back.Warnings, "\n")
		for _, want := range []string{"'target-time'", "NOT", cache.name + `:\cache`, scripts.name + `:\scripts`, knows.name + `:\fixed`} {
			if !strings.Contains(text, want) {
				t.Errorf("dry run %v: no %s in the warnings %q", dry, want, text)
			}
		}
		if back.Outcome != requester.Complete || len(back.Warnings) != 1 || strings.Contains(text, "main") {
			t.Errorf("dry run %v: outcome %v, warnings %q", dry, back.Outcome, text)
		}
		for _, c := range back.Components {
			if told := len(c.Told) > 0; told != (c.Name == "main") {
				t.Errorf("dry run %v: %s is told %q", dry, c.Name, c.Told)
			}
		}
		if dry {
			continue
		}
		if o, _ := said.RestoreOptions(); o != `"target-time"="noon"` || heard != "" {
			t.Errorf("the writer that knows options heard %q, the other %q", o, heard)
		}
	}
	only := request(`"a"="b"`)
	only.Selectors.Writers = []string{"cache"}
	for name, req := range map[string]requester.RestoreRequest{"named": request(`cache:"a"="b"`), "by itself": only} {
		again := cache.again()
		w.writers = []*docWriter{knows.again(), again, scripts.again()}
		back, err := requester.Restore(t.Context(), w.open, w.repo, res.Record, req, nil)
		if !errors.Is(err, vss.ErrNotSupported) || !strings.Contains(err.Error(), `cache:\cache`) || !strings.Contains(err.Error(), "no restore option") || back.Outcome != requester.Failed {
			t.Errorf("%s: outcome %v, %v", name, back.Outcome, err)
		}
		if again.saw(writer.EventPreRestore) {
			t.Errorf("%s: PreRestore was sent", name)
		}
	}
}

func TestWishesThatAWriterCannotBeToldAreRefused(t *testing.T) {
	all, _ := wishWorld(t, everyCall)
	none, _ := wishWorld(t, vss.SchemaCopy)
	never, d := wishWorld(t, everyCall)
	d.method.WriterRestore = vss.WriterRestoreNever
	name := func(n requester.NameWish) requester.Wishes { return requester.Wishes{Names: []requester.NameWish{n}} }
	for _, tt := range []struct {
		name   string
		w      *world
		wishes func(w *world) requester.Wishes
		whole  bool // restore everything, not main
		want   string
		code   vss.Code
	}{
		{"R-RES-31 not selectable", all, func(*world) requester.Wishes {
			return requester.Wishes{Options: []requester.OptionWish{option(t, `fixed:"a"="b"`)}}
		}, true, "not selectable for backup", vss.ErrInvalidArgument},
		{"R-RES-31 a member", all, func(*world) requester.Wishes {
			return requester.Wishes{Options: []requester.OptionWish{option(t, `main\part:"a"="b"`)}}
		}, true, "it is in the set of app:", vss.ErrInvalidArgument},
		{"options of what is not restored", all, func(*world) requester.Wishes {
			return requester.Wishes{Options: []requester.OptionWish{option(t, `fixed:"a"="b"`)}}
		}, false, "names nothing that is restored", vss.ErrObjectNotFound},
		{"authoritative", none, func(*world) requester.Wishes { return requester.Wishes{Authoritative: true} }, false, "AUTHORITATIVE_RESTORE", vss.ErrNotSupported},
		{"roll forward", none, func(*world) requester.Wishes { return requester.Wishes{RollForward: vss.RollForwardNone} }, false, "ROLLFORWARD_RESTORE", vss.ErrNotSupported},
		{"new name", none, func(*world) requester.Wishes { return name(requester.NameWish{Name: "x"}) }, false, "RESTORE_RENAME", vss.ErrNotSupported},
		{"R-SEL-30 instance", none, func(*world) requester.Wishes { return requester.Wishes{Instance: "app"} }, false, "RESTORE_WITH_MOVE", vss.ErrNotSupported},
		{"R-SEL-30 no such instance", all, func(*world) requester.Wishes { return requester.Wishes{Instance: "other"} }, false, "names no running writer", vss.ErrObjectNotFound},
		{"R-RES-21 schema", none, func(w *world) requester.Wishes {
			return requester.Wishes{NewTargets: []requester.NewTargetWish{target(t, w.path("main")+"|*|recursive=/new")}}
		}, false, "WRITER_SUPPORTS_NEW_TARGET", vss.ErrNotSupported},
		{"R-RES-21 no such file set", all, func(w *world) requester.Wishes {
			return requester.Wishes{NewTargets: []requester.NewTargetWish{target(t, w.path("main")+"|*=/new")}}
		}, false, "|*|recursive", vss.ErrObjectNotFound},
		{"R-RES-21 file set of another component", all, func(w *world) requester.Wishes {
			return requester.Wishes{NewTargets: []requester.NewTargetWish{target(t, w.path("fixed")+"|*=/new")}}
		}, false, "no component that is restored has the file set ", vss.ErrObjectNotFound},
		{"R-RES-21 twice", all, func(w *world) requester.Wishes {
			n := target(t, w.path("main")+"|*|recursive=/new")
			return requester.Wishes{NewTargets: []requester.NewTargetWish{n, n}}
		}, false, "has a new target already", vss.ErrObjectAlreadyExists},
		{"a name for several", all, func(*world) requester.Wishes { return name(requester.NameWish{Name: "x"}) }, true, "2 are chosen", vss.ErrInvalidArgument},
		{"R-RES-37 a writer that takes no part", never, func(*world) requester.Wishes { return requester.Wishes{Authoritative: true} }, false, "takes no part in restores", vss.ErrNotSupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.w.writers[0].again()
			tt.w.writers, tt.w.t = []*docWriter{tt.w.writers[0].again()}, t
			res := tt.w.backup(tt.w.paths())
			tt.w.writers = []*docWriter{d}
			before := tree(t, tt.w.dir)
			req := requester.RestoreRequest{Wishes: tt.wishes(tt.w)}
			if !tt.whole {
				req.Selectors.Components = []string{"main"}
			}
			back, err := requester.Restore(t.Context(), tt.w.open, tt.w.repo, res.Record, req, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, tt.code) || back.Outcome != requester.Failed {
				t.Errorf("outcome %v, error %v; want %q", back.Outcome, err, tt.want)
			}
			if d.saw(writer.EventPreRestore) {
				t.Error("PreRestore was sent")
			}
			diffTrees(t, tree(t, tt.w.dir), before)
		})
	}
	all.t = t
	res := all.backup(all.paths())
	_, err := requester.Restore(t.Context(), all.open, all.repo, res.Record, requester.RestoreRequest{NoWriters: true, Wishes: requester.Wishes{Authoritative: true}}, nil)
	if !errors.Is(err, vss.ErrInvalidArgument) || !strings.Contains(err.Error(), "this restore is without them") {
		t.Errorf("without writers: %v", err)
	}
}

func TestNewTargetsTakeTheFilesOfTheirFileSetsR_RES_21(t *testing.T) {
	w, d := wishWorld(t, everyCall)
	d.method.Method = vss.RestoreMethodIfNotThere // has no say where a new target is
	res := w.backup(w.paths())
	place := scratch(t) // outside of all that was backed up: the user says so
	w.wipe()
	w.write("main/a", "a of today")
	d, said := w.heard(d)
	back := w.restore(res.Record, requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{"main"}}, Wishes: requester.Wishes{
		NewTargets: []requester.NewTargetWish{target(t, "app:main:"+w.path("main")+"/|*.*|recursive="+filepath.Join(place, "new"))}}})
	if back.Outcome != requester.Complete || d.status["main"] != vss.FileRestoreStatusAll {
		t.Fatalf("outcome %v, status %v, %s %+v", back.Outcome, d.status["main"], leftOut(back.LeftOut), back.Failures)
	}
	for name, want := range map[string]string{filepath.Join(place, "new/a"): "main/a", filepath.Join(place, "new/sub/b"): "main/sub/b",
		w.path("main/a"): "a of today", w.path("part/c"): "part/c"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if i, err := os.Stat(filepath.Join(place, "new")); err != nil || i.Mode().Perm() != 0o751 {
		t.Errorf("the new directory is not as the old one was: %v", i.Mode())
	}
	if n := said.NewTargets(); len(n) != 1 || n[0].Path != w.path("main") || n[0].NewPath != filepath.Join(place, "new") {
		t.Errorf("the writer was told %+v", n)
	}
	// There must be a directory to make it in.
	w.writers = []*docWriter{d.again()}
	back = w.restore(res.Record, requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{"main"}}, Wishes: requester.Wishes{
		NewTargets: []requester.NewTargetWish{target(t, w.path("main")+"|*|recursive="+filepath.Join(place, "not/there"))}}})
	if back.Outcome != requester.Incomplete || !strings.Contains(leftOut(back.LeftOut), "there is no directory "+filepath.Join(place, "not")) {
		t.Errorf("outcome %v, %s", back.Outcome, leftOut(back.LeftOut))
	}
}

// One wish for a directory takes all file sets below it, those too that only an
// earlier record of a chain has; what has a wish of its own goes there.
func TestNewTargetOfADirectoryTakesAllBelowItR_RES_21(t *testing.T) {
	w := newWorld(t)
	w.write("app/a", "a")
	w.write("app/one/b", "b")
	w.write("app/one/deep/c", "c")
	w.write("app/two/d", "d")
	w.write("apple/e", "e")
	gone := false
	d := newDocWriter("app", func(m *metadata.WriterMetadata) []error {
		errs := []error{m.SetBackupSchema(vss.SchemaCopy | vss.SchemaIncremental | vss.SchemaNewTarget),
			group(m, "", "main", true), files(m, "", "main", w.path("app"), "*", false), files(m, "", "main", w.path("app/two"), "*", true),
			files(m, "", "main", w.path("apple"), "*", true), group(m, "main", "sub", false)}
		if !gone {
			errs = append(errs, files(m, "main", "sub", w.path("app/one"), "*", true))
		}
		return append(errs, files(m, "main", "sub", w.path("app/one/deep"), "*.none", true))
	})
	w.writers = []*docWriter{d}
	full := w.paths()
	full.Type = vss.BackupTypeFull
	first := w.backup(full)
	gone = true
	w.writers = []*docWriter{d.again()}
	w.write("app/a", "a, later")
	incremental := w.paths()
	incremental.Type = vss.BackupTypeIncremental
	last := w.backup(incremental)
	for _, rec := range []*requester.Result{first, last} {
		place := scratch(t)
		d, said := w.heard(d)
		back := w.restore(rec.Record, requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{"main"}}, Wishes: requester.Wishes{NewTargets: []requester.NewTargetWish{
			target(t, w.path("app")+"="+filepath.Join(place, "new")),
			target(t, w.path("app/two")+"="+filepath.Join(place, "second")),
			target(t, "app:main:"+w.path("apple")+"|*|recursive="+filepath.Join(place, "apple"))}}})
		if back.Outcome != requester.Complete {
			t.Fatalf("outcome %v, %s %+v", back.Outcome, leftOut(back.LeftOut), back.Failures)
		}
		want := map[string]string{"new/a": "a", "new/one/b": "b", "new/one/deep/c": "c", "second/d": "d", "apple/e": "e"}
		if rec == last {
			want["new/a"] = "a, later"
			delete(want, "new/one/b") // no longer the writer's
			delete(want, "new/one/deep/c")
		}
		for name, content := range want {
			if got, err := os.ReadFile(filepath.Join(place, name)); err != nil || string(got) != content {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if n := len(said.NewTargets()); n < 3 || d.status["main"] != vss.FileRestoreStatusAll {
			t.Errorf("the writer was told of %d new targets, status %v", n, d.status["main"])
		}
	}
	for text, says := range map[string]string{
		w.path("nothing") + "=/new":                                  "no component that is restored has a file set",
		w.path("app") + "=" + filepath.Join(scratch(t), "not/there"): "there is no directory",
	} {
		w.writers = []*docWriter{d.again()}
		back, err := requester.Restore(t.Context(), w.open, w.repo, first.Record, requester.RestoreRequest{Wishes: requester.Wishes{NewTargets: []requester.NewTargetWish{target(t, text)}}}, nil)
		if said := leftOut(back.LeftOut) + fmt.Sprint(err); !strings.Contains(said, says) {
			t.Errorf("%s: %s", text, said)
		}
	}
	twice := target(t, w.path("app")+"=/new")
	if _, err := requester.Restore(t.Context(), w.open, w.repo, first.Record, requester.RestoreRequest{Wishes: requester.Wishes{NewTargets: []requester.NewTargetWish{twice, twice}}}, nil); !errors.Is(err, vss.ErrObjectAlreadyExists) {
		t.Errorf("the same directory twice: %v", err)
	}
}

func TestRestoreIntoAnotherInstanceR_SEL_30(t *testing.T) {
	w, d := wishWorld(t, everyCall)
	res := w.backup(w.paths())
	w.wipe()
	other, said := w.heard(d)
	other.name = "second"
	first := d.again()
	w.writers = []*docWriter{first, other}
	for _, name := range []string{"second", ""} {
		if name == "" {
			name = other.instance.String() // known since it was identified
			other, said = w.heard(other)
			other.instance = vss.MustParseGUID(name)
			other.once.Do(func() {})
			w.writers = []*docWriter{first.again(), other}
		}
		back := w.restore(res.Record, requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{"main"}}, Wishes: requester.Wishes{Instance: name}})
		if back.Outcome != requester.Complete || first.saw(writer.EventPreRestore) || !other.saw(writer.EventPostRestore) {
			t.Errorf("outcome %v, %s; the first saw %v, the second %v", back.Outcome, leftOut(back.LeftOut), first.seen, other.seen)
		}
		if selected, instance := said.SelectedForRestore(); !selected || instance != other.instance {
			t.Errorf("selected %v for %v, want %v", selected, instance, other.instance)
		}
	}
	// Its refusal counts, and not that of the one that was backed up.
	refusing, _ := w.heard(d)
	refusing.name = "second"
	refusing.on[writer.EventPreRestore] = func(*writer.Event) error {
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, "PreRestore", "second", "no room in this house")
	}
	w.writers = []*docWriter{d.again(), refusing}
	back := w.restore(res.Record, requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{"main"}}, Wishes: requester.Wishes{Instance: "second"}})
	if back.Outcome != requester.Incomplete || !strings.Contains(leftOut(back.LeftOut), "no room in this house") {
		t.Errorf("outcome %v, %s", back.Outcome, leftOut(back.LeftOut))
	}
}

// In a restore of several records each operation tells the writer the same, and
// what a later record lacks is taken away where it was put.
func TestWishesHoldForEachLinkOfAChain(t *testing.T) {
	w, d := wishWorld(t, everyCall|vss.SchemaIncremental)
	full := w.paths()
	full.Type = vss.BackupTypeFull
	w.backup(full)
	if err := os.Remove(w.path("main/sub/b")); err != nil {
		t.Fatal(err)
	}
	w.write("main/a", "a, changed")
	incremental := w.paths()
	incremental.Type = vss.BackupTypeIncremental
	rec := w.backup(incremental).Record
	for _, sequential := range []bool{false, true} {
		place := scratch(t)
		w.wipe()
		d = d.again()
		told := 0
		d.on = map[writer.EventKind]func(*writer.Event) error{writer.EventPreRestore: func(e *writer.Event) error {
			c, ok := e.Components.Component("", "main")
			if o, _ := c.RestoreOptions(); ok && o == `"a"="b"` && len(c.NewTargets()) == 1 {
				told++
			}
			return nil
		}}
		w.writers = []*docWriter{d}
		back := w.restore(rec, requester.RestoreRequest{Selectors: requester.Selectors{Components: []string{"main"}}, Sequential: sequential, Wishes: requester.Wishes{
			Options:    []requester.OptionWish{option(t, `main:"a"="b"`)},
			NewTargets: []requester.NewTargetWish{target(t, w.path("main")+"|*|recursive="+filepath.Join(place, "new"))}}})
		if back.Outcome != requester.Complete || told != 2 {
			t.Errorf("sequential %v: outcome %v, told %d times, %s %+v", sequential, back.Outcome, told, leftOut(back.LeftOut), back.Failures)
		}
		if got, err := os.ReadFile(filepath.Join(place, "new/a")); err != nil || string(got) != "a, changed" {
			t.Errorf("sequential %v: %q, %v", sequential, got, err)
		}
		for _, gone := range []string{filepath.Join(place, "new/sub/b"), w.path("main/a")} {
			if _, err := os.Lstat(gone); err == nil {
				t.Errorf("sequential %v: %s is there", sequential, gone)
			}
		}
	}
}
