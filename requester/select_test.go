package requester

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/vss"
)

// wr makes a writer of components in short: "path\name" with the flags "s"
// (selectable) and "r" (selectable for restore) after a blank.
func wr(t testing.TB, name string, comps ...string) *Writer {
	t.Helper()
	w := &Writer{Name: name, Class: classOf(name), Instance: vss.NewGUID(), Usage: vss.UsageUserData}
	for _, text := range comps {
		full, flags, _ := strings.Cut(text, " ")
		path, n := vss.SplitFullPath(full)
		w.Components = append(w.Components, &Component{Type: vss.ComponentTypeFileGroup, LogicalPath: path, Name: n,
			Selectable: strings.Contains(flags, "s"), SelectableForRestore: strings.Contains(flags, "r")})
	}
	if err := w.Link(); err != nil {
		t.Fatal(err)
	}
	return w
}

func classOf(name string) (g vss.GUID) {
	copy(g[:], name)
	return g
}

func comp(t testing.TB, w *Writer, full string) *Component {
	t.Helper()
	for _, c := range w.Components {
		if c.FullPath() == full {
			return c
		}
	}
	t.Fatalf("no component %q", full)
	return nil
}

func want(t testing.TB, ws []*Writer, fulls ...string) Wish {
	t.Helper()
	wish := Wish{Wanted: map[*Component]string{}}
	for _, full := range fulls {
		name, path, _ := strings.Cut(full, ":")
		for _, w := range ws {
			if w.Name == name {
				wish.Wanted[comp(t, w, path)] = "asked"
			}
		}
	}
	return wish
}

func names(list []*Component) string {
	var out []string
	for _, c := range list {
		out = append(out, c.FullPath())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func implicit(s *Selection) string {
	var list []*Component
	for c, d := range s.Defining {
		if c != d {
			list = append(list, c)
		}
	}
	return names(list)
}

// myWriter is the test vector of R-SEL-20.
func myWriter(t testing.TB) *Writer {
	return wr(t, "MyWriter",
		`Executables`, `Executables\ConfigFiles`, `LicenseInfo s`,
		`Security s`, `Security\UserInfo`, `Security\Certificates`,
		`writerData s`,
		`writerData\Set1`, `writerData\Set1\Jan`, `writerData\Set1\Dec`,
		`writerData\Set2`, `writerData\Set2\Jan`, `writerData\Set2\Dec`,
		`writerData\QueryLogs\Query`,
		`writerData\Usage s`, `writerData\Usage\Jan`, `writerData\Usage\Dec`)
}

func TestSelectMyWriterTableR_SEL_20(t *testing.T) {
	always := `Executables Executables\ConfigFiles`
	data := `writerData\QueryLogs\Query writerData\Set1 writerData\Set1\Dec writerData\Set1\Jan ` +
		`writerData\Set2 writerData\Set2\Dec writerData\Set2\Jan writerData\Usage writerData\Usage\Dec writerData\Usage\Jan`
	for _, tt := range []struct {
		rule               string
		add                []string
		explicit, implicit string
	}{
		{"R-SEL-13: nothing", nil, "", ""},
		{"R-SEL-6, R-SEL-11, D-1: what must always come", []string{`LicenseInfo`}, always + " LicenseInfo", ""},
		{"R-SEL-7: optional, with its set", []string{`Security`}, always + " Security", `Security\Certificates Security\UserInfo`},
		{"R-SEL-10: nested sets too", []string{`writerData`}, always + " writerData", data},
		{"R-SEL-9: explicit alone", []string{`writerData\Usage`}, always + ` writerData\Usage`, `writerData\Usage\Dec writerData\Usage\Jan`},
		{"R-SEL-9: not explicit with its ancestor", []string{`writerData`, `writerData\Usage`}, always + " writerData", data},
		{"R-SEL-8: raised to its selectable ancestor", []string{`writerData\Set1\Jan`}, always + " writerData", data},
		{"R-SEL-8: the nearest one", []string{`writerData\Usage\Jan`}, always + ` writerData\Usage`, `writerData\Usage\Dec writerData\Usage\Jan`},
		{"R-SEL-6: asked for by itself", []string{`Executables`}, always, ""},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			w := myWriter(t)
			wish := Wish{Wanted: map[*Component]string{}}
			for _, a := range tt.add {
				wish.Wanted[comp(t, w, a)] = "asked"
			}
			s := Select([]*Writer{w}, wish)
			if got := names(s.Explicit); got != tt.explicit {
				t.Errorf("explicit %q, want %q", got, tt.explicit)
			}
			if got := implicit(s); got != tt.implicit {
				t.Errorf("implicit %q, want %q", got, tt.implicit)
			}
		})
	}
}

