package requester

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/vss"
)

func sqlAndApp(t testing.TB) []*Writer {
	sql := wr(t, "SqlServerWriter", `SRV\master s`, `SRV\model s`)
	sql.InstanceName = "Microsoft SQL Server 2017:SQLWriter"
	app := wr(t, "App Writer", `data s r`, `data\logs`, `must`, `/srv/app.db s`)
	return []*Writer{sql, app}
}

func TestSelectorsForms(t *testing.T) {
	ws := sqlAndApp(t)
	sql, app := ws[0], ws[1]
	all := `SRV\master SRV\model`
	for _, tt := range []struct {
		s    Selectors
		want string
	}{
		{Selectors{Writers: []string{"SqlServerWriter"}}, all},
		{Selectors{Writers: []string{"sqlserverwriter"}}, all},
		{Selectors{Writers: []string{"Microsoft SQL Server 2017:SQLWriter"}}, all},
		{Selectors{Writers: []string{sql.Class.String()}}, all},
		{Selectors{Writers: []string{"{" + strings.ToUpper(sql.Class.String()) + "}"}}, all},
		{Selectors{Writers: []string{sql.Instance.String()}}, all},
		{Selectors{Components: []string{"SqlServerWriter"}}, all},
		{Selectors{Components: []string{`SqlServerWriter:\SRV\master`}}, `SRV\master`},
		{Selectors{Components: []string{`SqlServerWriter:SRV\master`}}, `SRV\master`},
		{Selectors{Components: []string{`Microsoft SQL Server 2017:SQLWriter:\SRV\model`}}, `SRV\model`},
		{Selectors{Components: []string{sql.Class.String() + `:\SRV\model`}}, `SRV\model`},
		{Selectors{Components: []string{`SqlServerWriter:\SRV`}}, all},
		{Selectors{Components: []string{`SRV`}}, all},
		{Selectors{Components: []string{`\SRV\master`}}, `SRV\master`},
		{Selectors{Components: []string{`master`}}, `SRV\master`},
		{Selectors{Components: []string{`data`}}, `data`},
		{Selectors{Components: []string{`logs`}}, `data\logs`},
		{Selectors{Components: []string{`/srv/app.db`}}, `/srv/app.db`},
		{Selectors{Components: []string{`App Writer:/srv/app.db`}}, `/srv/app.db`},
		{Selectors{Components: []string{`model`, `must`}}, `SRV\model must`},
	} {
		got, err := tt.s.Match(ws)
		if err != nil {
			t.Errorf("%+v: %v", tt.s, err)
			continue
		}
		if n := names(slices.Collect(maps.Keys(got.Include))); n != tt.want {
			t.Errorf("%+v: %q, want %q", tt.s, n, tt.want)
		}
	}
	got, err := Selectors{ExcludeWriters: []string{app.Name}, ExcludeComponents: []string{"master"}}.Match(ws)
	if err != nil || len(got.Include) != 0 || names(slices.Collect(maps.Keys(got.Exclude))) != `/srv/app.db SRV\master data data\logs must` {
		t.Errorf("excluded %q, %v", names(slices.Collect(maps.Keys(got.Exclude))), err)
	}
}

func TestSelectorThatMatchesNothingNamesWhatIsNear(t *testing.T) {
	ws := sqlAndApp(t)
	for _, tt := range []struct {
		s    Selectors
		in   []string
		flag string
	}{
		{Selectors{Writers: []string{"SqlServerWritr"}}, []string{"--writer", `'SqlServerWritr'`, `'SqlServerWriter'`}, "writer"},
		{Selectors{Components: []string{`SRV\mastre`}}, []string{"--component", `SqlServerWriter:\SRV\master`}, "component"},
		{Selectors{ExcludeComponents: []string{`nonsense`}}, []string{"--exclude-component"}, "exclude-component"},
		{Selectors{ExcludeWriters: []string{`master`}}, []string{"use --exclude-component"}, "exclude-writer"},
		{Selectors{Components: []string{""}}, []string{`''`}, "component"},
	} {
		_, err := tt.s.Match(ws)
		var se *SelectorError
		if !errors.As(err, &se) || se.Flag != tt.flag {
			t.Errorf("%+v: %v", tt.s, err)
			continue
		}
		for _, part := range tt.in {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not hold %q", err, part)
			}
		}
	}
}

func FuzzSelectors(f *testing.F) {
	for _, s := range []string{"SqlServerWriter", `\SRV\master`, "a:b:c", "{", `\\`, ":", strings.Repeat("x", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ws := sqlAndApp(t)
		got, err := Selectors{Components: []string{s}}.Match(ws)
		if err == nil && len(got.Include) == 0 {
			t.Errorf("%q matches nothing without an error", s)
		}
	})
}

