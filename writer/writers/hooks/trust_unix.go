//go:build unix

package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sombra-backup/sombra/writer"
)

// maxHops bounds the links on the way to a script, as the kernel does.
const maxHops = 40

// checkTrust checks a file or directory and everything on the way to it: whoever
// may rename a directory may replace what is below it, and whoever may change a
// link decides where it leads. As nobody else can change any of that, what was
// checked is what will be run.
func checkTrust(name string) error {
	at, rest := "/", splitPath(name)
	if err := checkOne("/", len(rest) == 0); err != nil {
		return err
	}
	for hops := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == ".." {
			at = filepath.Dir(at)
			continue
		}
		p := filepath.Join(at, part)
		target, err := os.Readlink(p)
		if errors.Is(err, syscall.EINVAL) { // no link
			if err := checkOne(p, len(rest) == 0); err != nil {
				return err
			}
			at = p
			continue
		}
		if err != nil {
			return err
		}
		if hops++; hops > maxHops {
			return &fs.PathError{Op: "resolve", Path: name, Err: syscall.ELOOP}
		}
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if err := checkOwner(p, info, true); err != nil {
			return err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(splitPath(target), rest...)
	}
	return nil
}

func splitPath(p string) []string {
	return strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
}

func checkOne(p string, last bool) error {
	info, err := os.Lstat(p)
	if err != nil {
		return err
	}
	return checkOwner(p, info, !last)
}

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
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil // links have no permissions of their own
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
