package requester

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/vss"
)

// listBench is writers' components over volumes, to plan lists for.
type listBench struct {
	claims *Claims
	writer *Writer
	byName map[string]*Component
	list   []Listed
	typing Typing
	out    map[string]bool // volumes of which nothing new can be taken
	bare   map[string]bool // volumes without a shadow copy
	none   bool            // no partial files are taken
}

const lastModify = vss.SchemaIncremental | vss.SchemaDifferential | vss.SchemaLastModify

func newListBench() *listBench {
	return &listBench{claims: NewClaims(vss.POSIX), byName: map[string]*Component{}, out: map[string]bool{}, bare: map[string]bool{},
		writer: &Writer{Name: "w", Schema: lastModify},
		typing: Typing{Asked: vss.BackupTypeIncremental, Type: vss.BackupTypeIncremental, Base: &Base{}}}
}

// component adds a selectable one with sets given as "volume:dir|pattern", "+" at
// the end for recursive ones.
func (b *listBench) component(full string, mask vss.FileSpecBackupType, sets ...string) *Component {
	dir, name := vss.SplitFullPath(full)
	c := &Component{Writer: b.writer, LogicalPath: dir, Name: name, Selectable: true}
	for _, text := range sets {
		_, s := placed(text)
		c.Files = append(c.Files, FileSet{Spec: vss.FileSpec{Path: "/" + s.Dir, Pattern: s.Pattern, Recursive: s.Recursive}, Mask: mask})
	}
	for i, text := range sets {
		volume, s := placed(text)
		b.claims.Add(&Claim{Component: c, File: &c.Files[i], Volume: volume, Set: s, From: volume, Dir: s.Dir})
	}
	b.byName[full] = c
	return c
}

func placed(text string) (volume string, s provider.FileSet) {
	text, s.Recursive = strings.CutSuffix(text, "+")
	volume, text, _ = strings.Cut(text, ":")
	s.Dir, s.Pattern, _ = strings.Cut(text, "|")
	return volume, s
}

// differenced and partial list an entry in a component's part of the document.
func (b *listBench) differenced(comp, set string, since vss.FileTime) {
	volume, s := placed(set)
	b.list = append(b.list, Listed{Component: b.byName[comp], Spec: vss.FileSpec{Path: "/" + s.Dir, Pattern: s.Pattern, Recursive: s.Recursive},
		Since: since, Places: []ListedPlace{{Volume: volume, Dir: s.Dir}}})
}

func (b *listBench) partial(comp, file string, ranges ...vss.Range) {
	volume, s := placed(file)
	b.list = append(b.list, Listed{Component: b.byName[comp], Spec: vss.FileSpec{Path: "/" + s.Dir, Pattern: s.Pattern}, Partial: true,
		Ranges: ranges, Places: []ListedPlace{{Volume: volume, Dir: s.Dir}}})
}

func (b *listBench) plan() *ListedPlan {
	return PlanListed(b.list, ListRules{Claims: b.claims, NoPartial: b.none,
		Typing: func(*Component) Typing { return b.typing },
		Copied: func(id string) bool { return !b.bare[id] },
		Volume: func(id string) string {
			if b.out[id] {
				return "it lies on a volume that is not in the set"
			}
			return ""
		}})
}

// faults are a plan's in words: "path: rule", with "!" if the component fails.
func (p *ListedPlan) faults() (out []string) {
	for _, f := range p.Faults {
		rule := f.Text
		for _, r := range faultRules {
			if strings.Contains(f.Text, r.says) {
				rule = r.rule
				break
			}
		}
		text := f.Path + ": " + rule
		if f.Fails {
			text += "!"
		}
		out = append(out, text)
	}
	return out
}

// faultRules tell by its text which rule a fault is of; the first that fits counts.
var faultRules = []struct{ says, rule string }{
	{"without being equal to it", "R-SET-33"},
	{"so that its files are saved as others are", "R-SET-32"},
	{"and it is in the file specification", "D-15"},
	{"lies on", "R-SET-34"},
	{"both as a differenced and as a partial file", "R-SET-42"},
	{"--no-partial", "R-SET-35"},
	{"to be read from the shadow copy only", "R-SET-27"},
}

func wantFaults(t *testing.T, p *ListedPlan, want ...string) {
	t.Helper()
	if got := p.faults(); !slices.Equal(got, want) {
		t.Errorf("faults %q, want %q", got, want)
	}
}

const everyMask = vss.DefaultFileSpecBackupType