func TestPatterns(t *testing.T) {
	for _, tt := range []struct {
		patterns string
		path     string
		want     bool
	}{
		{"node_modules", "home/u/node_modules", true},
		{"node_modules", "home/u/node_modules/a/b", true},
		{"node_modules", "home/u/my_node_modules", false},
		{"*.tmp", "a/b/c.tmp", true},
		{"*.tmp", "a/b.tmp/c", true},
		{"*.tmp", "a/b/c.tmpx", false},
		{"/srv/cache", "srv/cache/x", true},
		{"/srv/cache", "home/srv/cache/x", false},
		{"srv/cache", "home/srv/cache/x", true},
		{"/srv/*/cache", "srv/a/cache", true},
		{"/srv/*/cache", "srv/a/b/cache", false},
		{"/srv/**/cache", "srv/a/b/cache/y", true},
		{"/srv/**/cache", "srv/cache", true},
		{"cache/", "srv/cache/x", true},
		{"[ab].txt", "x/a.txt", true},
		{"/", "any/thing", true},
		{"*.txt !keep.txt", "x/keep.txt", false},
		{"*.txt !keep.txt", "x/other.txt", true},
		{"*.txt !keep.txt keep.txt", "x/keep.txt", true},
		{"", "x", false},
	} {
		p, err := CompilePatterns(strings.Fields(tt.patterns), false)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(tt.path); got != tt.want {
			t.Errorf("%q on %q: %v", tt.patterns, tt.path, got)
		}
	}
	folded, err := CompilePatterns([]string{`C:\Users\*\AppData`}, true)
	if err != nil || !folded.Match("c/users/me/appdata/x") || folded.Match("d/users/me/appdata") {
		t.Errorf("a Windows pattern: %v", err)
	}
	if _, err := CompilePatterns([]string{"a[b"}, false); err == nil {
		t.Error("a malformed pattern is taken")
	}
}

func FuzzPatterns(f *testing.F) {
	f.Add("/srv/**/*.db", "srv/a/b.db")
	f.Add("!x", "x")
	f.Add("**/**/**/a", "b/b/b/b/b")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		p, err := CompilePatterns([]string{pattern}, true)
		if err != nil || len(path) > 1000 {
			return
		}
		if p.Match(path) && !p.Match(path+"/below") {
			t.Errorf("%q matches %q and not what is below it", pattern, path)
		}
	})
}

