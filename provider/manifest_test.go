package provider

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

func sampleEntries() []ManifestEntry {
	at := time.Unix(1700000000, 123456789)
	return []ManifestEntry{
		{Path: ".", Mode: 0o40755, Inode: 2, Links: 3, Changed: at, Modified: at, Accessed: at, Created: at},
		{Path: "a", Mode: 0o40700, Inode: 3},
		{Path: "a.d", Mode: 0o120777, Target: "../\xff\n"},
		{Path: "a/b", Mode: 0o100644, UID: 1<<32 - 1, GID: 7, Inode: 1<<64 - 1, Links: 2, Size: 1 << 62, Allocated: 4096,
			Modified: time.Unix(-5, 999999999), Changed: time.Unix(1<<40, 0), Claimed: true,
			XAttrs: map[string][]byte{"user.x": {0, 1}, "user.empty": {}}},
		{Path: "a/b.c", Mode: 0o100000, Missing: "permission denied"},
		{Path: "a/mnt", Mode: 0o40755, MountPoint: true},
		{Path: "a/b/c", Mode: 0o20666, Device: 1<<32 | 5},
		{Path: "\xfe\xff", Mode: 0o100600},
	}
}

func mustManifest(t testing.TB, entries []ManifestEntry) *Manifest {
	t.Helper()
	m, err := NewManifest(entries)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func encodeManifest(t testing.TB, m *Manifest) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := m.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo says %d, %v; wrote %d", n, err, b.Len())
	}
	return b.Bytes()
}

func sameEntries(t testing.TB, got, want []ManifestEntry) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		for _, p := range [][2]*time.Time{{&g.Accessed, &w.Accessed}, {&g.Modified, &w.Modified}, {&g.Changed, &w.Changed}, {&g.Created, &w.Created}} {
			if !p[0].Equal(*p[1]) || p[0].IsZero() != p[1].IsZero() {
				t.Errorf("%q: time %v, want %v", g.Path, *p[0], *p[1])
			}
			*p[0], *p[1] = time.Time{}, time.Time{}
		}
		if !reflect.DeepEqual(g, w) {
			t.Errorf("entry %d is %+v, want %+v", i, g, w)
		}
	}
}

func TestManifestComesBackAsItWasWritten(t *testing.T) {
	m := mustManifest(t, sampleEntries())
	dir := t.TempDir()
	root := filepath.Join(dir, "tree")
	if _, err := ReadManifest(root); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no manifest: %v, want fs.ErrNotExist", err)
	}
	data := encodeManifest(t, m)
	if err := os.WriteFile(filepath.Join(dir, ManifestName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadManifest(root)
	if err != nil {
		t.Fatal(err)
	}
	sameEntries(t, got.All(), m.All())
	if err := os.WriteFile(filepath.Join(dir, ManifestName), data[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadManifest(root); !errors.Is(err, vss.ErrUnexpectedProviderError) {
		t.Fatalf("damaged: %v, want VSS_E_UNEXPECTED_PROVIDER_ERROR", err)
	}
}

func TestManifestIsSearched(t *testing.T) {
	m := mustManifest(t, sampleEntries())
	for _, e := range sampleEntries() {
		if got, ok := m.Lookup(e.Path); !ok || got.Path != e.Path {
			t.Errorf("Lookup(%q) = %v, %v", e.Path, got, ok)
		}
	}
	if got, ok := m.Lookup("a/x"); ok {
		t.Errorf("found %v", got)
	}
	for dir, want := range map[string]string{".": "a a.d \xfe\xff", "a": "a/b a/b.c a/mnt", "a/b": "a/b/c", "a.d": "", "zz": ""} {
		var names []string
		for _, e := range m.Children(dir) {
			names = append(names, e.Path)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("Children(%q) = %q, want %q", dir, got, want)
		}
	}
}

func TestManifestRefusesPathsThatLeadOut(t *testing.T) {
	for _, p := range []string{"", "/", "/a", "..", "../a", "a/../b", "a//b", "a/", "./a", "a\x00"} {
		if _, err := NewManifest([]ManifestEntry{{Path: p}}); err == nil {
			t.Errorf("path %q is taken", p)
		}
	}
	if _, err := NewManifest([]ManifestEntry{{Path: "a"}, {Path: "a"}}); err == nil {
		t.Error("one path twice is taken")
	}
}

func TestEveryFlippedBitOfAManifestIsFound(t *testing.T) {
	data := encodeManifest(t, mustManifest(t, sampleEntries()))
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			if _, err := ParseManifest(data); err == nil {
				t.Fatalf("bit %d of byte %d flipped, and nothing noticed", bit, i)
			}
			data[i] ^= 1 << bit
		}
		if _, err := ParseManifest(data[:i]); err == nil {
			t.Fatalf("cut off at %d, and nothing noticed", i)
		}
	}
}

// sealed puts a right checksum on whatever body is, so that a test gets past it.
func sealed(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(body[:len(body):len(body)], crc32.Checksum(body, castagnoli))
}

func FuzzParseManifest(f *testing.F) {
	good := encodeManifest(f, mustManifest(f, sampleEntries()))
	f.Add(good[:len(good)-4])
	f.Add([]byte(manifestMagic + "\x00"))
	f.Add([]byte(manifestMagic + "\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))
	huge := appendEntry(nil, &ManifestEntry{Path: "x"})
	huge = append(huge[:len(huge)-1], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)
	f.Add(append(append(append([]byte(manifestMagic), byte(len(huge))), huge...), 0))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := ParseManifest(sealed(body))
		if err != nil {
			return
		}
		again, err := ParseManifest(encodeManifest(t, m))
		if err != nil {
			t.Fatalf("written again it is refused: %v", err)
		}
		sameEntries(t, again.All(), m.All())
		for _, e := range m.All() {
			if !filepath.IsLocal(e.Path) {
				t.Fatalf("path %q leads out", e.Path)
			}
		}
	})
}