func TestR_SET_33_DifferencedSetsEqualOneOrAreNew(t *testing.T) {
	b := newListBench()
	db := b.component("db", everyMask, "v:d|*.txt", "v:d|*.cfg", "v:tree|*+")
	sub := b.component(`db\sub`, everyMask, "v:s|*")
	b.component("other", everyMask, "v:o|*.txt", "v:deep/er|x")
	b.differenced("db", "v:d|*.txt", 5)    // equal
	b.differenced("db", "v:s|*.*", 5)      // equal to a subcomponent's
	b.differenced("db", "v:tree|*", 5)     // not recursive: meets, is not equal
	b.differenced("db", "v:d|a*", 5)       // meets both
	b.differenced("db", "v:d|*.log", 5)    // new
	b.differenced("db", "v:o|*.txt", 5)    // equal to another component's
	b.differenced("db", "v:deep|*+", 5)    // above another component's
	b.differenced("db", "v:new|*+", 5)     // new
	b.differenced("db", "v:tree/x|one", 5) // below one
	p := b.plan()
	wantFaults(t, p, "/tree/*: R-SET-33!", "/d/a*: R-SET-33!", "/o/*.txt: R-SET-33!", "/deep/*: R-SET-33!", "/tree/x/one: R-SET-33!")
	if p.Of(&db.Files[0]) == nil || p.Of(&sub.Files[0]) == nil || p.Of(&db.Files[1]) != nil || len(p.Sets) != 2 {
		t.Errorf("sets %v", p.Sets)
	}
	if len(p.New) != 2 || p.New[0].Set.Pattern != "*.log" || p.New[1].Set.Dir != "new" {
		t.Errorf("new sets %v", p.New)
	}
}

func TestR_SET_32_DifferencedFilesCountOnlyWhereTheyMay(t *testing.T) {
	for _, c := range []struct {
		what   string
		typing Typing
		schema vss.BackupSchema
		used   bool
		faults []string
	}{
		{"incremental", Typing{Type: vss.BackupTypeIncremental, Base: &Base{}}, lastModify, true, nil},
		{"differential", Typing{Type: vss.BackupTypeDifferential, Base: &Base{}}, lastModify, true, nil},
		{"full", Typing{Type: vss.BackupTypeFull}, lastModify, false, nil},
		{"incremental without a base", Typing{Asked: vss.BackupTypeIncremental, Type: vss.BackupTypeFull}, lastModify, false, nil},
		{"copy", Typing{Type: vss.BackupTypeCopy}, lastModify, false, nil},
		{"log", Typing{Type: vss.BackupTypeLog, Base: &Base{}}, lastModify | vss.SchemaLog, false, nil},
		{"left out", Typing{Type: vss.BackupTypeIncremental, LeftOut: "so"}, lastModify, false, nil},
		{"no LAST_MODIFY", Typing{Type: vss.BackupTypeIncremental, Base: &Base{}}, vss.SchemaIncremental, false, []string{"/d/*: R-SET-32"}},
		{"not the type's bit", Typing{Type: vss.BackupTypeIncremental, Base: &Base{}}, vss.SchemaDifferential | vss.SchemaLastModify, false, []string{"/d/*: R-SET-32"}},
	} {
		b := newListBench()
		b.typing, b.writer.Schema = c.typing, c.schema
		db := b.component("db", everyMask, "v:d|*")
		b.differenced("db", "v:d|*", 5)
		p := b.plan()
		if used := p.Of(&db.Files[0]) != nil; used != c.used {
			t.Errorf("%s: used %v", c.what, used)
		}
		if got := p.faults(); !slices.Equal(got, c.faults) {
			t.Errorf("%s: faults %q, want %q", c.what, got, c.faults)
		}
	}
}

