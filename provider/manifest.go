package provider

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// ManifestName is the name of the manifest of a copy made file by file. It lies
// beside [Copied].Root, never below it.
const ManifestName = "manifest"

const (
	manifestMagic = "SOMBRA-MANIFEST 1\n"
	maxManifest   = 1 << 30
)

// ManifestEntry describes an object in a copy as the original was. The copied
// file itself has other times of change and another inode, is nobody's hard
// link, and for users other than root has another owner.
type ManifestEntry struct {
	// Path is slash-separated from the volume's root, "." for the root.
	Path string
	// Mode is st_mode: type and permissions as POSIX systems number them.
	Mode     uint32
	UID, GID uint32
	// Inode and Links identify hard links: each name is a file of its own in
	// the copy.
	Inode, Links uint64
	// Device is the number (st_rdev) of a device node.
	Device uint64
	Size   int64
	// Allocated is the disk space the original used, in bytes.
	Allocated int64
	// Created is zero where the file system does not know it.
	Accessed, Modified, Changed, Created time.Time
	// Target is a symbolic link's.
	Target string
	// XAttrs are the extended attributes, POSIX ACLs among them; nil if none.
	XAttrs map[string][]byte
	// Claimed: a chosen component claims the file. False for directories and
	// data of no writer.
	Claimed bool
	// MountPoint: another volume or nested subvolume begins at this
	// directory. The attributes are those of its root.
	MountPoint bool
	// Missing tells why the content is not in the copy; empty if it is.
	// Only data of no writer, and device nodes, sockets and pipes that
	// could not be made, are ever missing.
	Missing string
}

// Manifest lists all objects in a copy made file by file. It is not changed
// after it was made and may be used by several goroutines.
type Manifest struct {
	entries []ManifestEntry // ordered by directory, then name
}

// NewManifest makes a manifest of entries, which it takes over. Two entries of
// one path are an error, and so is a path that is not in its shortest form.
func NewManifest(entries []ManifestEntry) (*Manifest, error) {
	slices.SortFunc(entries, func(a, b ManifestEntry) int { return comparePaths(a.Path, b.Path) })
	for i := range entries {
		if err := checkPath(entries[i].Path); err != nil {
			return nil, err
		}
		if i > 0 && entries[i].Path == entries[i-1].Path {
			return nil, fmt.Errorf("%q is in the manifest twice", entries[i].Path)
		}
	}
	return &Manifest{entries}, nil
}

// ReadManifest reads the manifest of the copy whose [Copied].Root is root:
// fs.ErrNotExist if it has none, VSS_E_UNEXPECTED_PROVIDER_ERROR if it is
// damaged.
func ReadManifest(root string) (*Manifest, error) {
	name := filepath.Join(filepath.Dir(filepath.Clean(root)), ManifestName)
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, vss.Errorf(vss.ErrUnexpectedProviderError, "read", name, "%w", err)
	}
	return m, nil
}

// Len is the number of entries.
func (m *Manifest) Len() int { return len(m.entries) }

// All gives the entries, ordered by directory and then by name. The caller
// must not change them.
func (m *Manifest) All() []ManifestEntry { return m.entries }

// Lookup finds an object by its path.
func (m *Manifest) Lookup(name string) (*ManifestEntry, bool) {
	i, found := slices.BinarySearchFunc(m.entries, name, func(e ManifestEntry, name string) int {
		return comparePaths(e.Path, name)
	})
	if !found {
		return nil, false
	}
	return &m.entries[i], true
}

// Children gives the objects in a directory, ordered by name. The caller must
// not change them.
func (m *Manifest) Children(dir string) []ManifestEntry {
	find := func(after bool) int {
		i, _ := slices.BinarySearchFunc(m.entries, dir, func(e ManifestEntry, dir string) int {
			d, _ := splitPath(e.Path)
			if c := strings.Compare(d, dir); c != 0 || !after {
				return cmp.Or(c, 1)
			}
			return -1
		})
		return i
	}
	return m.entries[find(false):find(true)]
}

// splitPath gives directory and name; the directory of "." is "", which is
// before every other.
func splitPath(p string) (dir, name string) {
	if p == "." {
		return "", "."
	}
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return ".", p
}

func comparePaths(a, b string) int {
	ad, an := splitPath(a)
	bd, bn := splitPath(b)
	return cmp.Or(strings.Compare(ad, bd), strings.Compare(an, bn))
}

// checkPath refuses what could lead out of a directory.
func checkPath(p string) error {
	if p == "" || p[0] == '/' || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") || strings.IndexByte(p, 0) >= 0 {
		return fmt.Errorf("%q is no path from a volume's root", p)
	}
	return nil
}

// WriteTo writes the manifest as [ParseManifest] reads it: a magic line; for
// each entry a uvarint length and that many bytes; a zero length; and the
// CRC-32C of all that, 4 bytes, least significant first. In an entry numbers
// are varints and strings have their length before them.
func (m *Manifest) WriteTo(w io.Writer) (int64, error) {
	sum := crc32.New(castagnoli)
	counted := &counter{w: w}
	b := bufio.NewWriterSize(io.MultiWriter(counted, sum), 1<<16)
	b.WriteString(manifestMagic)
	var body, length []byte
	for i := range m.entries {
		body = appendEntry(body[:0], &m.entries[i])
		length = binary.AppendUvarint(length[:0], uint64(len(body)))
		b.Write(length)
		b.Write(body)
	}
	b.WriteByte(0)
	if err := b.Flush(); err != nil {
		return counted.n, err
	}
	_, err := counted.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	return counted.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	flagClaimed = 1 << iota
	flagMountPoint
	flagsKnown = flagClaimed | flagMountPoint
)

func appendEntry(b []byte, e *ManifestEntry) []byte {
	var flags uint64
	if e.Claimed {
		flags |= flagClaimed
	}
	if e.MountPoint {
		flags |= flagMountPoint
	}
	b = appendString(b, e.Path)
	for _, v := range []uint64{flags, uint64(e.Mode), uint64(e.UID), uint64(e.GID), e.Inode, e.Links, e.Device,
		uint64(e.Size), uint64(e.Allocated)} {
		b = binary.AppendUvarint(b, v)
	}
	for _, t := range []time.Time{e.Accessed, e.Modified, e.Changed, e.Created} {
		// The zero Time has a second of its own, like any other.
		b = binary.AppendVarint(b, t.Unix())
		b = binary.AppendUvarint(b, uint64(t.Nanosecond()))
	}
	b = appendString(b, e.Target)
	b = appendString(b, e.Missing)
	b = binary.AppendUvarint(b, uint64(len(e.XAttrs)))
	for _, k := range slices.Sorted(maps.Keys(e.XAttrs)) {
		b = appendString(b, k)
		b = appendString(b, string(e.XAttrs[k]))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
