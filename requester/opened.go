package requester

import (
	"errors"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
)

// On a live volume another file may have taken a name since it was listed, or
// the listed one may have got another owner or mode. What is saved with the bytes
// is then what the file had that they were read from: else whoever may write in a
// directory could have his bytes saved with an owner and a mode of his choice.

// errReplaced says that a file of several names, which was to be read by this one,
// is no longer to be found there.
var errReplaced = errors.New("another file has taken its name")

// replaced reports whether the file that was read is another than the one listed.
func replaced(j *job, read session.Entry) bool {
	return read.Source == session.FromLive && j.entry.Source == session.FromLive && read.Inode != j.entry.Inode
}

// ofOpened gives an entry the attributes of the file that was read live.
func ofOpened(e *repository.Entry, j *job, read session.Entry) {
	opened, _ := newEntry(e.Path, read, e.Device)
	e.Mode, e.UID, e.GID, e.User, e.Group = opened.Mode, opened.UID, opened.GID, opened.User, opened.Group
	e.BirthTime, e.Inode, e.Nlink, e.Xattrs = opened.BirthTime, opened.Inode, opened.Nlink, opened.Xattrs
	if replaced(j, read) {
		e.HardLink = 0 // it has nothing to do with the other names
	}
}