func TestR_SET_31_TimesOfDifferencedFiles(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(1e9+s, 0) }
	for _, c := range []struct {
		times   []vss.FileTime
		records bool
		after   []bool // of files modified at -1, 0, 1, 2, 3
	}{
		{[]vss.FileTime{vss.FileTimeOf(at(1))}, false, []bool{false, false, false, true, true}},
		{[]vss.FileTime{0}, true, []bool{false, false, false, false, false}},
		// Listed twice: what either wants.
		{[]vss.FileTime{vss.FileTimeOf(at(2)), vss.FileTimeOf(at(0))}, false, []bool{false, false, true, true, true}},
		{[]vss.FileTime{0, vss.FileTimeOf(at(1))}, true, []bool{false, false, false, true, true}},
		{[]vss.FileTime{^vss.FileTime(0)}, false, []bool{false, false, false, false, false}},
		{[]vss.FileTime{1}, false, []bool{true, true, true, true, true}},
	} {
		for _, set := range []string{"v:d|*", "v:new|*"} {
			b := newListBench()
			db := b.component("db", everyMask, "v:d|*")
			for _, since := range c.times {
				b.differenced("db", set, since)
			}
			p := b.plan()
			s := p.Of(&db.Files[0])
			if len(p.New) == 1 {
				s = &p.New[0].Since
			}
			if s == nil || s.Records != c.records {
				t.Fatalf("%v: %+v", c.times, s)
			}
			for i, want := range c.after {
				if got := s.After(at(int64(i - 1))); got != want {
					t.Errorf("%v: a file modified at %d is saved: %v", c.times, i-1, got)
				}
			}
		}
	}
}

func TestR_SET_36_PartialFilesOverlapAndAreMerged(t *testing.T) {
	b := newListBench()
	db := b.component("db", everyMask, "v:d|*", "v:tree|*.dat+")
	b.claims.list[db][1].Alternate, b.claims.list[db][1].From, b.claims.list[db][1].Dir = true, "u", "spit"
	b.component("other", everyMask, "v:o|*")
	b.partial("db", "v:d|a", vss.Range{Offset: 4, Length: 2})
	b.partial("db", "v:tree/x/y|b.dat", vss.Range{Offset: 1, Length: 1})
	b.partial("db", "v:d|a", vss.Range{Offset: 1, Length: 1})
	b.partial("db", "v:new|n", vss.Range{Offset: 2, Length: 1})
	b.partial("db", "v:o|theirs", vss.Range{Offset: 0, Length: 1})
	p := b.plan()
	wantFaults(t, p, "/o/theirs: D-15!")
	if len(p.Partial) != 3 {
		t.Fatalf("%d partial files", len(p.Partial))
	}
	a, tree, fresh := p.Partial[0], p.Partial[1], p.Partial[2]
	if a.New || a.File != &db.Files[0] || a.Ranges.Format() != "4:2,1:1" || p.PartialAt("v", "d/a", vss.POSIX) != a {
		t.Errorf("a: %+v", a)
	}
	if tree.From != "u" || tree.Dir != "spit/x/y" || tree.Set.Dir != "tree/x/y" || !tree.Alternate {
		t.Errorf("R-SET-43: %+v", tree.Claim)
	}
	if !fresh.New || fresh.Component != db || p.PartialAt("v", "d/b", vss.POSIX) != nil {
		t.Errorf("R-SET-34: %+v", fresh)
	}
}

func TestR_SET_34_WhatIsNewLiesOnAVolumeOfTheSet(t *testing.T) {
	b := newListBench()
	b.component("db", everyMask, "v:d|*")
	b.out["far"] = true
	b.differenced("db", "far:x|*", 5)
	b.partial("db", "far:x|p")
	b.partial("db", "v:anywhere/at/all|p")
	p := b.plan()
	wantFaults(t, p, "/x/*: R-SET-34!", "/x/p: R-SET-34!")
	if len(p.New) != 0 || len(p.Partial) != 1 {
		t.Errorf("new %v, partial %v", p.New, p.Partial)
	}
}

func TestR_SET_42_BothDifferencedAndPartial(t *testing.T) {
	b := newListBench()
	b.component("db", everyMask, "v:d|*")
	b.partial("db", "v:d|a") // before the set that has it: the order of work counts (R-SET-41)
	b.partial("db", "v:new|n")
	b.differenced("db", "v:d|*", 5)
	b.differenced("db", "v:new|n", 5)
	wantFaults(t, b.plan(), "/d/a: R-SET-42", "/new/n: R-SET-42")
	if p := b.plan(); len(p.Partial) != 0 {
		t.Errorf("partial files %v", p.Partial)
	}
	b.typing = Typing{Type: vss.BackupTypeFull}
	wantFaults(t, b.plan())
	if p := b.plan(); len(p.Partial) != 2 {
		t.Errorf("where differenced files do not count the partial ones are %v", p.Partial)
	}
}

func TestR_SET_45_ExclusionWins(t *testing.T) {
	b := newListBench()
	b.component("db", everyMask, "v:d|*")
	b.claims.AddExclude(b.writer, "v", provider.FileSet{Dir: "d", Pattern: "*.tmp"})
	b.claims.AddExclude(b.writer, "far", provider.FileSet{Dir: "x", Pattern: "*"})
	b.out["far"] = true
	b.partial("db", "v:d|a.tmp")
	b.partial("db", "far:x|a")
	b.none = true
	p := b.plan()
	wantFaults(t, p) // what is not taken can break no rule
	if len(p.Partial) != 0 {
		t.Errorf("partial files %v", p.Partial)
	}
}

