package requester

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

var testClass = vss.GUID{1}

func keyOf(name string) HistoryKey { return HistoryKey{Host: "h", Class: testClass, Name: name} }

// pastTable makes records of lines such as "F: a=full b=copy" or
// "I: a=incremental<F b=full!", where ! says that it failed. The id of a record
// begins with its letter; they are a minute apart.
func pastTable(t *testing.T, text ...string) (*PastRecords, map[string]*PastRecord) {
	t.Helper()
	named := map[string]*PastRecord{}
	var list []*PastRecord
	for i, s := range text {
		name, rest, _ := strings.Cut(s, ":")
		var lines []HistoryLine
		for _, word := range strings.Fields(rest) {
			comp, what, _ := strings.Cut(word, "=")
			what, failed := strings.CutSuffix(what, "!")
			typ, base, _ := strings.Cut(what, "<")
			l := HistoryLine{HistoryKey: keyOf(comp), Asked: typ, Type: typ, Succeeded: !failed}
			if base != "" {
				l.Base = idOf(base).String()
			}
			lines = append(lines, l)
		}
		r := NewPastRecord(PastRecord{ID: idOf(name), Host: "h", Time: time.Unix(int64(1000+60*i), 0), Type: "full"}, lines)
		named[name] = r
		list = append(list, r)
	}
	return NewPastRecords(list), named
}

func idOf(name string) (id repository.ID) {
	copy(id[:], name)
	return id
}

// shownPlan writes a plan as "F(a+ b) I(a)", + for additional restores.
func shownPlan(plan *ChainPlan) string {
	var links []string
	for _, l := range plan.Links {
		var parts []string
		for _, p := range l.Parts {
			mark := ""
			if p.More {
				mark = "+"
			}
			parts = append(parts, p.Key.Name+mark)
		}
		slices.Sort(parts)
		links = append(links, strings.TrimRight(string(l.Past.ID[:]), "\x00")+"("+strings.Join(parts, " ")+")")
	}
	return strings.Join(links, " ")
}

func TestPlanChains(t *testing.T) {
	full := []string{"F: a=full b=full", "D: a=differential<F b=differential<F", "I: a=incremental<F b=full", "L: a=log<I b=log<I",
		"C: a=copy b=copy", "J: a=incremental<I b=incremental<I", "M: a=log<J b=log<J", "E: a=differential<F"}
	for _, tt := range []struct {
		name   string
		table  []string
		chosen string
		want   string
		hole   string // in the text of the hole of a
	}{
		{"R-TYPE-2 a full one alone", full, "F", "F(a b)", ""},
		{"R-TYPE-3 a copy alone", full, "C", "C(a b)", ""},
		{"R-TYPE-5 full and the last differential", full, "E", "F(a+) E(a)", ""},
		{"R-TYPE-5 both of one full", full, "D", "F(a+ b+) D(a b)", ""},
		{"R-TYPE-4 full and all incrementals; one that came to full begins anew (D-30)", full, "J", "F(a+) I(a+ b+) J(a b)", ""},
		{"R-TYPE-6 and logs, without those before the last incremental", full, "M", "F(a+) I(a+ b+) J(a+ b+) M(a b)", ""},
		{"a record that tells nothing is all there is", []string{"X:"}, "X", "X(a)", ""},
		{"a log of a log", []string{"F: a=full", "1: a=log<F", "2: a=log<1"}, "2", "F(a+) 1(a+) 2(a)", ""},
		{"a clock set back: after what it continues", []string{"I: a=incremental<F", "F: a=full"}, "I", "F(a+) I(a)", ""},

		{"a base that is not there", []string{"I: a=incremental<F"}, "I", "I()", "record 46000000, which its backup 49000000 continues, is not in the repository; no earlier"},
		{"a base in the middle", []string{"F: a=full", "J: a=incremental<I"}, "J", "J()", "49000000, which its backup 4a000000 continues, is not in the repository; the last one before it that can be restored is 46000000"},
		{"a base where it failed", []string{"F: a=full!", "I: a=incremental<F"}, "I", "I()", "has not saved the component whole"},
		{"the record itself where it failed", []string{"F: a=full", "I: a=incremental<F!"}, "I", "I()", "record 49000000 has not saved the component whole; the last one before it that can be restored is 46000000"},
		{"a base without the component", []string{"F: b=full", "I: a=incremental<F"}, "I", "I()", "has no part of the component"},
		{"D-19 nothing continues a differential one", []string{"F: a=full", "D: a=differential<F", "I: a=incremental<D"}, "I", "I()", "is of type differential there, which type incremental cannot continue"},
		{"R-TYPE-3 nothing continues a copy", []string{"C: a=copy", "I: a=incremental<C"}, "I", "I()", "is of type copy there"},
		{"R-TYPE-5 a differential one continues full ones alone", []string{"F: a=full", "I: a=incremental<F", "D: a=differential<I"}, "D", "D()", "is of type incremental there"},
		{"a log that says nothing", []string{"L: a=log"}, "L", "L()", "does not say what it continues"},
		{"a circle", []string{"I: a=incremental<J", "J: a=incremental<I"}, "J", "J()", "without a beginning"},
	} {
		past, named := pastTable(t, tt.table...)
		keys := []HistoryKey{keyOf("a")}
		if l, _ := named[tt.chosen].Line(keyOf("b")); l != nil {
			keys = append(keys, keyOf("b"))
		}
		plan, err := past.PlanChains(named[tt.chosen], keys)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := shownPlan(plan); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		got := ""
		for _, h := range plan.Holes {
			got += h.String()
		}
		if (tt.hole == "") != (got == "") || !strings.Contains(got, tt.hole) {
			t.Errorf("%s: hole %q, want %q", tt.name, got, tt.hole)
		}
	}
}