func TestTablePaths(t *testing.T) {
	for _, tt := range []struct {
		style       vss.PathStyle
		host, table string
	}{
		{vss.POSIX, "/srv/a b", "srv/a b"},
		{vss.POSIX, "/", ""},
		{vss.Windows, `C:\Data\x`, "C/Data/x"},
		{vss.Windows, `C:\`, "C"},
	} {
		if got := TablePath(tt.style, tt.host); got != tt.table {
			t.Errorf("TablePath(%q) = %q, want %q", tt.host, got, tt.table)
		}
		if got := HostPath(tt.style, tt.table); got != tt.host {
			t.Errorf("HostPath(%q) = %q, want %q", tt.table, got, tt.host)
		}
	}
}

func TestAreasDoNotDouble(t *testing.T) {
	var list []area
	for _, a := range []area{{"v", "a/b"}, {"v", "a/bc"}, {"v", "a/b/c"}, {"w", "a"}, {"v", "a"}} {
		list = addArea(list, a, false)
	}
	if !slices.Equal(list, []area{{"w", "a"}, {"v", "a"}}) {
		t.Errorf("areas %v", list)
	}
}

func restoreWish(t testing.TB, w *Writer, fulls ...string) RestoreWish {
	wish := RestoreWish{Wanted: map[*Component]string{}}
	for _, f := range fulls {
		wish.Wanted[comp(t, w, f)] = "asked"
	}
	return wish
}

// backedUpSets gives what a backup with these explicit components had.
func backedUpSets(t testing.TB, w *Writer, explicit ...string) (list []*Component, defining map[*Component]*Component) {
	defining = map[*Component]*Component{}
	for _, e := range explicit {
		c := comp(t, w, e)
		list = append(list, c)
		for _, m := range c.Set() {
			defining[m] = c
		}
	}
	return list, defining
}

func TestSelectForRestore(t *testing.T) {
	build := func(t *testing.T) *Writer {
		return wr(t, "w", `top s`, `top\c\z r`, `top\c r`, `top\a r`, `top\a\x`, `top\a\y r`, `top\b`, `top\d s r`, `alone s`, `must`, `notsaved s`)
	}
	for _, tt := range []struct {
		rule   string
		wanted []string
		sets   string // "top[a]" for narrowed ones
		err    string
	}{
		{"everything", nil, "top alone must", ""},
		{"R-SEL-22: explicit ones whatever their flag", []string{"alone", "must"}, "alone must", ""},
		{"R-SEL-23: the whole set", []string{"top"}, "top", ""},
		{"R-SEL-24: a member through its defining component", []string{`top\a`}, `top[top\a]`, ""},
		{"R-SEL-26: which defines a set itself", []string{`top\a`, `top\a\y`}, `top[top\a]`, ""},
		{"R-SEL-23: with its set named, a member adds nothing", []string{"top", `top\a`}, "top", ""},
		{"R-SEL-26: whichever the document has first", []string{`top\c\z`, `top\c`}, `top[top\c]`, ""},
		{"R-SEL-24: several of one set", []string{`top\a`, `top\c\z`}, `top[top\a top\c\z]`, ""},
		{"R-SEL-21: the flag means nothing where a component was explicit", []string{"alone"}, "alone", ""},
		{"R-SEL-24, D-2: selectable for backup too", []string{`top\d`}, `top[top\d]`, ""},
		{"R-SEL-27: one that is not selectable for restore", []string{`top\b`}, "", "restore top"},
		{"R-SEL-27: nor below one that is", []string{`top\a\x`}, "", `restore top\a`},
		{"what was not saved", []string{"notsaved"}, "", "not in this backup"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			w := build(t)
			explicit, defining := backedUpSets(t, w, "top", "alone", "must")
			wish := RestoreWish{}
			if tt.wanted != nil {
				wish = restoreWish(t, w, tt.wanted...)
			}
			sel, err := SelectForRestore(explicit, defining, wish)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range sel.Sets {
				text := s.Component.FullPath()
				if len(s.Subcomponents) > 0 {
					text += "[" + names(s.Subcomponents) + "]"
				}
				got = append(got, text)
			}
			if strings.Join(got, " ") != tt.sets {
				t.Errorf("sets %q, want %q", got, tt.sets)
			}
		})
	}
}

// A document of another program may have an explicit component in the set of
// another one.
func TestSelectForRestoreNearestExplicitR_SEL_24(t *testing.T) {
	w := wr(t, "w", `top s`, `top\a s r`, `top\a\x r`, `top\b r`)
	for _, order := range [][]string{{"top", `top\a`}, {`top\a`, "top"}} {
		s := &stored{defining: map[*Component]*Component{}}
		for _, e := range order {
			s.explicit = append(s.explicit, comp(t, w, e))
		}
		s.nearest()
		for wanted, want := range map[string]string{`top\a`: `top\a`, `top\a\x`: `top\a[top\a\x]`, `top\b`: `top[top\b]`} {
			sel, err := SelectForRestore(s.explicit, s.defining, restoreWish(t, w, wanted))
			if err != nil || len(sel.Sets) != 1 {
				t.Fatalf("%v: %s: %+v, %v", order, wanted, sel, err)
			}
			got := sel.Sets[0].Component.FullPath()
			if subs := sel.Sets[0].Subcomponents; len(subs) > 0 {
				got += "[" + names(subs) + "]"
			}
			if got != want {
				t.Errorf("%v: %s gives %s, want %s", order, wanted, got, want)
			}
		}
	}
}

func TestSelectForRestoreCovers(t *testing.T) {
	w := wr(t, "w", `top s`, `top\a r`, `top\a\x`, `top\b`)
	explicit, defining := backedUpSets(t, w, "top")
	sel, err := SelectForRestore(explicit, defining, restoreWish(t, w, `top\a`))
	if err != nil {
		t.Fatal(err)
	}
	for full, want := range map[string]bool{"top": false, `top\a`: true, `top\a\x`: true, `top\b`: false} {
		if got := sel.Sets[0].Covers(comp(t, w, full)); got != want {
			t.Errorf("%s is covered: %v, want %v (R-SEL-23, R-SEL-26)", full, got, want)
		}
	}
}

func TestSelectForRestoreDependenciesR_SEL_31(t *testing.T) {
	a, b := wr(t, "a", `x s`), wr(t, "b", `y s`)
	depend(comp(t, a, "x"), comp(t, b, "y"))
	explicit := []*Component{comp(t, a, "x"), comp(t, b, "y")}
	defining := map[*Component]*Component{explicit[0]: explicit[0], explicit[1]: explicit[1]}
	wish := RestoreWish{Wanted: map[*Component]string{explicit[0]: "asked"}}
	sel, err := SelectForRestore(explicit, defining, wish)
	if err != nil || len(sel.Sets) != 2 {
		t.Errorf("the target is not pulled in: %v, %v", sel, err)
	}
	sel, err = SelectForRestore(explicit[:1], map[*Component]*Component{explicit[0]: explicit[0]}, wish)
	if err != nil || len(sel.Sets) != 0 || sel.Out[explicit[0]].Why == "" {
		t.Errorf("a dependent without its target in the backup: %+v, %v", sel, err)
	}
	wish.Excluded = map[*Component]string{explicit[1]: "--exclude-component y"}
	sel, err = SelectForRestore(explicit, defining, wish)
	if err != nil || len(sel.Sets) != 0 {
		t.Errorf("a dependent whose target is excluded: %+v, %v", sel, err)
	}
}

func TestValidName(t *testing.T) {
	for _, bad := range []string{"/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a/", "a\x00b", ".", "..", strings.Repeat("x/", 40000) + "x"} {
		if validName(bad, false) == nil {
			t.Errorf("%.40q is taken", bad)
		}
	}
	for _, bad := range []string{`a\b`, "a:b", "C/x:stream", "nul?"} {
		if validName(bad, true) == nil {
			t.Errorf("%.40q is taken for Windows", bad)
		}
	}
	for _, good := range []string{"", "a", "a/b c", "...", "a/..b", `back\slash`, "a:b"} {
		if err := validName(good, false); err != nil {
			t.Errorf("%.40q: %v", good, err)
		}
	}
}
