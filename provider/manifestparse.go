package provider

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"time"
)

// ParseManifest reads what [Manifest.WriteTo] writes. It needs memory in
// proportion to data, whatever data claims, and never panics.
func ParseManifest(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("larger than %d bytes", maxManifest)
	}
	rest, ok := bytes.CutPrefix(data, []byte(manifestMagic))
	if !ok {
		return nil, fmt.Errorf("it does not begin with %q", manifestMagic)
	}
	if len(rest) < 5 {
		return nil, errors.New("it ends early")
	}
	body, sum := data[:len(data)-4], binary.LittleEndian.Uint32(data[len(data)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errors.New("its checksum is wrong")
	}
	d := decoder{rest: rest[:len(rest)-4]}
	var entries []ManifestEntry
	for {
		one := decoder{rest: d.bytes()}
		if d.bad {
			return nil, fmt.Errorf("entry %d is cut off", len(entries))
		}
		if len(one.rest) == 0 {
			break
		}
		e := one.entry()
		if one.bad || len(one.rest) != 0 {
			return nil, fmt.Errorf("entry %d is malformed", len(entries))
		}
		if len(entries) > 0 && comparePaths(entries[len(entries)-1].Path, e.Path) >= 0 {
			return nil, fmt.Errorf("entry %d is out of order", len(entries))
		}
		entries = append(entries, e)
	}
	if len(d.rest) != 0 {
		return nil, errors.New("something follows its end")
	}
	return NewManifest(slices.Clip(entries))
}

// decoder takes values off the front of rest; bad is set for good when one is
// not there or is out of its range.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) uint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > limit {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// bytes gives a part of the input itself.
func (d *decoder) bytes() []byte {
	n := d.uint(math.MaxInt64)
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) time() time.Time {
	sec, nsec := d.int(), d.uint(999_999_999)
	t := time.Unix(sec, int64(nsec))
	if t.Unix() != sec { // so far away that it wraps round
		d.bad = true
	}
	if t.IsZero() {
		return time.Time{}
	}
	return t
}

func (d *decoder) entry() ManifestEntry {
	e := ManifestEntry{Path: d.string()}
	flags := d.uint(flagsKnown)
	e.Claimed, e.MountPoint = flags&flagClaimed != 0, flags&flagMountPoint != 0
	e.Mode = uint32(d.uint(math.MaxUint32))
	e.UID, e.GID = uint32(d.uint(math.MaxUint32)), uint32(d.uint(math.MaxUint32))
	e.Inode, e.Links, e.Device = d.uint(math.MaxUint64), d.uint(math.MaxUint64), d.uint(math.MaxUint64)
	e.Size, e.Allocated = int64(d.uint(math.MaxInt64)), int64(d.uint(math.MaxInt64))
	e.Accessed, e.Modified, e.Changed, e.Created = d.time(), d.time(), d.time(), d.time()
	e.Target, e.Missing = d.string(), d.string()
	n := d.uint(math.MaxInt64)
	for last := ""; n > 0 && !d.bad; n-- {
		k, v := d.string(), bytes.Clone(d.bytes())
		if e.XAttrs == nil {
			e.XAttrs = map[string][]byte{}
		} else if k <= last { // also guards against the same one twice
			d.bad = true
		}
		if v == nil {
			v = []byte{}
		}
		e.XAttrs[k], last = v, k
	}
	return e
}
