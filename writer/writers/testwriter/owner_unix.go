//go:build unix

package testwriter

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"github.com/sombra-backup/sombra/writer"
)

// ownerOf gives the identity of a file's owner. A user the system does not know
// has the file's group and no other.
func ownerOf(path string) (writer.Owner, error) {
	info, err := os.Stat(path)
	if err != nil {
		return writer.Owner{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return writer.Owner{}, fmt.Errorf("%s: its owner is not known", path)
	}
	o := writer.Owner{UID: st.Uid, GID: st.Gid, Groups: []uint32{st.Gid}}
	if o.UID == uint32(os.Geteuid()) {
		return sameAsCaller(o)
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(o.UID), 10))
	if err != nil {
		return o, nil
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return o, nil
	}
	o.GID, o.Groups = uint32(gid), []uint32{uint32(gid)}
	ids, _ := u.GroupIds() // without the list the user has the primary group
	for _, id := range ids {
		if g, err := strconv.ParseUint(id, 10, 32); err == nil && !slices.Contains(o.Groups, uint32(g)) {
			o.Groups = append(o.Groups, uint32(g))
		}
	}
	return o, nil
}

// sameAsCaller keeps the caller's groups, which an ordinary user's process
// could not change.
func sameAsCaller(o writer.Owner) (writer.Owner, error) {
	groups, err := os.Getgroups()
	if err != nil {
		return o, err
	}
	o.GID, o.Groups = uint32(os.Getegid()), nil
	for _, g := range groups {
		o.Groups = append(o.Groups, uint32(g))
	}
	return o, nil
}