func TestChainsThatContradictEachOtherAreRefused(t *testing.T) {
	past, named := pastTable(t, "A: a=full b=incremental<B c=incremental<A", "B: b=full a=incremental<A", "C: a=incremental<B b=incremental<A")
	if plan, err := past.PlanChains(named["C"], []HistoryKey{keyOf("a"), keyOf("b")}); err == nil {
		t.Errorf("planned %s", shownPlan(plan))
	}
}

// TestPlanChainsProperty compares with a model of the rules over the sequence of
// what each component came to: R-TYPE-2 to R-TYPE-6, R-TYPE-20 and D-19.
func TestPlanChainsProperty(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 20))
	types := []vss.BackupType{vss.BackupTypeFull, vss.BackupTypeIncremental, vss.BackupTypeDifferential, vss.BackupTypeLog, vss.BackupTypeCopy}
	holes, whole := 0, 0
	for round := range 3000 {
		comps := []string{"a", "b", "c"}[:1+rng.IntN(3)]
		n := 1 + rng.IntN(12)
		came := map[string][]vss.BackupType{} // zero: it took no part
		lines := make([][]HistoryLine, n)
		for i := range n {
			for _, c := range comps {
				typ := types[rng.IntN(len(types))]
				base := modelBase(came[c], typ)
				switch {
				case rng.IntN(8) == 0:
					typ, base = 0, -1
				case base < 0 && typ != vss.BackupTypeCopy:
					typ = vss.BackupTypeFull
				}
				came[c] = append(came[c], typ)
				if typ == 0 {
					continue
				}
				l := HistoryLine{HistoryKey: keyOf(c), Asked: typ.Word(), Type: typ.Word(), Succeeded: true}
				if base >= 0 {
					l.Base = idOf(fmt.Sprint("r", base, ".")).String()
				}
				lines[i] = append(lines[i], l)
			}
		}
		gone := map[int]bool{}
		for range rng.IntN(3) {
			gone[rng.IntN(n)] = true
		}
		chosen := rng.IntN(n)
		delete(gone, chosen)
		var list []*PastRecord
		var top *PastRecord
		for i := range n {
			r := NewPastRecord(PastRecord{ID: idOf(fmt.Sprint("r", i, ".")), Host: "h", Time: time.Unix(int64(i), 0)}, lines[i])
			if i == chosen {
				top = r
			}
			if !gone[i] {
				list = append(list, r)
			}
		}
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		want := map[int]map[string]bool{chosen: {}} // record, component, more
		var keys []HistoryKey
		lacking := map[string]bool{}
		for _, c := range comps {
			if came[c][chosen] == 0 {
				continue
			}
			keys = append(keys, keyOf(c))
			chain := modelChain(came[c], chosen)
			if slices.ContainsFunc(chain, func(i int) bool { return gone[i] }) {
				lacking[c] = true
				continue
			}
			for _, i := range chain {
				if want[i] == nil {
					want[i] = map[string]bool{}
				}
				want[i][c] = i != chosen
			}
		}
		plan, err := NewPastRecords(list).PlanChains(top, keys)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, h := range plan.Holes {
			holes++
			if !lacking[h.Key.Name] {
				t.Errorf("round %d: %s", round, h)
			}
			if !h.Instead.IsZero() && !modelWhole(came[h.Key.Name], h.Instead, chosen, gone) {
				t.Errorf("round %d: %s: that cannot be restored", round, h)
			}
			delete(lacking, h.Key.Name)
		}
		if len(lacking) > 0 {
			t.Errorf("round %d: nothing is said of %v", round, lacking)
		}
		last := -1
		for _, l := range plan.Links {
			var i int
			fmt.Sscanf(string(l.Past.ID[:]), "r%d.", &i)
			if i <= last {
				t.Errorf("round %d: link %d comes after %d", round, i, last)
			}
			last = i
			for _, p := range l.Parts {
				more, in := want[i][p.Key.Name]
				if !in || more != p.More {
					t.Errorf("round %d: link %d: %s more=%v, want %v %v", round, i, p.Key.Name, p.More, in, more)
				}
				delete(want[i], p.Key.Name)
			}
			if len(want[i]) > 0 {
				t.Errorf("round %d: link %d lacks %v", round, i, want[i])
			}
			delete(want, i)
		}
		if len(want) > 0 || last != chosen {
			t.Errorf("round %d: lacks links %v; the last is %d, not %d", round, want, last, chosen)
		}
		whole += len(plan.Links)
	}
	if holes < 100 || whole < 3000 {
		t.Errorf("only %d holes and %d links were met", holes, whole)
	}
}

