package vss

import (
	"path"
	"slices"
	"strings"
	"testing"
)

func TestCleanWindowsPaths(t *testing.T) {
	for in, want := range map[string]string{
		``:                   ``,
		`.`:                  `.`,
		`C:\`:                `C:\`,
		`C:/a//b\..\c\`:      `C:\a\c`,
		`C:\..\..\x`:         `C:\x`,
		`C:x\.\y`:            `C:x\y`,
		`\a\.\b\`:            `\a\b`,
		`a\..\..\b`:          `..\b`,
		`\\srv\share\a\..\b`: `\\srv\share\b`,
		`\\srv\share`:        `\\srv\share\`,
		`//srv/share/x`:      `\\srv\share\x`,
		`\\?\Volume{c7463aba-f40d-11e9-80c7-806e6f6e6963}\Boot\`: `\\?\Volume{c7463aba-f40d-11e9-80c7-806e6f6e6963}\Boot`,
		`\\?\C:\a/b`:               `\\?\C:\a/b`, // "/" is no separator here
		`\\?\UNC\srv\share\x\..\y`: `\\?\UNC\srv\share\y`,
		`\\?\GLOBALROOT\Device\HarddiskVolumeShadowCopy1\x\`: `\\?\GLOBALROOT\Device\HarddiskVolumeShadowCopy1\x`,
		`%WinDir%\Tasks\`: `%WinDir%\Tasks`,
	} {
		got := Windows.Clean(in)
		if got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
		if again := Windows.Clean(got); again != got {
			t.Errorf("Clean(%q) = %q, not itself", got, again)
		}
	}
}

func TestWindowsVolumes(t *testing.T) {
	for in, want := range map[string]struct {
		volume string
		abs    bool
	}{
		`C:\x`: {`C:`, true}, `C:x`: {`C:`, false}, `C:`: {`C:`, false}, `\x`: {``, false}, `x`: {``, false},
		`\\s\h\x`: {`\\s\h`, true}, `\\?\Volume{1}\x`: {`\\?\Volume{1}`, true}, `\\.\PhysicalDrive0`: {`\\.\PhysicalDrive0`, true},
		`\\?\UNC\s\h\x`: {`\\?\UNC\s\h`, true}, `1:\x`: {``, false}, `\\`: {``, false}, `\\\x`: {``, false},
	} {
		if got := Windows.VolumeName(in); got != want.volume || Windows.IsAbs(in) != want.abs {
			t.Errorf("%q: volume %q, absolute %v", in, got, Windows.IsAbs(in))
		}
	}
}

func TestRelAndWithin(t *testing.T) {
	for _, c := range []struct {
		style        PathStyle
		base, target string
		rel          string
		ok           bool
	}{
		{Windows, `C:\a`, `c:\A\b\c`, `b\c`, true},
		{Windows, `C:\a`, `C:\ab`, ``, false},
		{Windows, `C:\`, `C:\a`, `a`, true},
		{Windows, `C:\`, `D:\a`, ``, false},
		{Windows, `\a`, `C:\a`, ``, false},
		{Windows, `a`, `\a`, ``, false},
		{Windows, `\\s\h`, `\\S\H\x`, `x`, true},
		{POSIX, `/`, `/a/b`, `a/b`, true},
		{POSIX, `/a/`, `/a`, ``, true},
		{POSIX, `/a`, `/A`, ``, false},
		{POSIX, `/a/b`, `/a`, ``, false},
		{POSIX, `/a`, `/a/../b`, ``, false},
		{POSIX, `.`, `x/y`, `x/y`, true},
		{POSIX, `.`, `../y`, `../y`, false},
		{POSIX, `.`, `./x/..`, ``, true},
		{Windows, `.\A:`, `0\0`, ``, false}, // found by fuzzing
		{POSIX, `a`, `/a/b`, ``, false},
		{POSIX, ``, `a`, ``, false},
	} {
		rel, ok := c.style.Rel(c.base, c.target)
		if ok != c.ok || ok && rel != c.rel {
			t.Errorf("%v Rel(%q, %q) = %q, %v; want %q, %v", c.style, c.base, c.target, rel, ok, c.rel, c.ok)
		}
		if c.style.Within(c.base, c.target) != c.ok {
			t.Errorf("Within(%q, %q) is not %v", c.base, c.target, c.ok)
		}
	}
}

func TestSplitAndJoin(t *testing.T) {
	for _, c := range []struct {
		style           PathStyle
		path, dir, name string
	}{
		{Windows, `C:\a\b`, `C:\a`, `b`}, {Windows, `C:\a`, `C:\`, `a`}, {Windows, `C:\`, `C:\`, ``}, {Windows, `\a`, `\`, `a`},
		{Windows, `\\s\h\x`, `\\s\h\`, `x`}, {Windows, `a`, ``, `a`}, {Windows, `C:a`, `C:`, `a`},
		{POSIX, `/a/b`, `/a`, `b`}, {POSIX, `/a`, `/`, `a`}, {POSIX, `/`, `/`, ``}, {POSIX, `a/b/`, `a`, `b`}, {POSIX, `a\b`, ``, `a\b`},
	} {
		dir, name := c.style.Split(c.path)
		if dir != c.dir || name != c.name || c.style.Dir(c.path) != dir || c.style.Base(c.path) != name {
			t.Errorf("%v Split(%q) = %q, %q", c.style, c.path, dir, name)
		}
		if back := c.style.Join(dir, name); back != c.style.Clean(c.path) {
			t.Errorf("%v Join(%q, %q) = %q", c.style, dir, name, back)
		}
	}
	if got := Windows.Join(`C:\`, ``, `a`, `b\c`); got != `C:\a\b\c` {
		t.Errorf("Join = %q", got)
	}
	if got := POSIX.Names("/a/../b/c/"); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("Names = %q", got)
	}
	if got := Windows.Names(`\\srv\share\a\b`); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("Names = %q", got)
	}
}

// FuzzPathStyle compares POSIX with the standard library and looks for panics
// and for results that are not stable.
func FuzzPathStyle(f *testing.F) {
	for _, s := range []string{"", "/", "a/../..", `C:\a`, `\\?\UNC\a\b`, `\\?\C:/x`, `\\s\h\..\x`, `C:..\x`, "//a", "//.", `\\?\\/`, `\\.\UNC\\0\0`, `\\.\\UNC\0\0`, "./A:.", `\\?`, `\\.\`} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, p, q string) {
		if p != "" {
			if got, want := POSIX.Clean(p), path.Clean(p); got != want {
				t.Errorf("Clean(%q) = %q, want %q", p, got, want)
			}
		}
		for _, style := range []PathStyle{POSIX, Windows} {
			c := style.Clean(p)
			if again := style.Clean(c); again != c {
				t.Errorf("%v: Clean(%q) = %q, and again %q", style, p, c, again)
			}
			dir, name := style.Split(p)
			if strings.IndexByte(name, style.Separator()) >= 0 {
				t.Errorf("%v: Split(%q) gives name %q", style, p, name)
			}
			if dir != "" && name != "" && !style.Equal(style.Join(dir, name), p) {
				t.Errorf("%v: Split(%q) = %q, %q, which join to %q", style, p, dir, name, style.Join(dir, name))
			}
			if rel, ok := style.Rel(p, q); ok && p != "" && !style.Equal(style.Join(p, rel), q) {
				t.Errorf("%v: Rel(%q, %q) = %q", style, p, q, rel)
			}
		}
	})
}
