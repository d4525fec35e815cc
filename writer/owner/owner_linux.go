// Package owner finds the identity that a writer's process runs with: that of the
// owner of its data.
package owner

import (
	"io/fs"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/writer"
)

// OfFile gives the identity of the owner of a file or directory. A link is not
// followed.
func OfFile(path string) (writer.Owner, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return writer.Owner{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return Of(st.Uid, st.Gid), nil
}

// Of gives the identity of a user, with the groups that the system knows. The
// first group is gid where the user is in it, so that files made for the
// application are open to those it shares them with. A user the system does not
// know has the group gid and no other.
func Of(uid, gid uint32) writer.Owner {
	who := writer.Owner{UID: uid, GID: gid, Groups: []uint32{gid}}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return who
	}
	primary, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return who
	}
	who.Groups = []uint32{uint32(primary)}
	ids, _ := u.GroupIds() // without the list the user has the primary group
	for _, id := range ids {
		if g, err := strconv.ParseUint(id, 10, 32); err == nil && !slices.Contains(who.Groups, uint32(g)) {
			who.Groups = append(who.Groups, uint32(g))
		}
	}
	if !slices.Contains(who.Groups, gid) {
		who.GID = uint32(primary)
	}
	return who
}