func TestLinkRefusesTheSameComponentTwiceR_SEL_1(t *testing.T) {
	w := &Writer{Name: "w", Components: []*Component{{Name: "a"}, {Name: "a"}}}
	if err := w.Link(); !errors.Is(err, vss.ErrObjectAlreadyExists) {
		t.Errorf("got %v, want VSS_E_OBJECT_ALREADY_EXISTS", err)
	}
}

func TestLinkDescentGoesByTextR_SEL_4(t *testing.T) {
	w := wr(t, "w", `a s`, `a\b\c`, `ab\c`)
	if got := names(comp(t, w, "a").Members()); got != `a\b\c` {
		t.Errorf("members of a: %q; a\\b need be no component, and ab is not below a", got)
	}
}

func TestSelectBarredMemberBreaksItsSet(t *testing.T) {
	w := myWriter(t)
	wish := want(t, []*Writer{w}, `MyWriter:writerData`, `MyWriter:writerData\Usage`, `MyWriter:writerData\Set1`)
	wish.Barred = map[*Component]Bar{comp(t, w, `writerData\Set2\Jan`): {Why: "no provider"}}
	s := Select([]*Writer{w}, wish)
	if got, want := names(s.Explicit), `Executables Executables\ConfigFiles writerData\Usage`; got != want {
		t.Errorf("explicit %q, want %q: the rest of the set that is selectable by itself", got, want)
	}
	if bar, ok := s.Out[comp(t, w, `writerData\Set1`)]; !ok || !strings.Contains(bar.Why, "no provider") {
		t.Errorf("Set1 is out because of %q", bar.Why)
	}
}

func TestSelectBarredMandatoryLeavesTheWriterOutR_SEL_6(t *testing.T) {
	w := myWriter(t)
	wish := want(t, []*Writer{w}, `MyWriter:LicenseInfo`)
	wish.Barred = map[*Component]Bar{comp(t, w, `Executables\ConfigFiles`): {Why: "excluded", Asked: true}}
	s := Select([]*Writer{w}, wish)
	if len(s.Explicit) != 0 {
		t.Errorf("explicit %q: a writer whose mandatory component is out must be out", names(s.Explicit))
	}
	if bar := s.Out[comp(t, w, "LicenseInfo")]; bar.Why == "" || bar.Asked {
		t.Errorf("LicenseInfo is out with %+v; the user did not ask for that", bar)
	}
}

func TestSelectSystemStateR_SEL_19(t *testing.T) {
	sys := wr(t, "sys", `Files s`, `Services s`, `Must`, `NotState`)
	sys.Usage = vss.UsageBootableSystemState
	comp(t, sys, "Services").Flags = vss.FlagNotSystemState
	comp(t, sys, "NotState").Flags = vss.FlagNotSystemState
	svc := wr(t, "svc", `a`)
	svc.Usage = vss.UsageSystemService
	user := wr(t, "user", `Docs s`, `Must`)
	all := []*Writer{sys, svc, user}
	s := Select(all, Wish{SystemState: true})
	if got := names(s.Explicit); got != "Files Must a" {
		t.Errorf("explicit %q, want Files Must a", got)
	}
	s = Select(all, Wish{SystemState: true, Wanted: map[*Component]string{comp(t, sys, "Services"): "asked"}})
	if got := names(s.Explicit); got != "Files Must NotState Services a" {
		t.Errorf("explicit %q: asked for by name, the writer takes part for more than the system state", got)
	}
}

func depend(c *Component, on *Component) {
	c.Dependencies = append(c.Dependencies, Dependency{Class: on.Writer.Class, LogicalPath: on.LogicalPath, Name: on.Name})
}