func TestR_SET_35_PartialFilesThatWereNotAskedForAreRefused(t *testing.T) {
	b := newListBench()
	b.component("db", everyMask, "v:d|*")
	b.none = true
	b.partial("db", "v:d|a", vss.Range{Length: 1})
	p := b.plan()
	wantFaults(t, p, "/d/a: R-SET-35!")
	if p.PartialAt("v", "d/a", vss.POSIX) != nil {
		t.Error("it is taken all the same")
	}
}

func TestR_SET_27_MatchesWithoutAShadowCopyFail(t *testing.T) {
	b := newListBench()
	db := b.component("db", everyMask&^(vss.IncrementalBackupRequired|vss.FullBackupRequired), "v:d|*")
	b.bare["v"] = true
	b.differenced("db", "v:d|*", 5)
	b.partial("db", "v:d|a")
	wantFaults(t, b.plan(), "/d/*: R-SET-27!", "/d/a: R-SET-27!")
	db.Files[0].Mask &^= vss.IncrementalSnapshotRequired
	wantFaults(t, b.plan(), "/d/a: R-SET-42")
}

func TestListedEntriesThatCannotBePlacedFailTheirComponent(t *testing.T) {
	b := newListBench()
	db := b.component("db", everyMask, "v:d|*")
	b.list = []Listed{{Component: db, Spec: vss.FileSpec{Path: "/x", Pattern: "*"}, Err: fmt.Errorf("no (such)")},
		{Component: db, Spec: vss.FileSpec{Path: "/x", Pattern: "y"}, Partial: true, Err: fmt.Errorf("no (such)")}}
	wantFaults(t, b.plan(), "/x/*: its writer lists it as differenced files: no (such)!", "/x/y: its writer lists it as a partial file: no (such)!")
}

// TestPlanOfListsAgreesWithEachFileApart plans random lists over random
// components, and compares what that comes to for every file there could be with
// the rules applied to that file alone.
func TestPlanOfListsAgreesWithEachFileApart(t *testing.T) {
	dirs, patterns := []string{"a", "a/b", "c"}, []string{"*", "*.t", "x*", "x.t", "?.c", "y.t", "*.*"}
	var names []string
	for _, d := range append(slices.Clone(dirs), "a/b/e", "z") {
		for _, n := range []string{"x.t", "y.t", "x.c", "y.c", "xx.t", "x", "other"} {
			names = append(names, path.Join(d, n))
		}
	}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 4))
		set := func() string {
			s := "v:" + dirs[r.IntN(len(dirs))] + "|" + patterns[r.IntN(len(patterns))]
			if r.IntN(3) == 0 {
				s += "+"
			}
			return s
		}
		b := newListBench()
		var all []provider.FileSet
		for _, full := range []string{"db", `db\sub`, "other"} {
			var sets []string
			for range r.IntN(3) {
				_, s := placed(set())
				if !slices.ContainsFunc(all, func(x provider.FileSet) bool { return share(x, s, names) }) { // R-SET-6
					all = append(all, s)
					sets = append(sets, "v:"+s.Dir+"|"+s.Pattern+map[bool]string{true: "+"}[s.Recursive])
				}
			}
			b.component(full, everyMask, sets...)
		}
		if r.IntN(2) == 0 {
			_, s := placed(set())
			b.claims.AddExclude(b.writer, "v", s)
		}
		if r.IntN(4) == 0 {
			b.typing = Typing{Type: vss.BackupTypeFull}
		}
		b.out["v"] = r.IntN(4) == 0
		b.none = r.IntN(4) == 0
		for range r.IntN(4) {
			b.differenced("db", set(), vss.FileTime(r.IntN(3)))
		}
		for range r.IntN(4) {
			b.partial("db", "v:"+path.Dir(names[r.IntN(len(names))])+"|"+path.Base(names[r.IntN(len(names))]), vss.Range{Length: uint64(r.IntN(3))})
		}
		p := b.plan()
		fails := slices.ContainsFunc(p.Faults, func(f Fault) bool { return f.Fails })
		if want := b.mustFail(names); fails != want {
			t.Fatalf("seed %d: fails %v, want %v: %q\n%+v", seed, fails, want, p.faults(), b.list)
		}
		for _, name := range names {
			if got, want := p.fate(b, name), b.fate(name, names); got != want {
				t.Fatalf("seed %d: %s: %s, want %s: %q\n%+v", seed, name, got, want, p.faults(), b.list)
			}
		}
	}
}

