package redis

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// readTrusted reads a file whose content is believed: it is regular, belongs to
// root or this process's user, and nobody else can write to it; nor read it, if it
// is secret, but for root's files the group they were given to.
func readTrusted(path string, secret bool) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	closed := uint32(0o022)
	if secret {
		closed = 0o077
		if st.Uid == 0 {
			closed = 0o037
		}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", fmt.Errorf("%s is no regular file", path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return "", fmt.Errorf("%s belongs to user id %d; it must be root's or of user id %d, who reads it", path, st.Uid, os.Geteuid())
	case st.Mode&closed != 0:
		return "", fmt.Errorf("%s is open to others (mode %04o); chmod %o it", path, st.Mode&0o7777, 0o777&^closed&^0o111)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	if err != nil {
		return "", err
	}
	return string(b), nil
}

// readSecret reads the password file: the first line is the password.
func readSecret(path string) (string, error) {
	text, err := readTrusted(path, true)
	if errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("password file: %w to user id %d, as which the server and this writer run; give it to that user (mode 0600), or to root and that user's group (0640)", err, os.Geteuid())
	}
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	line, _, _ := strings.Cut(text, "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("password file: the first line of %s is empty", path)
	}
	return line, nil
}

// settingsFile is a configuration file that was read.
type settingsFile struct {
	path string
	all  []directive
}

// settingsFiles reads the configuration files that may be the server's of a
// directory: the one it was started with, if it shows that, and those where they
// usually are, of which the ones count that name the directory.
func settingsFiles(dir string, args []string) ([]settingsFile, error) {
	var found []settingsFile
	var errs []error
	for _, path := range settingsPaths(args) {
		text, err := readTrusted(path, false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var all []directive
		if err == nil {
			all, err = parseSettings(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("configuration file %s: %w", path, err))
			continue
		}
		if describes(all, dir) {
			found = append(found, settingsFile{path, all})
		}
	}
	return found, errors.Join(errs...)
}

// settingsPaths lists where the configuration file may be.
func settingsPaths(args []string) []string {
	var paths []string
	if len(args) > 0 && filepath.IsAbs(args[0]) {
		paths = append(paths, args[0])
	}
	for _, pattern := range []string{"/etc/redis/*.conf", "/etc/redis.conf"} {
		names, _ := filepath.Glob(pattern) // the patterns are well formed
		paths = append(paths, names...)
	}
	return slices.Compact(paths)
}

// describes reports whether a configuration file is that of the data in a directory.
func describes(all []directive, dir string) bool {
	args, ok := last(all, "dir")
	if !ok || len(args) != 1 {
		return false
	}
	if args[0] == dir {
		return true
	}
	real, err := filepath.EvalSymlinks(args[0])
	return err == nil && real == dir
}
