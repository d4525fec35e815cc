package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"golang.org/x/sys/unix"
)

// Kind is the writer kind "sqlite". Its configuration is {"path": "/dir/x.db"}.
// The zero Kind is ready for use, by several goroutines at once.
type Kind struct{}

var (
	_ writer.Kind     = Kind{}
	_ writer.Rejecter = Kind{}
	_ writer.Numerous = Kind{}
)

// Name implements [writer.Kind].
func (Kind) Name() string { return KindName }

// Class implements [writer.Kind].
func (Kind) Class() vss.GUID { return classID }

// Numerous implements [writer.Numerous].
func (Kind) Numerous() {}

// New implements [writer.Kind]. It looks at the file's header, with the rights
// of its process. A discovered file that is no database, or has gone, is
// [writer.ErrNotMine]; in a restore it may be absent or anything.
func (Kind) New(_ context.Context, s writer.Spec) (writer.Writer, error) {
	var c config
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return nil, fmt.Errorf("configuration of a %s writer: %w", KindName, err)
	}
	path := c.Path
	if c.Raw != nil {
		path = string(c.Raw)
	}
	if !s.Discovered || c.Restore || !filepath.IsAbs(path) {
		if err := checkPath(path); err != nil {
			return nil, err
		}
	}
	if c.Restore {
		return newWriter(path, s.Name), nil
	}
	if err := checkAlone(path); err != nil {
		if s.Discovered && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, errIrregular) || errors.Is(err, errNoDatabase)) {
			return nil, fmt.Errorf("%w: %w", writer.ErrNotMine, err)
		}
		return nil, err
	}
	// What is no database may be called as it likes; of one that cannot be
	// served the user must hear.
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if err := checkPlace(path, s.Discovered); err != nil {
		return nil, err
	}
	return newWriter(path, s.Name), nil
}

var errNoDatabase = errors.New("no SQLite database")

// looking is held while a file is looked at: of two names of one file, whose writers
// are made at the same time, the second would find it claimed by the first.
var looking sync.Mutex

// checkAlone is checkFile, one file at a time.
func checkAlone(path string) error {
	looking.Lock()
	defer looking.Unlock()
	return checkFile(path)
}

// checkFile makes sure that a path names a database of this process's user.
func checkFile(path string) error {
	f, id, err := openRegular(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer opened.release(id)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	var header [headerSize]byte
	n, _ := f.ReadAt(header[:], 0) // a file that cannot be read has no header
	if !isHeader(header[:n]) {
		return fmt.Errorf("%s: %w", path, errNoDatabase)
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user id %d now, and this writer runs as %d", path, st.Uid, os.Geteuid())
	}
	return nil
}

// checkPlace refuses a database in a directory where others than its owner may
// put files. SQLite follows a link that lies where it keeps the log or journal,
// and makes the file it leads to; so somebody who may put one there could have
// files made anywhere in the owner's name by having the database backed up.
//
// For a database somebody configured, who is not root, that is taken to be
// known.
func checkPlace(path string, discovered bool) error {
	uid := uint32(os.Geteuid())
	if uid != 0 && !discovered {
		return nil
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		st, err := statNoLinks(dir)
		if err != nil {
			return err
		}
		open := uint32(unix.S_IWOTH)
		if uid == 0 {
			open |= unix.S_IWGRP
		}
		// In a sticky directory nobody can move away another's directory,
		// but anybody can add a file.
		sticky := st.Mode&unix.S_ISVTX != 0 && dir != filepath.Dir(path)
		if st.Uid != 0 && st.Uid != uid || st.Mode&open != 0 && !sticky {
			return fmt.Errorf("%s: others than its owner (user id %d) can write to %s (owner %d, mode %04o), and could have SQLite make files in the owner's name; %s",
				path, uid, dir, st.Uid, st.Mode&0o7777, adviceOn(uid))
		}
		if dir == "/" {
			return nil
		}
	}
}

func adviceOn(uid uint32) string {
	if uid == 0 {
		return "change the directory's mode, or give the database an owner of its own"
	}
	return "change the directory's mode, or name the database in the configuration"
}
