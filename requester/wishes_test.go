package requester_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

func TestParseOptionWishR_RES_29(t *testing.T) {
	for text, want := range map[string]string{
		`"Authoritative"="All"`:                      `|"Authoritative"="All"`,
		`"Item x":"Authoritative"="Item:x"`:          `|"Item x":"Authoritative"="Item:x"`,
		`main:"a"="b", "c"="d"`:                      `main|"a"="b","c"="d"`,
		`SqlServerWriter:top\db:"sub":"a"="b=:,"`:    `SqlServerWriter:top\db|"sub":"a"="b=:,"`,
		`/srv/app/app.db:"Roll Forward"="Partial:x"`: `/srv/app/app.db|"Roll Forward"="Partial:x"`,
	} {
		w, err := requester.ParseOptionWish(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		again, err := vss.FormatRestoreOptions(w.Options)
		if got := w.Component + "|" + again; err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "a=b", `main"a"="b"`, `:"a"="b"`, `"a"`, `"a"="b`, `"a"="b";"c"="d"`, `""="x"`, `"a"="b",`, `main: "a"`} {
		if w, err := requester.ParseOptionWish(text); err == nil && len(w.Options) > 0 || err != nil && !errors.Is(err, vss.ErrInvalidArgument) {
			t.Errorf("%s: %+v, %v", text, w, err)
		}
	}
}

func TestParseNewTargetR_RES_21(t *testing.T) {
	for _, tt := range []struct {
		style      vss.PathStyle
		text, want string // component|path|pattern|recursive|new
	}{
		{vss.POSIX, "/srv/data|*=/new", "|/srv/data|*|no|/new"},
		{vss.POSIX, "/srv/data/|*.db|recursive=/new/dir/", "|/srv/data/|*.db|yes|/new/dir"},
		{vss.POSIX, "%DIR%/data|*=/a=b", "|%DIR%/data|*|no|/a=b"},
		{vss.POSIX, `writer:top\main:/srv/data|*=/new`, `writer:top\main|/srv/data|*|no|/new`},
		{vss.Windows, `C:\data|*.*|recursive=D:\new`, `|C:\data|*.*|yes|D:\new`},
		{vss.Windows, `Writer:comp:C:\data|*=D:\new`, `Writer:comp|C:\data|*|no|D:\new`},
	} {
		w, err := requester.ParseNewTarget(tt.text, tt.style)
		depth := map[bool]string{true: "yes", false: "no"}[w.Spec.Recursive]
		if got := strings.Join([]string{w.Component, w.Spec.Path, w.Spec.Pattern, depth, w.Path}, "|"); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.text, got, err, tt.want)
		}
	}
	for _, tt := range []struct {
		style      vss.PathStyle
		text, want string // component|directory|new
	}{
		{vss.POSIX, "/srv/data/=/new/", "|/srv/data|/new"},
		{vss.POSIX, "/srv/a=b=/new", "|/srv/a=b|/new"},
		{vss.POSIX, `postgres:main:/srv/data=/new`, `postgres:main|/srv/data|/new`},
		{vss.POSIX, "%DIR%/data=/new", "|%DIR%/data|/new"},
		{vss.Windows, `Writer:comp:C:\data=D:\new`, `Writer:comp|C:\data|D:\new`},
	} {
		w, err := requester.ParseNewTarget(tt.text, tt.style)
		if got := strings.Join([]string{w.Component, w.Below, w.Path}, "|"); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.text, got, err, tt.want)
		}
	}
	for _, text := range []string{"", "/a", "/a|*", "/a=b", "a=/b", "=/b", "/a=/b\x00", "/a|*=b", "/a|*=", "a|*=/b", "/a||recursive=/b", "/a|*|deep=/b", "/a|x/y=/b", "/a|*|recursive|=/b", "/a|*=/b\x00"} {
		if w, err := requester.ParseNewTarget(text, vss.POSIX); err == nil || !errors.Is(err, vss.ErrInvalidArgument) {
			t.Errorf("%q: %+v, %v", text, w, err)
		}
	}
}

func TestParseNameAndRollForward(t *testing.T) {
	for text, want := range map[string]requester.NameWish{
		"new":               {Name: "new"},
		`top\main=top\New`:  {Component: `top\main`, Name: `top\New`},
		"writer:main=a b.c": {Component: "writer:main", Name: "a b.c"},
	} {
		if w, err := requester.ParseNameWish(text); err != nil || w != want {
			t.Errorf("%q: %+v, %v", text, w, err)
		}
	}
	for _, text := range []string{"", "=x", "main=", "a\x00"} {
		if w, err := requester.ParseNameWish(text); err == nil {
			t.Errorf("%q: %+v", text, w)
		}
	}
	for text, want := range map[string]struct {
		t     vss.RollForwardType
		point string
	}{"none": {vss.RollForwardNone, ""}, "all": {vss.RollForwardAll, ""}, "2026-11-22 07:00": {vss.RollForwardPartial, "2026-11-22 07:00"}} {
		if k, point, err := requester.ParseRollForward(text); err != nil || k != want.t || point != want.point {
			t.Errorf("%q: %v, %q, %v", text, k, point, err)
		}
	}
	if _, _, err := requester.ParseRollForward(""); err == nil {
		t.Error("an empty point is taken")
	}
}

// FuzzWishes: whatever is read comes back when it is written and read again.
func FuzzWishes(f *testing.F) {
	for _, s := range []string{`main:"a"="b"`, `"s":"a"="b","c"="d"`, "w:c:/a|*|recursive=/b", "%A%/x|*.db=/n", "a=b", `C:\x|*=D:\y`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if w, err := requester.ParseOptionWish(text); err == nil {
			list, err := vss.FormatRestoreOptions(w.Options)
			if err != nil {
				t.Fatalf("%q cannot be written: %v", text, err)
			}
			if w.Component != "" {
				list = w.Component + ":" + list
			}
			again, err := requester.ParseOptionWish(list)
			if len(w.Options) > 0 && (err != nil || again.Component != w.Component || len(again.Options) != len(w.Options)) {
				t.Fatalf("%q: %+v and then %+v, %v", text, w, again, err)
			}
		}
		for _, style := range []vss.PathStyle{vss.POSIX, vss.Windows} {
			w, err := requester.ParseNewTarget(text, style)
			if err != nil {
				continue
			}
			if w.String() != text || !style.IsAbs(w.Path) || w.Spec.Validate(style) != nil {
				t.Fatalf("%q: %+v", text, w)
			}
		}
		if w, err := requester.ParseNameWish(text); err == nil && w.Name == "" {
			t.Fatalf("%q: no name", text)
		}
	})
}
