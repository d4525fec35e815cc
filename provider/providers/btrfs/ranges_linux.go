package btrfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/area"
	"github.com/sombra-backup/sombra/provider/extents"
	"github.com/sombra-backup/sombra/vss"
)

var (
	_ provider.RangeTeller = (*Provider)(nil)
	_ provider.Sizer       = (*Provider)(nil)
)

// ChangedRanges implements [provider.RangeTeller]. It compares where the data of
// the file lies in the two snapshots (see package extents). Both must be as they
// were made: one that was made writable and written to, or a file in it, vouches
// for nothing.
func (*Provider) ChangedRanges(ctx context.Context, base, now provider.Ref, path string) ([]vss.Range, error) {
	old, err := openMember(ctx, base, path)
	if err != nil {
		return nil, err
	}
	defer old.close()
	fresh, err := openMember(ctx, now, path)
	if err != nil {
		return nil, err
	}
	defer fresh.close()
	if old.made.parentUUID != fresh.made.parentUUID {
		return nil, cannot(path, "the two are snapshots of different subvolumes")
	}
	ranges, err := extents.Compare(ctx, old.file, fresh.file, extents.Options{})
	if err != nil {
		return nil, err
	}
	for _, m := range []*member{old, fresh} {
		if err := m.check(path); err != nil {
			return nil, err
		}
	}
	return ranges, nil
}

// Held implements [provider.Sizer].
func (*Provider) Held(ctx context.Context, ref provider.Ref) (bytes uint64, all bool, err error) {
	return extents.Held(ctx, copyPath(ref))
}

func cannot(path, format string, args ...any) error {
	return vss.Errorf(vss.ErrNotSupported, "compare", path, format, args...)
}

// member is a file in a snapshot.
type member struct {
	root int // of the snapshot
	file *os.File
	made subvolInfo
}

func (m *member) close() {
	unix.Close(m.root)
	if m.file != nil {
		m.file.Close()
	}
}

// openMember opens a file of a finished copy. That the copy is gone, or the file
// not in it, is no fault but VSS_E_NOT_SUPPORTED.
func openMember(ctx context.Context, ref provider.Ref, path string) (*member, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := openCopyDir(ref)
	if err != nil {
		return nil, absent(path, ref, err)
	}
	defer dir.Close()
	m := &member{}
	if m.root, err = openSubvolume(dir); err != nil {
		return nil, absent(path, ref, err)
	}
	if err := m.open(ref, path); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *member) open(ref provider.Ref, path string) error {
	fd, err := area.OpenBeneath(m.root, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return absent(path, ref, err)
	}
	m.file = os.NewFile(uintptr(fd), filepath.Join(copyPath(ref), path))
	if err := ioctl(m.root, iocGetSubvolInfo, &m.made); err != nil {
		return os.NewSyscallError("BTRFS_IOC_GET_SUBVOL_INFO", err)
	}
	return m.check(path)
}

// check refuses a snapshot that was written to since it was made. What the
// kernel does of itself right after it has made one, removing files that had
// been deleted but were open, counts as writing; only root is told whether it was
// to this file. What was written to it just now and is not on the disk yet shows
// in its time of change.
func (m *member) check(path string) error {
	if ro, err := isReadOnly(m.root); err != nil || !ro {
		return cannot(path, "a copy is no read-only snapshot any more")
	}
	var info subvolInfo
	if err := ioctl(m.root, iocGetSubvolInfo, &info); err != nil {
		return os.NewSyscallError("BTRFS_IOC_GET_SUBVOL_INFO", err)
	}
	st, err := m.file.Stat()
	if err != nil {
		return err
	}
	at := time.Unix(st.Sys().(*syscall.Stat_t).Ctim.Unix())
	if at.After(time.Unix(int64(info.otime[0]), int64(uint32(info.otime[1])))) {
		return cannot(path, "it was changed in the copy after that was made")
	}
	changed, err := extents.InodeTransid(m.file)
	if errors.Is(err, vss.ErrNotSupported) {
		changed, err = info.generation, nil
	}
	if err == nil && changed > info.otransid {
		err = cannot(path, "it was changed in the copy after that was made")
	}
	return err
}

// absent gives the reason why a file cannot be compared its code. Faults of the
// system stay what they are.
func absent(path string, ref provider.Ref, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNoSubvolume), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP),
		errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENAMETOOLONG):
		return cannot(path, "it is not in the shadow copy %s: %w", ref.SnapshotID, err)
	}
	return err
}