// modelBase is what a backup of the type is made against: the index of a record,
// or -1.
func modelBase(came []vss.BackupType, t vss.BackupType) int {
	for i := len(came) - 1; i >= 0; i-- {
		switch came[i] {
		case vss.BackupTypeFull:
			if t == vss.BackupTypeIncremental || t == vss.BackupTypeDifferential || t == vss.BackupTypeLog {
				return i
			}
		case vss.BackupTypeIncremental:
			if t == vss.BackupTypeIncremental || t == vss.BackupTypeLog {
				return i
			}
		case vss.BackupTypeLog:
			if t == vss.BackupTypeLog {
				return i
			}
		}
	}
	return -1
}

// modelChain is the rule as the issue has it: full; full + the last
// differential; full + all incrementals; + logs.
func modelChain(came []vss.BackupType, at int) []int {
	find := func(from int, types ...vss.BackupType) int {
		for i := from; i >= 0; i-- {
			if slices.Contains(types, came[i]) {
				return i
			}
		}
		return -1
	}
	between := func(after, to int, typ vss.BackupType) (out []int) {
		for i := after + 1; i <= to; i++ {
			if came[i] == typ {
				out = append(out, i)
			}
		}
		return out
	}
	switch came[at] {
	case vss.BackupTypeDifferential:
		return []int{find(at, vss.BackupTypeFull), at}
	case vss.BackupTypeIncremental:
		full := find(at, vss.BackupTypeFull)
		return append([]int{full}, between(full, at, vss.BackupTypeIncremental)...)
	case vss.BackupTypeLog:
		image := find(at, vss.BackupTypeFull, vss.BackupTypeIncremental)
		return append(modelChain(came, image), between(image, at, vss.BackupTypeLog)...)
	}
	return []int{at}
}