func TestSelectDependencies(t *testing.T) {
	t.Run("R-SEL-33: the target is pulled in, with what its writer must have", func(t *testing.T) {
		a, b := wr(t, "a", `x s`), wr(t, "b", `set s`, `set\y`, `must`)
		depend(comp(t, a, "x"), comp(t, b, `set\y`))
		s := Select([]*Writer{a, b}, want(t, []*Writer{a, b}, "a:x"))
		if got := names(s.Explicit); got != "must set x" {
			t.Errorf("explicit %q", got)
		}
	})
	t.Run("R-SEL-33: a dependent without its target is left out", func(t *testing.T) {
		a := wr(t, "a", `x s`, `other s`)
		comp(t, a, "x").Dependencies = []Dependency{{Class: classOf("gone"), Name: "y"}}
		s := Select([]*Writer{a}, want(t, []*Writer{a}, "a:x", "a:other"))
		if got := names(s.Explicit); got != "other" {
			t.Errorf("explicit %q", got)
		}
		if s.Out[comp(t, a, "x")].Why == "" {
			t.Error("nobody says why x is out")
		}
	})
	t.Run("R-SEL-33: what only came with a dependent goes with it", func(t *testing.T) {
		a, b, c := wr(t, "a", `x s`), wr(t, "b", `y s`), wr(t, "c", `z s`)
		depend(comp(t, a, "x"), comp(t, b, "y"))
		depend(comp(t, a, "x"), comp(t, c, "z"))
		wish := want(t, []*Writer{a, b, c}, "a:x")
		wish.Barred = map[*Component]Bar{comp(t, c, "z"): {Why: "excluded", Asked: true}}
		s := Select([]*Writer{a, b, c}, wish)
		if len(s.Explicit) != 0 {
			t.Errorf("explicit %q, want nothing: y was only wanted by x", names(s.Explicit))
		}
	})
	t.Run("R-SEL-36: cycles end", func(t *testing.T) {
		a, b := wr(t, "a", `x s`), wr(t, "b", `y s`)
		depend(comp(t, a, "x"), comp(t, b, "y"))
		depend(comp(t, b, "y"), comp(t, a, "x"))
		s := Select([]*Writer{a, b}, want(t, []*Writer{a, b}, "a:x"))
		if got := names(s.Explicit); got != "x y" {
			t.Errorf("explicit %q", got)
		}
	})
	t.Run("R-SEL-32: on its own writer", func(t *testing.T) {
		a := wr(t, "a", `x s`, `y s`)
		depend(comp(t, a, "x"), comp(t, a, "y"))
		s := Select([]*Writer{a}, want(t, []*Writer{a}, "a:x"))
		if len(s.Explicit) != 0 || !strings.Contains(s.Out[comp(t, a, "x")].Why, "forbids") {
			t.Errorf("explicit %q, out %+v", names(s.Explicit), s.Out)
		}
	})
	t.Run("R-SEL-34: remote ones are reported and not followed", func(t *testing.T) {
		a := wr(t, "a", `x s`)
		x := comp(t, a, "x")
		x.Dependencies = []Dependency{{Class: classOf("b"), Name: "y", Computer: "other"}}
		s := Select([]*Writer{a}, want(t, []*Writer{a}, "a:x"))
		if names(s.Explicit) != "x" || len(s.Remote[x]) != 1 {
			t.Errorf("explicit %q, remote %v", names(s.Explicit), s.Remote)
		}
	})
}

// The oracle of the selection rules, written apart from the code under test: a
// model over maps of full paths, one writer at a time.
type oracle struct {
	selectable map[string]bool
	all        []string
}

