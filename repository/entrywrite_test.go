package repository

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestEntriesAreEncodedAsByTheGeneralEncoder: each field alone, all at once, and
// numbers and lengths about where their encoding gets longer.
func TestEntriesAreEncodedAsByTheGeneralEncoder(t *testing.T) {
	least := Entry{Root: "/", Path: "p", Type: Fifo}
	checkEncoders(t, &least)
	checkEncoders(t, &Entry{Root: "/", Type: Directory})

	leaf := Content{size: 1 << 40, top: listNode{
		refs:    []chunkRef{{ID{1}, 5}, {ID{2}, 1 << 20}, {ID{3}, 24}},
		extents: []extent{{5, 1, 0}, {1<<40 - 6, 0, 0}, {1, 2, 77_777}}}}
	hole := Content{size: 300, top: listNode{extents: []extent{{300, 0, 0}}}}
	upper := Content{size: 70_000, top: listNode{level: 2, refs: []chunkRef{{ID{4}, 255}, {ID{5}, 256}}, spans: []int64{5, 69_995}}}
	for _, c := range []Content{leaf, hole, upper} {
		e := fullEntry(c)
		checkEncoders(t, &e)
		e.Streams = nil   // by hand from here on
		e.LinkTarget = "" // as a regular file has none
		checkEncoders(t, &e)
		e.Xattrs, e.SecurityDescriptor, e.Attrs = map[string][]byte{"user.none": nil}, nil, nil
		checkEncoders(t, &e)
	}
	link := least
	link.Type, link.LinkTarget = Symlink, "../\xffwherever"
	checkEncoders(t, &link)

	for _, n := range []uint64{0, 1, 23, 24, 255, 256, 1<<16 - 1, 1 << 16, 1<<32 - 1, 1 << 32, 1<<64 - 1} {
		e := least
		e.Device, e.Inode, e.HardLink, e.Rdev = n, n, n, n
		e.Mode, e.UID, e.GID, e.Nlink, e.InodeFlags, e.WindowsAttributes = uint32(n)&0o7777, uint32(n), uint32(n), uint32(n), uint32(n), uint32(n)
		e.Size = int64(n >> 1)
		e.ModTime, e.BirthTime = time.Unix(int64(n>>8), 999_999_999), time.Unix(-int64(n>>8), int64(n%1000))
		if n < 1<<16 {
			e.User, e.Path = strings.Repeat("u", int(n)), strings.Repeat("p", int(n)+1)
		}
		checkEncoders(t, &e)
	}
	many := least
	many.Attrs, many.Xattrs = map[string]string{}, map[string][]byte{}
	for n := range 50 {
		name := fmt.Sprintf("%s%d", strings.Repeat("é", n%13*3), n)
		many.Attrs[name], many.Xattrs["user."+name+"\xff"] = strings.Repeat("v", n*9), make([]byte, n*11)
	}
	checkEncoders(t, &many)
}
