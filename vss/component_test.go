package vss

import (
	"errors"
	"strings"
	"testing"
)

func TestR_SEL_4_DescentGoesByPathText(t *testing.T) {
	class := NewGUID()
	id := func(full string) ComponentID {
		path, name := SplitFullPath(full)
		return ComponentID{class, path, name}
	}
	for _, c := range []struct {
		b, a string
		want bool
	}{
		{`writerData\Set1\Jan`, `writerData`, true},
		{`writerData\Set1\Jan`, `writerData\Set1`, true},
		{`writerData\QueryLogs\Query`, `writerData\QueryLogs`, true}, // no such component needed
		{`writerData`, `writerData`, false},
		{`writerData2\x`, `writerData`, false},
		{`writerData\x`, `WriterData`, false}, // compared exactly
		{`x`, `writerData`, false},
	} {
		if got := id(c.b).IsDescendantOf(id(c.a)); got != c.want {
			t.Errorf("%s below %s: %v", c.b, c.a, got)
		}
	}
	other := id(`writerData\Set1`)
	other.WriterClass = NewGUID()
	if other.IsDescendantOf(id(`writerData`)) {
		t.Error("a component lies below another writer's")
	}
	if IsDescendant("", "") || IsDescendant("a", "") {
		t.Error("something lies below the empty path")
	}
	if got := id(`a\b\c`); got.FullPath() != `a\b\c` || got.Name != "c" || got.LogicalPath != `a\b` || id("c").FullPath() != "c" {
		t.Errorf("%v", got)
	}
}

func TestR_SEL_3_NamesAndLogicalPaths(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "a b/c": true, "": false, `a\b`: false, "a\xff": false, "a\x00": false, strings.Repeat("x", MaxNameLength+1): false} {
		if err := ValidateComponentName(name); (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("name %.20q: %v", name, err)
		}
	}
	for path, ok := range map[string]bool{"": true, "a": true, `a\b c`: true, `\`: false, `\a`: false, `a\`: false, `a\\b`: false, "a\xff": false} {
		if err := ValidateLogicalPath(path); (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("logical path %q: %v", path, err)
		}
	}
}

func TestD_18_LeadingBackslashIsTolerated(t *testing.T) {
	for in, want := range map[string]string{`\Registry`: `Registry`, `\`: ``, `a\b\`: `a\b`, `\\Host\a`: `\\Host\a`, `a`: `a`, ``: ``} {
		if got := NormalizeLogicalPath(in); got != want {
			t.Errorf("NormalizeLogicalPath(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestR_SEL_34_RemoteDependencies(t *testing.T) {
	for _, c := range []struct {
		in, computer, path string
		ok                 bool
	}{
		{`\\Host\a\b`, "Host", `a\b`, true},
		{`\\10.0.0.1\a`, "10.0.0.1", "a", true},
		{`\\Host`, "Host", "", true},
		{`\\Host\`, "Host", "", true},
		{`\Host\a`, "", `\Host\a`, false},
		{`\\`, "", `\\`, false},
		{`a\\b`, "", `a\\b`, false},
	} {
		computer, path, ok := ParseRemotePath(c.in)
		if computer != c.computer || path != c.path || ok != c.ok {
			t.Errorf("ParseRemotePath(%q) = %q, %q, %v", c.in, computer, path, ok)
		}
		if ok {
			if again, p, _ := ParseRemotePath(RemotePath(computer, path)); again != computer || p != path {
				t.Errorf("RemotePath(%q, %q) reads back as %q, %q", computer, path, again, p)
			}
		}
	}
}
