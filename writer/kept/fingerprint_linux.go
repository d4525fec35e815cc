package kept

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Fingerprint tells how the files of directories look: their names, sizes, times of
// change and inodes, not what is in them. A server that was started on them and has
// written leaves others. choose says of a path whether it counts; directories in the
// given ones and whatever has a name of this package do not. A directory that is not
// there has no files.
func Fingerprint(dirs []string, choose func(path string) bool) (string, error) {
	dirs = slices.Clone(dirs)
	slices.Sort(dirs)
	h := sha256.New()
	for _, dir := range slices.Compact(dirs) {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if e.IsDir() || Within(e.Name()) || !choose(path) {
				continue
			}
			st, err := e.Info()
			if err != nil {
				return "", err
			}
			var inode uint64
			if s, ok := st.Sys().(*syscall.Stat_t); ok {
				inode = s.Ino
			}
			fmt.Fprintf(h, "%q %v %d %d %d\n", path, st.Mode().Type(), st.Size(), st.ModTime().UnixNano(), inode)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
