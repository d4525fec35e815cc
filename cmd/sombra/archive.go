package main

import (
	"archive/tar"
	"archive/zip"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/repository"
)

// tarArchive writes PAX tar, which keeps times to the nanosecond, names of any
// bytes, owners and extended attributes.
type tarArchive struct {
	*tar.Writer
	// links are the names of the files that have several, by number.
	links map[uint64]string
}

func newTarArchive(w io.Writer) *tarArchive {
	return &tarArchive{tar.NewWriter(w), map[uint64]string{}}
}

// tarTypes are the types that tar knows; sockets and reparse points it does not.
var tarTypes = map[repository.FileType]byte{
	repository.Regular: tar.TypeReg, repository.Directory: tar.TypeDir, repository.Symlink: tar.TypeSymlink,
	repository.Fifo: tar.TypeFifo, repository.CharDevice: tar.TypeChar, repository.BlockDevice: tar.TypeBlock,
}

func (a *tarArchive) add(name string, e *repository.Entry) (io.Writer, error) {
	typ, ok := tarTypes[e.Type]
	if !ok {
		return nil, fmt.Errorf("%w: a %v", errNotForArchive, e.Type)
	}
	h := &tar.Header{
		Typeflag: typ, Name: name, Linkname: e.LinkTarget, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID), Uname: e.User, Gname: e.Group,
		ModTime: e.ModTime, AccessTime: e.AccessTime, ChangeTime: e.ChangeTime, Format: tar.FormatPAX,
	}
	if h.ModTime.IsZero() {
		h.ModTime = time.Unix(0, 0)
	}
	switch e.Type {
	case repository.Directory:
		h.Name += "/"
	case repository.CharDevice, repository.BlockDevice:
		h.Devmajor, h.Devminor = deviceNumbers(e.Rdev)
	case repository.Regular:
		h.Size = e.Size
		if first, ok := a.links[e.HardLink]; ok && e.HardLink != 0 {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else if e.HardLink != 0 {
			a.links[e.HardLink] = name
		}
	}
	if h.Typeflag != tar.TypeLink {
		for attr, value := range e.Xattrs {
			// PAX has no way to write such a name.
			if strings.ContainsAny(attr, "=\x00") {
				return nil, fmt.Errorf("%w: its attribute %q", errNotForArchive, attr)
			}
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+attr] = string(value)
		}
	}
	if err := a.WriteHeader(h); err != nil {
		return nil, err
	}
	if h.Typeflag != tar.TypeReg {
		return nil, nil
	}
	return a.Writer, nil
}

// deviceNumbers takes a device number as Linux encodes it apart.
func deviceNumbers(dev uint64) (major, minor int64) {
	return int64(dev>>8&0xfff | dev>>32&0xfffff000), int64(dev&0xff | dev>>12&0xffffff00)
}

// zipArchive writes zip: modes, times and symlinks, but no owners, no extended
// attributes, and nothing that is neither file, directory nor symlink.
type zipArchive struct{ *zip.Writer }

func newZipArchive(w io.Writer) *zipArchive { return &zipArchive{zip.NewWriter(w)} }

func (a *zipArchive) add(name string, e *repository.Entry) (io.Writer, error) {
	mode := fs.FileMode(e.Mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if e.Mode&bit != 0 {
			mode |= flag
		}
	}
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: e.ModTime, NonUTF8: !utf8.ValidString(name)}
	switch e.Type {
	case repository.Regular:
	case repository.Directory:
		h.Name += "/"
		h.Method = zip.Store
		mode |= fs.ModeDir
	case repository.Symlink:
		h.Method = zip.Store
		mode |= fs.ModeSymlink
	default:
		return nil, fmt.Errorf("%w: a %v", errNotForArchive, e.Type)
	}
	h.SetMode(mode)
	if len(h.Name) > 65535 {
		return nil, fmt.Errorf("%w: a name of %d bytes", errNotForArchive, len(h.Name))
	}
	w, err := a.CreateHeader(h)
	if err != nil || e.Type == repository.Directory {
		return nil, err
	}
	if e.Type == repository.Symlink {
		_, err := io.WriteString(w, e.LinkTarget)
		return nil, err
	}
	return w, nil
}