func modelWhole(came []vss.BackupType, id repository.ID, before int, gone map[int]bool) bool {
	var i int
	fmt.Sscanf(string(id[:]), "r%d.", &i)
	return i < before && came[i] != 0 && !slices.ContainsFunc(modelChain(came, i), func(i int) bool { return gone[i] })
}

// TestChainOfCopiedRecords: in another repository a base has another id, and its
// origin tells which it is.
func TestChainOfCopiedRecords(t *testing.T) {
	line := func(typ, base string) []HistoryLine {
		l := HistoryLine{HistoryKey: keyOf("a"), Asked: typ, Type: typ, Succeeded: true}
		if base != "" {
			l.Base = idOf(base).String()
		}
		return []HistoryLine{l}
	}
	origin := func(repo, name string) string { return idOf(repo).String() + "/" + idOf(name).String() }
	f := NewPastRecord(PastRecord{ID: idOf("f'"), Origin: origin("one", "F"), Time: time.Unix(1, 0)}, line("full", ""))
	other := NewPastRecord(PastRecord{ID: idOf("x'"), Origin: origin("two", "F"), Time: time.Unix(2, 0)}, line("full", ""))
	i := NewPastRecord(PastRecord{ID: idOf("i'"), Origin: origin("one", "I"), Time: time.Unix(3, 0)}, line("incremental", "F"))
	j := NewPastRecord(PastRecord{ID: idOf("j"), Time: time.Unix(4, 0)}, line("incremental", "i'"))
	for _, tt := range []struct {
		list []*PastRecord
		want string
	}{
		{[]*PastRecord{f, other, i, j}, "f'(a+) i'(a+) j(a)"},
		{[]*PastRecord{other, i, j}, "j()"},
	} {
		plan, err := NewPastRecords(tt.list).PlanChains(j, []HistoryKey{keyOf("a")})
		if err != nil || shownPlan(plan) != tt.want {
			t.Errorf("%s, %v; want %s", shownPlan(plan), err, tt.want)
		}
	}
}

func FuzzParseHistory(f *testing.F) {
	good, err := json.Marshal([]HistoryLine{{HistoryKey: keyOf("a"), Asked: "incremental", Type: "full", Succeeded: true, Notes: []string{"x"}},
		{HistoryKey: keyOf("b"), Asked: "log", Type: "log", Base: idOf("F").String()}})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(good), "", "null", "{}", "[null]", `[{"name":"a"}]`, `[{"class":"{00000001-0000-0000-0000-000000000000}","name":"a","asked":"full","type":"other"}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := ParseHistory(data)
		if err != nil {
			return
		}
		var list []*PastRecord
		top := NewPastRecord(PastRecord{ID: idOf("F"), Time: time.Unix(1, 0)}, lines)
		list = append(list, top)
		past := NewPastRecords(list)
		var keys []HistoryKey
		for _, l := range lines {
			keys = append(keys, l.HistoryKey)
		}
		plan, err := past.PlanChains(top, keys)
		if err != nil {
			t.Fatal(err)
		}
		parts := 0
		for _, l := range plan.Links {
			parts += len(l.Parts)
		}
		if parts+len(plan.Holes) != len(keys) {
			t.Fatalf("%d parts and %d holes of %d components", parts, len(plan.Holes), len(keys))
		}
	})
}

func TestParseHistoryRefusesWhatMakesNoSense(t *testing.T) {
	ok := `"class":"` + testClass.String() + `","name":"a","asked":"full","type":"full"`
	for text, want := range map[string]string{
		`[{` + ok + `}]`:                              "",
		`[{` + ok + `,"newer_program":true}]`:         "",
		`[{` + ok + `},{` + ok + `}]`:                 "has a line already",
		`[{` + ok + `,"base":"../x"}]`:                "no id",
		`[{"name":"a","asked":"full","type":"full"}]`: "no component",
		`[{"class":"` + testClass.String() + `","name":"a","asked":"full","type":"Full"}]`:  "no type",
		`[{"class":"` + testClass.String() + `","name":"a","asked":"other","type":"full"}]`: "no type",
		`{`: "document history.json",
	} {
		_, err := ParseHistory([]byte(text))
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
