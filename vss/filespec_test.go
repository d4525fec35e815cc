package vss

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestR_SET_2_PatternsMatchNames(t *testing.T) {
	rows := []struct {
		pattern, name string
		fold          bool
		want          bool
	}{
		{"*", "", false, true},
		{"*", "any thing", false, true},
		{"*.*", "noextension", false, true}, // "*.*" is "*"
		{"*.*", "a.b", true, true},
		{"a*.*", "abc", true, false}, // only the whole "*.*" is special
		{"?", "", false, false},
		{"?", "é", false, true}, // one character, not one byte
		{"?", "\xff", false, true},
		{"??", "é", false, false},
		{"Perfc???.dat", "perfc009.dat", true, true},
		{"Perfc???.dat", "perfc09.dat", true, false},
		{"Perfc???.dat", "perfc009.dat", false, false},
		{"edb*.log", "edb.log", false, true},
		{"edb*.log", "edb00001.log", false, true},
		{"edb*.log", "edb.log.bak", false, false},
		{"*.ost", "x.OST", true, true},
		{"a*b*c", "aXbYbZc", false, true},
		{"a*b*c", "acb", false, false},
		{"**a**", "bab", false, true},
		{"STRASSE", "straße", true, false}, // one rune for one rune
		{"ÄÖ", "äö", true, true},
		{"i", "İ", true, false},
		{"I", "ı", true, false}, // dotless i stays itself on Windows
		{"\xfe", "\xff", true, false},
		{"\uFFFD", "\xff", false, false}, // a bad byte is not the replacement character
		{"[a]", "a", false, false},       // no classes
		{"", "", false, true},
		{"", "a", false, false},
	}
	for _, r := range rows {
		if got := MatchPattern(r.pattern, r.name, r.fold); got != r.want {
			t.Errorf("MatchPattern(%q, %q, fold %v) = %v", r.pattern, r.name, r.fold, got)
		}
	}
}

