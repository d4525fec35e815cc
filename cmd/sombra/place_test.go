package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
)

func TestSizesAreReadAsFindReadsThem(t *testing.T) {
	for text, want := range map[string]sizeRange{
		"0": {0, 0}, "4096": {4096, 4096}, "1K": {1024, 1024}, "+10M": {10<<20 + 1, math.MaxInt64}, "-2g": {0, 2<<30 - 1}, "1T": {1 << 40, 1 << 40},
	} {
		if got, err := parseSizes(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "+", "-", "K", "--1", "+-1", "1X", "1KK", "0x10", "9999999999999999999", "9999999999999T", " 1"} {
		if got, err := parseSizes(text); err == nil {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"2026-11-20":           time.Date(2026, 11, 20, 0, 0, 0, 0, time.Local),
		"2026-11-20 14:30":     time.Date(2026, 11, 20, 14, 30, 0, 0, time.Local),
		"2026-11-20T14:30:05Z": time.Date(2026, 11, 20, 14, 30, 5, 0, time.UTC),
		"36h":                  now.Add(-36 * time.Hour), "7d": now.Add(-7 * 24 * time.Hour), "2w": now.Add(-14 * 24 * time.Hour),
	} {
		if got, err := parseWhen(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "7", "-7d", "7x", "yesterday", "2026-13-01", "99999999d"} {
		if got, err := parseWhen(text, now); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestPatternsOfFindMatchWholeNames(t *testing.T) {
	for _, tt := range []struct{ pattern, place, not string }{
		{"passwd", "etc/passwd passwd a/b/passwd", "etc etc/passwd/x etc/passwd2"},
		{"*.conf", "a.conf etc/x.conf", "a.conf/x etc/conf"},
		{"/etc/*", "etc/passwd", "etc etc/a/b x/etc/a"},
		{"/etc/**", "etc etc/a etc/a/b", "x/etc"},
		{"/**/b", "b a/b a/a/b", "a/b/c"},
		{"a/b", "a/b x/a/b", "a/b/c xa/b"},
		{"a/**/z", "a/z a/b/z x/a/b/c/z", "a z a/b"},
		{"**", "a a/b", ""},
		{"/", " ", "a"},
		{`C:\Users\*`, "C/Users/me", "C/Users x/C/Users/me"},
	} {
		p, err := parseNamePattern(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
			continue
		}
		for place := range strings.SplitSeq(tt.place, " ") {
			if !p.match(place, false) {
				t.Errorf("%q does not match %q", tt.pattern, place)
			}
		}
		for _, place := range strings.Fields(tt.not) {
			if p.match(place, false) {
				t.Errorf("%q matches %q", tt.pattern, place)
			}
		}
	}
	if p, _ := parseNamePattern("*.TXT"); !p.match("a/B.txt", true) || p.match("a/B.txt", false) {
		t.Error("case is not folded as asked for")
	}
}

// FuzzFindPattern: whatever the pattern and the name, matching ends, and a name
// matches itself unless it has something special.
func FuzzFindPattern(f *testing.F) {
	for _, seed := range [][2]string{{"a", "a"}, {"/a/**/b", "a/x/b"}, {"**/**/**", "a/b/c"}, {"[a-", "a"}, {"", ""}, {"*", "\xff"}, {`\`, `\`}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, place string) {
		p, err := parseNamePattern(pattern)
		if err != nil {
			return
		}
		p.match(place, true)
		plain := !strings.ContainsAny(place, `*?[\`) && place != "" && !strings.HasPrefix(place, "/")
		for part := range strings.SplitSeq(place, "/") {
			plain = plain && part != "" && part != "." && part != ".."
		}
		if !plain || len(place) > 500 {
			return
		}
		if own, err := parseNamePattern("/" + place); err != nil || !own.match(place, false) {
			t.Errorf("%q does not match itself: %v", place, err)
		}
	})
}

func FuzzSizesAndTimes(f *testing.F) {
	for _, seed := range []string{"1K", "+2M", "-3", "7d", "2026-11-22", "999999999999T", "+", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := parseSizes(text); err == nil && (r.least < 0 || r.most < -1) {
			t.Errorf("%q is %+v", text, r)
		}
		if at, err := parseWhen(text, time.Unix(1<<31, 0)); err == nil && at.IsZero() && !strings.HasPrefix(text, "0001-01-01") {
			t.Errorf("%q is no time", text)
		}
	})
}

// archiveEntries are of each kind, with what is hard to keep.
func archiveEntries() []*repository.Entry {
	at := time.Unix(1_600_000_000, 123_456_700)
	return []*repository.Entry{
		{Path: "d", Type: repository.Directory, Mode: 0o1777, UID: 1, GID: 2, ModTime: at},
		{Path: "d/\xff\xfe" + strings.Repeat("n", 200), Type: repository.Regular, Mode: 0o4755, UID: 1 << 31, User: "us\u00e9r", ModTime: at, HardLink: 5,
			Xattrs: map[string][]byte{"user.bytes": {0, 1, 0xff, '\n'}, "user.empty": {}}},
		{Path: "d/other name", Type: repository.Regular, Mode: 0o600, ModTime: at, HardLink: 5},
		{Path: "link", Type: repository.Symlink, LinkTarget: strings.Repeat("../", 100) + "x", ModTime: at},
		{Path: "dev", Type: repository.BlockDevice, Mode: 0o660, Rdev: 0x12<<8 | 0x34 | 0x1<<20, ModTime: time.Unix(-5, 0)},
		{Path: "untimed", Type: repository.Fifo, Mode: 0o600},
	}
}

func TestATarKeepsWhatAnEntryHas(t *testing.T) {
	var b bytes.Buffer
	a := newTarArchive(&b)
	for _, e := range archiveEntries() {
		if _, err := a.add(e.Path, e); err != nil {
			t.Fatalf("%q: %v", e.Path, err)
		}
	}
	if _, err := a.add("s", &repository.Entry{Type: repository.Socket}); err == nil || !strings.Contains(err.Error(), "a socket") {
		t.Errorf("a socket: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(&b)
	for i, e := range archiveEntries() {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSuffix(h.Name, "/") != e.Path || h.Mode != int64(e.Mode) || h.Uid != int(e.UID) || h.Uname != e.User {
			t.Errorf("%q became %+v", e.Path, h)
		}
		if !e.ModTime.IsZero() && !h.ModTime.Equal(e.ModTime) {
			t.Errorf("%q: time %v, not %v", e.Path, h.ModTime, e.ModTime)
		}
		for name, want := range e.Xattrs {
			if got, ok := h.PAXRecords["SCHILY.xattr."+name]; got != string(want) || !ok {
				t.Errorf("%q: %s is %q", e.Path, name, got)
			}
		}
		switch {
		case i == 2 && (h.Typeflag != tar.TypeLink || h.Linkname != archiveEntries()[1].Path):
			t.Errorf("the second name became %+v", h)
		case e.Type == repository.Symlink && h.Linkname != e.LinkTarget:
			t.Errorf("the link leads to %q", h.Linkname)
		case e.Type == repository.BlockDevice && (h.Devmajor != 0x12 || h.Devminor != 0x134):
			t.Errorf("the device has numbers %x, %x", h.Devmajor, h.Devminor)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}

func TestAZipKeepsModesTimesAndLinks(t *testing.T) {
	var b bytes.Buffer
	a := newZipArchive(&b)
	kept := 0
	for _, e := range archiveEntries() {
		if _, err := a.add(e.Path, e); err == nil {
			kept++
		} else if e.Type == repository.Regular || e.Type == repository.Directory || e.Type == repository.Symlink {
			t.Errorf("%q: %v", e.Path, err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || len(r.File) != kept || kept != 4 {
		t.Fatalf("%d entries of %d: %v", len(r.File), kept, err)
	}
	if m := r.File[0].Mode(); m != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("the directory has mode %v", m)
	}
	if m := r.File[1].Mode(); m != fs.ModeSetuid|0o755 || r.File[1].Modified.Unix() != 1_600_000_000 {
		t.Errorf("the file has mode %v, time %v", m, r.File[1].Modified)
	}
	f, err := r.File[3].Open()
	if err != nil {
		t.Fatal(err)
	}
	if to, err := io.ReadAll(f); err != nil || string(to) != archiveEntries()[3].LinkTarget || r.File[3].Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}

// Backups are shown with the second they were made in; --until with that second
// means them too, and a finer time is left as it is.
func TestUntilTakesAllOfASecond(t *testing.T) {
	for _, tt := range []struct {
		text, made string
		in         bool
	}{
		{"2026-11-22 14:30:05", "2026-11-22T14:30:05.999", true},
		{"2026-11-22 14:30:05", "2026-11-22T14:30:06", false},
		{"2026-11-22T14:30:05.5Z", "2026-11-22T14:30:05.6", false},
		{"2026-11-22", "2026-11-22T00:00:01", false},
	} {
		cmd := newRestore(&app{})
		if err := cmd.ParseFlags([]string{"--until", tt.text}); err != nil {
			t.Fatal(err)
		}
		p, err := newPoint(cmd, nil, tt.text, requester.Selectors{})
		if err != nil {
			t.Fatal(err)
		}
		zone := time.Local
		if strings.HasSuffix(tt.text, "Z") {
			zone = time.UTC
		}
		made, err := time.ParseInLocation("2006-01-02T15:04:05", tt.made, zone)
		if err != nil {
			t.Fatal(err)
		}
		if in := !made.After(p.until); in != tt.in {
			t.Errorf("--until %s takes the backup of %s: %v", tt.text, tt.made, in)
		}
	}
}
