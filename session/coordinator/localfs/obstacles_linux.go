package localfs

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/session"
)

// InTheWay tells which names cannot be replaced or made because of the file system:
// all that [session.Obstructions] has but the programs that use a file. present
// are the regular files among the names that are there.
func (t *target) InTheWay(ctx context.Context, names []string) (list []session.Obstacle, present []string, err error) {
	dirs := map[string]string{}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		why, regular := t.obstacle(ctx, name, dirs)
		if why != "" && len(list) < session.MaxObstacles {
			list = append(list, session.Obstacle{Name: name, Why: why})
		}
		if regular {
			present = append(present, name)
		}
	}
	return list, present, nil
}

// obstacle looks at one name. dirs remembers what is known of directories.
func (t *target) obstacle(ctx context.Context, name string, dirs map[string]string) (why string, regular bool) {
	p, err := t.where(ctx, "look at", name, true)
	if err != nil {
		return err.Error(), false
	}
	up, _ := splitName(name)
	dir, elem, err := t.parent(p)
	if errors.Is(err, fs.ErrNotExist) {
		if up == "." {
			return "", false
		}
		known, ok := dirs[up]
		if !ok {
			known, _ = t.obstacle(ctx, up, dirs) // it is to be made
			dirs[up] = known
		}
		return known, false
	}
	if err != nil {
		return pathError("open directory of", name, err).Error(), false
	}
	defer dir.close()
	var in unix.Statx_t
	if err := statxFD(dir.fd, &in); err != nil {
		return pathError("look at directory of", name, err).Error(), false
	}
	blocked, ok := dirs["in "+up]
	if !ok {
		blocked = dirObstacle(dir.fd, &in)
		dirs["in "+up] = blocked
	}
	if blocked != "" {
		return blocked, false
	}
	var sx unix.Statx_t
	switch err := statxAt(dir.fd, elem, &sx); {
	case err == unix.ENOENT:
		return "", false
	case err != nil:
		return pathError("look at", name, err).Error(), false
	}
	if sx.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "", false // whoever asks knows whether it may be one
	}
	return objectObstacle(&in, &sx), sx.Mode&unix.S_IFMT == unix.S_IFREG
}

// dirObstacle says why nothing can be made in or taken out of a directory.
func dirObstacle(fd int, sx *unix.Statx_t) string {
	switch err := unix.Faccessat2(fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); {
	case err == unix.EROFS:
		return "the file system is read-only"
	case err == unix.EPERM:
		return "its directory has the attribute immutable"
	case err != nil:
		return "its directory cannot be written to: " + err.Error()
	}
	switch {
	case sx.Attributes&unix.STATX_ATTR_IMMUTABLE != 0:
		return "its directory has the attribute immutable"
	case sx.Attributes&unix.STATX_ATTR_APPEND != 0:
		return "its directory has the attribute append-only"
	}
	return ""
}

// objectObstacle says why an object cannot be replaced by another.
func objectObstacle(dir, sx *unix.Statx_t) string {
	me := uint32(os.Geteuid())
	switch {
	case sx.Attributes&unix.STATX_ATTR_IMMUTABLE != 0:
		return "it has the attribute immutable"
	case sx.Attributes&unix.STATX_ATTR_APPEND != 0:
		return "it has the attribute append-only"
	case sx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return "something is mounted on it"
	case me != 0 && dir.Mode&unix.S_ISVTX != 0 && dir.Uid != me && sx.Uid != me:
		return "it is of another user, in a directory where everybody may replace only his own"
	}
	return ""
}