func TestMatchPatternEndsSoonOnHostilePatterns(t *testing.T) {
	pattern := strings.Repeat("*a", 2000) + "b"
	name := strings.Repeat("a", 20000)
	done := make(chan bool, 1)
	go func() { done <- MatchPattern(pattern, name, true) }()
	select {
	case got := <-done:
		if got {
			t.Error("it matches")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no answer within 20 s")
	}
}

// FuzzMatchPattern compares with regexp as an oracle.
func FuzzMatchPattern(f *testing.F) {
	for _, s := range [][2]string{{"*.*", "x"}, {"a?b*", "aXbYY"}, {"*a*b", "cab"}, {"?*?", "ab"}, {"é*", "éa"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 50 || len(name) > 200 || !isASCIIish(pattern) || !isASCIIish(name) {
			return
		}
		quoted := regexp.QuoteMeta(pattern)
		quoted = strings.ReplaceAll(strings.ReplaceAll(quoted, `\*`, `.*`), `\?`, `.`)
		if pattern == "*.*" {
			quoted = ".*"
		}
		want := regexp.MustCompile(`(?s)\A` + quoted + `\z`).MatchString(name)
		if got := MatchPattern(pattern, name, false); got != want {
			t.Errorf("MatchPattern(%q, %q) = %v", pattern, name, got)
		}
		if want && !MatchPattern(pattern, name, true) {
			t.Errorf("%q matches %q but not folded", pattern, name)
		}
	})
}

func isASCIIish(s string) bool { return strings.ToValidUTF8(s, "") == s }

// TestR_SET_4_DocumentedExample is the model's own example of recursion.
func TestR_SET_4_DocumentedExample(t *testing.T) {
	const dir = `C:\Directory1`
	files := []string{`File1.txt`, `File2.txt`, `Directory2\File1.txt`, `Directory2\File2.txt`}
	for _, c := range []struct {
		spec FileSpec
		want []string
	}{
		{FileSpec{dir, "File1.*", true}, []string{`File1.txt`, `Directory2\File1.txt`}},
		{FileSpec{dir + `\`, "*", true}, files},
		{FileSpec{dir, "*", false}, []string{`File1.txt`, `File2.txt`}},
		{FileSpec{`c:\DIRECTORY1\`, "file2.TXT", false}, []string{`File2.txt`}},
		{FileSpec{`C:\Directory`, "*", true}, nil},
	} {
		var got []string
		for _, f := range files {
			if c.spec.MatchesPath(dir+`\`+f, Windows) {
				got = append(got, f)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v takes %q, want %q", c.spec, got, c.want)
		}
	}
}

func TestR_RES_18_ExactMatchOfSpecifications(t *testing.T) {
	a := FileSpec{`C:\Data\`, "*.*", true}
	if b := (FileSpec{`c:/data`, "*", true}); !a.Equal(b, Windows) {
		t.Error("case, separators and *.* make a difference on Windows")
	}
	if a.Equal(FileSpec{`C:\Data`, "*", false}, Windows) || a.Equal(FileSpec{`C:\Data\x`, "*", true}, Windows) || a.Equal(FileSpec{`C:\Data`, "*.db", true}, Windows) {
		t.Error("different specifications are equal")
	}
	p := FileSpec{"/data", "A", false}
	if p.Equal(FileSpec{"/data", "a", false}, POSIX) || !p.Equal(FileSpec{"/data/", "A", false}, POSIX) || p.Equal(FileSpec{"/Data", "A", false}, POSIX) {
		t.Error("POSIX compares exactly, but for a separator at the end")
	}
}

func TestR_SET_6_Overlap(t *testing.T) {
	for _, c := range []struct {
		a, b FileSpec
		want bool
	}{
		{FileSpec{"/d", "*.db", false}, FileSpec{"/d", "x.db", false}, true},
		{FileSpec{"/d", "*.db", false}, FileSpec{"/d", "x.log", false}, false},
		{FileSpec{"/d", "*", true}, FileSpec{"/d/e", "x", false}, true},
		{FileSpec{"/d", "*", false}, FileSpec{"/d/e", "x", false}, false},
		{FileSpec{"/d/e", "x", false}, FileSpec{"/d", "y", true}, false},
		{FileSpec{"/d", "a", false}, FileSpec{"/d", "a", false}, true},
		{FileSpec{"/d", "*.txt", false}, FileSpec{"/d", "*.cfg", false}, false},
		{FileSpec{"/d", "a*", false}, FileSpec{"/d", "*z", false}, true},
	} {
		if got := c.a.Overlaps(c.b, POSIX); got != c.want || c.b.Overlaps(c.a, POSIX) != c.want {
			t.Errorf("%v and %v: %v", c.a, c.b, got)
		}
	}
}

func TestR_SET_1_ValidSpecifications(t *testing.T) {
	for _, c := range []struct {
		spec  FileSpec
		style PathStyle
		ok    bool
	}{
		{FileSpec{`%SystemRoot%\System32`, "Perfc???.dat", false}, Windows, true},
		{FileSpec{`\\?\Volume{c7463aba}\Boot`, "*.*", true}, Windows, true},
		{FileSpec{`\System Volume Information\Heat`, "*.*", true}, Windows, true},
		{FileSpec{`C:\a*`, "x", false}, Windows, false},
		{FileSpec{`C:\a`, `b\x`, false}, Windows, false},
		{FileSpec{`C:\a`, "", false}, Windows, false},
		{FileSpec{``, "x", false}, Windows, false},
		{FileSpec{`/a`, `b\x`, false}, POSIX, true},
		{FileSpec{`/a`, `b/x`, false}, POSIX, false},
		{FileSpec{`/a*`, `x`, false}, POSIX, true}, // an asterisk is a plain character in a directory's name
	} {
		err := c.spec.Validate(c.style)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%v (%v): %v", c.spec, c.style, err)
		}
	}
}

func TestR_SET_8_EnvironmentInPaths(t *testing.T) {
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"SystemRoot": `C:\Windows`, "A": "%B%", "B": "no", "EMPTY": ""}[name]
		return v, ok
	}
	for in, want := range map[string]string{
		`%SystemRoot%\System32`: `C:\Windows\System32`,
		`x%A%y%B%z`:             `x%B%ynoz`,
		`100%`:                  `100%`,
		`a%\b%\c`:               `a%\b%\c`,
		`%%`:                    `%%`,
		`%EMPTY%x`:              `x`,
		`plain`:                 `plain`,
	} {
		if got, err := ExpandEnv(in, env); err != nil || got != want {
			t.Errorf("ExpandEnv(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	_, err := ExpandEnv(`%NoSuch%\x`, env)
	if !errors.Is(err, ErrObjectNotFound) || !strings.Contains(err.Error(), `"NoSuch"`) {
		t.Errorf("an unknown name gives %v", err)
	}
	spec, err := FileSpec{Path: `%SystemRoot%`, Pattern: "*"}.Expand(env)
	if err != nil || spec.Path != `C:\Windows` || spec.Pattern != "*" {
		t.Errorf("%v, %v", spec, err)
	}
}
