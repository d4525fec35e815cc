package local

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// files is everything the store asks of a file system. It is the system's own
// (osFiles) but in tests, which put a model of a disk in its place that fails
// at will and keeps only what was synced.
//
// Paths are absolute. Errors are those of package os.
type files interface {
	// Stat follows links, Lstat does not.
	Stat(path string) (fs.FileInfo, error)
	Lstat(path string) (fs.FileInfo, error)
	// Same says whether two of them are of one file.
	Same(a, b fs.FileInfo) bool
	// Resolve gives the path without any links in it.
	Resolve(path string) (string, error)
	// ReadDir lists a folder, sorted by name.
	ReadDir(path string) ([]fs.DirEntry, error)
	// Open opens an object for reading, without following a link.
	Open(path string) (readFile, error)

	// Mkdir makes a folder for its owner only.
	Mkdir(path string) error
	// CreateTemp makes a new file in a folder, whose name begins with
	// tempPrefix.
	CreateTemp(dir string) (tempFile, error)
	// Rename gives a file a new name in the same folder unless that is taken,
	// which gives fs.ErrExist.
	Rename(from, to string) error
	// Remove removes a file.
	Remove(path string) error

	// SyncDir makes the names in a folder durable.
	SyncDir(path string) error
	// SyncAbove makes durable that a folder, given without links in its path,
	// is where it is: its own name and those of the folders above it, as far
	// as they are on the same file system.
	SyncAbove(path string) error
}

// tempFile is a file that is being written.
type tempFile interface {
	io.Writer
	Name() string
	Stat() (fs.FileInfo, error)
	// Sync makes the file's bytes durable, not its name.
	Sync() error
	Close() error
}

// readFile is an object that is being read.
type readFile interface {
	io.ReaderAt
	Stat() (fs.FileInfo, error)
	Close() error
}

// osFiles is the operating system's file system.
type osFiles struct{}

func (osFiles) Stat(path string) (fs.FileInfo, error)      { return os.Stat(path) }
func (osFiles) Lstat(path string) (fs.FileInfo, error)     { return os.Lstat(path) }
func (osFiles) Same(a, b fs.FileInfo) bool                 { return os.SameFile(a, b) }
func (osFiles) Resolve(path string) (string, error)        { return filepath.EvalSymlinks(path) }
func (osFiles) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
func (osFiles) Mkdir(path string) error                    { return os.Mkdir(path, 0o700) }
func (osFiles) Rename(from, to string) error               { return renameNoReplace(from, to) }
func (osFiles) Remove(path string) error                   { return os.Remove(path) }
func (osFiles) SyncDir(path string) error                  { return syncDir(path) }
func (osFiles) SyncAbove(path string) error                { return syncAbove(path) }

func (osFiles) Open(path string) (readFile, error) {
	f, err := openObject(path)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFiles) CreateTemp(dir string) (tempFile, error) {
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return nil, err
	}
	return newTemp(f), nil
}