func (o oracle) above(full string) (list []string) {
	for _, other := range o.all {
		if strings.HasPrefix(full, other+`\`) {
			list = append(list, other)
		}
	}
	return list
}

func (o oracle) underSelectable(full string) bool {
	return slices.ContainsFunc(o.above(full), func(a string) bool { return o.selectable[a] })
}

// explicit gives the explicit components for a set of wishes that need no
// raising.
func (o oracle) explicit(wanted map[string]bool) (out []string) {
	if len(wanted) == 0 {
		return nil
	}
	for _, c := range o.all {
		mandatory := !o.selectable[c] && !o.underSelectable(c)
		chosenAbove := slices.ContainsFunc(o.above(c), func(a string) bool { return o.selectable[a] && wanted[a] })
		if mandatory || wanted[c] && o.selectable[c] && !chosenAbove {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out
}

func (o oracle) included(explicit []string) (out []string) {
	for _, c := range o.all {
		in := slices.Contains(explicit, c)
		for _, e := range explicit {
			in = in || o.selectable[e] && strings.HasPrefix(c, e+`\`)
		}
		if in {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out
}

func randomWriter(r *rand.Rand, t testing.TB, name string) (*Writer, oracle) {
	o := oracle{selectable: map[string]bool{}}
	var comps []string
	for range 1 + r.IntN(12) {
		full := fmt.Sprint("c", r.IntN(3))
		for range r.IntN(4) {
			full += fmt.Sprint(`\c`, r.IntN(3))
		}
		if slices.Contains(o.all, full) {
			continue
		}
		o.all = append(o.all, full)
		o.selectable[full] = r.IntN(2) == 0
		text := full
		if o.selectable[full] {
			text += " s"
		}
		comps = append(comps, text)
	}
	return wr(t, name, comps...), o
}

// TestSelectAgainstOracle checks R-SEL-6..11 on random trees and wishes.
func TestSelectAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 20000 {
		w, o := randomWriter(r, t, "w")
		wanted := map[string]bool{}
		wish := Wish{Wanted: map[*Component]string{}}
		for _, c := range w.Components {
			raised := !c.Selectable && o.underSelectable(c.FullPath())
			if r.IntN(3) == 0 && !raised {
				wanted[c.FullPath()] = true
				wish.Wanted[c] = "asked"
			}
		}
		s := Select([]*Writer{w}, wish)
		wantExplicit := o.explicit(wanted)
		if got := strings.Fields(names(s.Explicit)); !slices.Equal(got, wantExplicit) {
			t.Fatalf("run %d, components %v, selectable %v, wanted %v: explicit %v, want %v", i, o.all, o.selectable, wanted, got, wantExplicit)
		}
		var in []*Component
		for c := range s.Defining {
			in = append(in, c)
		}
		if got, want := strings.Fields(names(in)), o.included(wantExplicit); !slices.Equal(got, want) {
			t.Fatalf("run %d, components %v, selectable %v, wanted %v: included %v, want %v", i, o.all, o.selectable, wanted, got, want)
		}
	}
}

// TestSelectInvariants checks, on random writers with dependencies and bars,
// what must hold of every selection.
func TestSelectInvariants(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 5000 {
		var ws []*Writer
		var all []*Component
		for n := range 1 + r.IntN(4) {
			w, _ := randomWriter(r, t, fmt.Sprint("w", n))
			ws = append(ws, w)
			all = append(all, w.Components...)
		}
		wish := Wish{Wanted: map[*Component]string{}, Barred: map[*Component]Bar{}}
		for _, c := range all {
			switch r.IntN(8) {
			case 0, 1:
				wish.Wanted[c] = "asked"
			case 2:
				wish.Barred[c] = Bar{Why: "barred"}
			case 3:
				if on := all[r.IntN(len(all))]; on.Writer != c.Writer {
					depend(c, on)
				}
			}
		}
		s := Select(ws, wish)
		checkSelection(t, i, ws, wish, s)
	}
}

func checkSelection(t *testing.T, run int, ws []*Writer, wish Wish, s *Selection) {
	t.Helper()
	bad := func(rule string, c *Component) {
		t.Helper()
		t.Fatalf("run %d: %s broken by %s", run, rule, c.Label())
	}
	for _, c := range s.Explicit {
		if !c.Selectable && c.SelectableAncestor() != nil {
			bad("R-SEL-8", c)
		}
		for _, a := range c.ancestors {
			if a.Selectable && s.Defining[a] != nil {
				bad("R-SEL-9", c)
			}
		}
	}
	for _, w := range ws {
		any := slices.ContainsFunc(w.Components, func(c *Component) bool { return s.Has(c) })
		for _, c := range w.Components {
			if any && c.Mandatory() && s.Defining[c] != c {
				bad("R-SEL-6", c)
			}
			if _, barred := wish.Barred[c]; barred && s.Has(c) {
				bad("a bar", c)
			}
			if _, wanted := wish.Wanted[c]; wanted && !s.Has(c) && s.Out[c].Why == "" {
				bad("'never in silence'", c)
			}
			if !s.Has(c) {
				continue
			}
			for _, d := range c.Dependencies {
				met := false
				for _, x := range ws {
					for _, other := range x.Components {
						met = met || s.Has(other) && other.ID() == vss.ComponentID{WriterClass: d.Class, LogicalPath: d.LogicalPath, Name: d.Name}
					}
				}
				if !met {
					bad("R-SEL-31", c)
				}
			}
			if d := s.Defining[c]; d.Selectable {
				for _, m := range d.members {
					if s.Defining[m] == nil {
						bad("R-SEL-10", m)
					}
				}
			}
		}
	}
}
