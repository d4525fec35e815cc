package sqlite

import (
	"os/user"
	"slices"
	"strconv"

	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

// owners finds the identity of files' owners, asking for each user once.
type owners map[uint32]writer.Owner

// of gives the identity that the writer of a file runs with: its owner's. Where
// the owner is a member of the file's group, that is the first group, so that
// files SQLite makes beside the database are open to those it is shared with.
func (o owners) of(st *unix.Stat_t) writer.Owner {
	who, ok := o[st.Uid]
	if !ok {
		who = lookUp(st.Uid, st.Gid)
		o[st.Uid] = who
	}
	if slices.Contains(who.Groups, st.Gid) {
		who.GID = st.Gid
	}
	who.Groups = slices.Clone(who.Groups)
	return who
}

// lookUp asks the system for a user's groups. A user it does not know has the
// group of the file and no other.
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
