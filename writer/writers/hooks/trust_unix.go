//go:build unix

package hooks

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/sombra-backup/sombra/writer"
)

// checkOwner checks one file or directory. A directory above may be writable by
// others if it is sticky: what is in it cannot be renamed by them.
func checkOwner(p string, info fs.FileInfo, above bool) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return refusal(p, info, "has no owner that could be checked")
	}
	if st.Uid != 0 && st.Uid != uint32(os.Geteuid()) {
		return refusal(p, info, fmt.Sprintf("belongs to user id %d, not to root or the caller (user id %d); change its owner", st.Uid, os.Geteuid()))
	}
	if info.Mode().Perm()&0o022 != 0 && !(above && info.Mode()&fs.ModeSticky != 0) {
		return refusal(p, info, "can be written by others; run chmod go-w on it")
	}
	return nil
}

// caller is who started the service.
func caller() (writer.Owner, error) {
	groups, err := os.Getgroups()
	if err != nil {
		return writer.Owner{}, fmt.Errorf("groups of this process: %w", err)
	}
	o := writer.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	for _, g := range groups {
		o.Groups = append(o.Groups, uint32(g))
	}
	return o, nil
}
