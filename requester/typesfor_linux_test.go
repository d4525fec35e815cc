//go:build linux

package requester_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// told is what types a writer was told, and with which components.
type told struct {
	mu   sync.Mutex
	list []string
}

func (l *told) on(d *docWriter) {
	d.on[writer.EventPrepareForBackup] = func(e *writer.Event) error {
		var names []string
		for _, c := range e.Components.Components() {
			names = append(names, c.FullPath())
		}
		slices.Sort(names)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.list = append(l.list, d.name+" "+e.State.Type.Word()+" "+strings.Join(names, ","))
		return nil
	}
}

// TestTypesOfTheirOwn: an operation has one type (R-TYPE-1), so components with
// another one are in a backup of their own, with what must be in every backup of
// their writer (R-SEL-6).
func TestTypesOfTheirOwn(t *testing.T) {
	w := newWorld(t)
	for _, n := range []string{"one/a", "one/b", "one/always", "two/x", "plain"} {
		w.write(n, "content of "+n)
	}
	one := newDocWriter("one", func(m *metadata.WriterMetadata) []error {
		return []error{
			group(m, "", "a", true), files(m, "", "a", w.path("one"), "a", false),
			group(m, "", "b", true), files(m, "", "b", w.path("one"), "b", false),
			group(m, "", "always", false), files(m, "", "always", w.path("one"), "always", false),
		}
	})
	two := newDocWriter("two", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "x", true), files(m, "", "x", w.path("two"), "*", true)}
	})
	w.writers = []*docWriter{one, two}
	var seen told
	seen.on(one)
	seen.on(two)
	run := func(r requester.Request) (held []string) {
		t.Helper()
		seen.list = nil
		list, err := requester.BackupTypes(t.Context(), w.open, func(context.Context) (*repository.Repository, error) { return w.repo, nil }, r, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, res := range list {
			if res.Outcome != requester.Complete {
				t.Errorf("backup of type %s: outcome %v\n%s", res.Type, res.Outcome, leftOut(res.LeftOut))
			}
			held = append(held, res.Type+": "+strings.Join(regularFiles(t, w, res.Record), " "))
		}
		return held
	}
	check := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	held := run(requester.Request{Paths: []string{w.dir}, TypesFor: []requester.TypeFor{{"two", vss.BackupTypeFull}, {"one:b", vss.BackupTypeFull}}})
	check("records hold", held, []string{"copy: one/a one/always plain", "full: one/always one/b two/x"})
	slices.Sort(seen.list)
	check("writers were told", seen.list, []string{"one copy a,always", "one full always,b", "two full x"})

	held = run(requester.Request{Paths: []string{w.dir}, AsPlainFiles: true, TypesFor: []requester.TypeFor{{"two", vss.BackupTypeFull}}})
	check("with --as-plain-files records hold", held, []string{"copy: one/a one/always one/b plain", "full: two/x"})

	held = run(requester.Request{Selectors: requester.Selectors{Writers: []string{"two"}}, TypesFor: []requester.TypeFor{{"two", vss.BackupTypeFull}}})
	check("without a main part records hold", held, []string{"full: two/x"})

	held = run(requester.Request{Paths: []string{w.dir}, TypesFor: []requester.TypeFor{{"two", vss.BackupTypeFull}, {"two:x", vss.BackupTypeCopy}}})
	check("with the type of the others records hold", held, []string{"copy: one/a one/always one/b plain two/x"})

	plans, err := requester.MakePlansTo(t.Context(), w.open, nil, requester.Request{Paths: []string{w.dir}, TypesFor: []requester.TypeFor{{"two", vss.BackupTypeFull}}}, nil)
	if err != nil || len(plans) != 2 || plans[1].Type != "full" {
		t.Errorf("plans %+v, %v", plans, err)
	}
	_, err = requester.MakePlansTo(t.Context(), w.open, nil, requester.Request{Paths: []string{w.dir}, TypesFor: []requester.TypeFor{{"none", vss.BackupTypeFull}}}, nil)
	if none := (*requester.SelectorError)(nil); !errors.As(err, &none) || none.Flag != "type-for" {
		t.Errorf("a selector that names nothing: %v", err)
	}
}

// regularFiles lists the files of a record below the world's directory.
func regularFiles(t *testing.T, w *world, rec *repository.Record) []string {
	t.Helper()
	found := map[string]bool{}
	for e, err := range rec.Table().All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if rel, inside := strings.CutPrefix("/"+e.Path, w.dir+"/"); inside && e.Type == repository.Regular {
			found[rel] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestTypesOfTheirOwnKeepTogether: what depends on another must be in the same
// backup (R-SEL-31), and a member of a set has the type of its set.
func TestTypesOfTheirOwnKeepTogether(t *testing.T) {
	w := newWorld(t)
	w.write("one/a", "a")
	w.write("two/x", "x")
	two := newDocWriter("two", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "x", true), files(m, "", "x", w.path("two"), "*", true), group(m, "x", "part", false)}
	})
	one := newDocWriter("one", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "a", true), files(m, "", "a", w.path("one"), "a", false),
			m.AddComponentDependency("", "a", metadata.Dependency{WriterClass: two.class, Name: "x"})}
	})
	w.writers = []*docWriter{one, two}
	for _, c := range []struct {
		selector, want string
	}{
		{"two", "give them the same type"},
		{`two:x\part`, "is in the set of x and has its type"},
	} {
		_, err := requester.MakePlansTo(t.Context(), w.open, nil, requester.Request{Paths: []string{w.dir}, TypesFor: []requester.TypeFor{{c.selector, vss.BackupTypeFull}}}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.selector, err, c.want)
		}
	}
}

// TestTypesOfTheirOwnReachTheirLevel: what one of the backups cannot reach is said
// before any of them has frozen anything.
func TestTypesOfTheirOwnReachTheirLevel(t *testing.T) {
	w := newWorld(t)
	w.write("one/a", "a")
	w.write("plain", "plain")
	one := newDocWriter("one", func(m *metadata.WriterMetadata) []error {
		return []error{group(m, "", "a", true), files(m, "", "a", w.path("one"), "a", false)}
	})
	w.writers = []*docWriter{one}
	list, err := requester.BackupTypes(t.Context(), w.open, func(context.Context) (*repository.Repository, error) { return w.repo, nil },
		requester.Request{Paths: []string{w.dir}, Consistency: session.LevelApp, TypesFor: []requester.TypeFor{{"one", vss.BackupTypeFull}}}, nil)
	if !errors.Is(err, requester.ErrConsistency) || len(list) != 1 || list[0].Outcome != requester.Failed {
		t.Errorf("got %+v, %v", list, err)
	}
	if one.saw(writer.EventPrepareForBackup) {
		t.Error("a writer was prepared for a backup that could not be")
	}
}
