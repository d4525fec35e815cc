package postgres

import (
	"os/user"
	"slices"
	"strconv"

	"github.com/sombra-backup/sombra/writer"
)

// lookUp asks the system for a user's groups. A user it does not know has the
// group of the data and no other.
func lookUp(uid, gid uint32) writer.Owner {
	who := writer.Owner{UID: uid, GID: gid, Groups: []uint32{gid}}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return who
	}
	primary, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return who
	}
	who.GID, who.Groups = uint32(primary), []uint32{uint32(primary)}
	ids, _ := u.GroupIds() // without the list the user has the primary group
	for _, id := range ids {
		if g, err := strconv.ParseUint(id, 10, 32); err == nil && !slices.Contains(who.Groups, uint32(g)) {
			who.Groups = append(who.Groups, uint32(g))
		}
	}
	return who
}
