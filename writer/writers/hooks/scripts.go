package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// maxScripts bounds the scripts of a directory.
const maxScripts = 1000

// ignored are the names that QEMU's sample hook passes over: what editors and
// package managers leave behind.
var ignored = []string{
	"*~", "*.bk", "*.bak", "*.orig", "*.rpmnew", "*.rpmorig", "*.rpmsave", "*.sample",
	"*.dpkg-old", "*.dpkg-new", "*.dpkg-tmp", "*.dpkg-dist", "*.dpkg-bak", "*.dpkg-backup", "*.dpkg-remove",
}

func isIgnored(name string) bool {
	if strings.HasPrefix(name, ".") {
		return true // as a shell's "*" does
	}
	for _, pattern := range ignored {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			return true
		}
	}
	return false
}

// scriptNames lists the scripts of a directory in the order of their names,
// compared byte by byte: executable files, also through links.
func scriptNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if isIgnored(entry.Name()) {
			continue
		}
		script := filepath.Join(dir, entry.Name())
		info, err := os.Stat(script)
		if errors.Is(err, fs.ErrPermission) {
			// The kernel does not follow others' links in directories that all may
			// write to (fs.protected_symlinks). Whose it is tells the user more.
			if why := checkTrust(script); why != nil {
				err = why
			}
		}
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		if names = append(names, entry.Name()); len(names) > maxScripts {
			return nil, fmt.Errorf("%s holds more than %d scripts", dir, maxScripts)
		}
	}
	return names, nil
}

// trustedScripts lists the scripts of a directory if nobody but root and the
// caller could have written them, or can before they run: the directory, every
// script, and all directories above them belong to root or the caller and
// nobody else may write to them.
func trustedScripts(dir string) ([]string, error) {
	if err := checkTrust(dir); err != nil {
		return nil, err
	}
	names, err := scriptNames(dir)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s holds no executable script; add one, or take the writer out of the configuration", dir)
	}
	scripts := make([]string, 0, len(names))
	for _, name := range names {
		script := filepath.Join(dir, name)
		if err := checkTrust(script); err != nil {
			return nil, err
		}
		scripts = append(scripts, script)
	}
	return scripts, nil
}

// refusal says why a file is not trusted and what to do.
func refusal(p string, info fs.FileInfo, why string) error {
	return fmt.Errorf("hook scripts: %s (mode %04o) %s; scripts run only where nobody but root and the caller can change them", p, info.Mode().Perm(), why)
}