// share reports whether two sets have a file in common, of those there could be.
func share(x, y provider.FileSet, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return x.Matches(n, false) && y.Matches(n, false) })
}

// fate is what a plan has a file taken as.
func (p *ListedPlan) fate(b *listBench, name string) string {
	if b.claims.Excludes(b.writer, "v", name) {
		return "excluded"
	}
	for _, cl := range b.claims.Find("v", name).Claims {
		if s := p.Of(cl.File); s != nil {
			return fmt.Sprintf("differenced %d %v", len(s.Times), s.Records)
		}
	}
	for _, s := range p.New {
		if s.Set.Matches(name, false) {
			return "new differenced"
		}
	}
	if f := p.PartialAt("v", name, vss.POSIX); f != nil {
		return fmt.Sprintf("partial %d, new %v", len(f.Ranges), f.New)
	}
	return "mask"
}

// fate is what the rules say of a file.
func (b *listBench) fate(name string, names []string) string {
	excluded := slices.ContainsFunc(b.claims.excludesOf(b.writer, "v"), func(s provider.FileSet) bool { return s.Matches(name, false) })
	if excluded {
		return "excluded" // R-SET-45
	}
	own := b.setOf(name, "db")
	times, records, fresh, ranges := 0, false, false, 0
	for _, l := range b.list {
		switch {
		case l.Partial && path.Join(l.Places[0].Dir, l.Spec.Pattern) == name:
			ranges++
		case l.Partial || b.typing.Type == vss.BackupTypeFull:
		case own != nil && same(*own, listedSet(l)):
			records = records || l.Since == 0
			times += map[bool]int{false: 1}[l.Since == 0]
		case own == nil && listedSet(l).Matches(name, false) && b.isNew(l, names) && !b.out["v"]:
			fresh = true
		}
	}
	other := b.setOf(name, "other")
	switch {
	case times > 0 || records:
		return fmt.Sprintf("differenced %d %v", times, records)
	case fresh:
		return "new differenced"
	case ranges > 0 && !b.none && (own != nil || other == nil && !b.out["v"]):
		return fmt.Sprintf("partial %d, new %v", ranges, own == nil)
	}
	return "mask"
}

// mustFail reports whether an entry breaks a rule that fails its component.
func (b *listBench) mustFail(names []string) bool {
	for _, l := range b.list {
		if !l.Partial {
			if b.typing.Type != vss.BackupTypeFull && !b.equalsOwn(l) && (!b.isNew(l, names) || b.out["v"]) {
				return true
			}
			continue
		}
		name := path.Join(l.Places[0].Dir, l.Spec.Pattern)
		fate := b.fate(name, names)
		if fate == "mask" {
			return true
		}
		if b.none && fate != "excluded" {
			return true
		}
	}
	return false
}

func listedSet(l Listed) provider.FileSet {
	return provider.FileSet{Dir: l.Places[0].Dir, Pattern: l.Spec.Pattern, Recursive: l.Spec.Recursive}
}

func same(x, y provider.FileSet) bool {
	x.Pattern, y.Pattern = strings.Replace(x.Pattern, "*.*", "*", 1), strings.Replace(y.Pattern, "*.*", "*", 1)
	return x == y
}

// setOf gives the set of a component set that has a file.
func (b *listBench) setOf(name, def string) *provider.FileSet {
	for full, c := range b.byName {
		if full != def && !strings.HasPrefix(full, def+`\`) {
			continue
		}
		for _, cl := range b.claims.Of(c) {
			if cl.Set.Matches(name, false) {
				return &cl.Set
			}
		}
	}
	return nil
}

func (b *listBench) equalsOwn(l Listed) bool {
	return slices.ContainsFunc(slices.Concat(b.claims.Of(b.byName["db"]), b.claims.Of(b.byName[`db\sub`])), func(cl *Claim) bool {
		return same(cl.Set, listedSet(l))
	})
}

// isNew reports whether a set of differenced files shares none with any set.
func (b *listBench) isNew(l Listed, names []string) bool {
	for _, c := range b.byName {
		for _, cl := range b.claims.Of(c) {
			if share(cl.Set, listedSet(l), names) {
				return false
			}
		}
	}
	return true
}
