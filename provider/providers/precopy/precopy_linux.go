package precopy

import (
	"context"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/area"
	"github.com/sombra-backup/sombra/provider/staging"
	"github.com/sombra-backup/sombra/vss"
)

// ID of the provider.
var ID = vss.MustParseGUID("cdf4cf64-73c2-41cf-b678-8d8391ec027e")

// What copying costs, for the estimate before anything was copied; afterwards
// the passes themselves tell. Measured on two cores and a virtual disk, and
// rounded to the bad side.
const (
	perFile   = 10 * time.Microsecond // listing and looking at one that has not changed
	perCopy   = 60 * time.Microsecond // copying one, besides its bytes
	byteRate  = 500 << 20             // bytes copied in a second
	fileRoom  = 8 << 10               // what a file takes besides its bytes
	extraRoom = 32 << 20              // to be left free
)

// Provider implements [provider.Provider]. Its zero value is ready for use.
type Provider struct{}

var _ provider.Provider = (*Provider)(nil)

// New makes the provider.
func New() *Provider { return &Provider{} }

// Info implements [provider.Provider]. Its type makes it the last to be chosen.
func (*Provider) Info() provider.Info {
	return provider.Info{ID: ID, Name: "precopy", Type: vss.ProviderSystem, Version: "1"}
}

// remote are file systems that other hosts may write to as well.
var remote = []string{"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "9p", "afs", "gfs2", "ocfs2", "lustre", "glusterfs",
	"fuse.glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.ceph", "fuse.nfs"}

// unreal are file systems whose files are made up while they are read.
var unreal = []string{"proc", "sysfs", "devpts", "cgroup", "cgroup2", "debugfs", "tracefs", "bpf", "pstore", "securityfs",
	"configfs", "mqueue", "autofs", "binfmt_misc", "fusectl", "efivarfs", "nsfs", "rpc_pipefs"}

// Supports implements [provider.Provider].
func (*Provider) Supports(ctx context.Context, v provider.Volume, dir string) (provider.Capabilities, error) {
	if err := ctx.Err(); err != nil {
		return provider.Capabilities{}, err
	}
	if err := serves(v, dir); err != nil {
		return provider.Capabilities{}, err
	}
	caps := provider.Capabilities{NeedsScope: true, ClaimedOnly: true}
	var fs unix.Statfs_t
	if err := unix.Statfs(v.Root, &fs); err != nil {
		return provider.Capabilities{}, notServed(v, "%w", &os.PathError{Op: "statfs", Path: v.Root, Err: err})
	}
	if !staging.Trusted(int64(fs.Type)) {
		caps.Note = "on " + v.FSType + " changes cannot be told from file times, so that all claimed files are copied while writes are held"
	}
	return caps, nil
}

func serves(v provider.Volume, dir string) error {
	switch {
	case slices.Contains(remote, v.FSType):
		return notServed(v, "%s is a network file system: what other hosts write to it cannot be held", v.FSType)
	case slices.Contains(unreal, v.FSType):
		return notServed(v, "%s holds no files of its own", v.FSType)
	}
	fd, err := unix.Open(v.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return notServed(v, "%w", &os.PathError{Op: "open", Path: v.Root, Err: err})
	}
	defer unix.Close(fd)
	if err := checkArea(v, dir); err != nil {
		return err
	}
	return staging.CanWalk(v, "precopy", fd)
}

// checkArea checks that copies can be made where they are to lie.
func checkArea(v provider.Volume, dir string) error {
	if err := area.Check(dir); err != nil {
		return notServed(v, "%w", err)
	}
	at, err := area.Nearest(dir)
	if err != nil {
		return notServed(v, "%w", err)
	}
	defer at.Close()
	if err := unix.Faccessat(int(at.Fd()), ".", unix.W_OK, 0); err == unix.EROFS {
		return notServed(v, "copies would be made in %s, which is read-only", at.Name())
	}
	return nil
}

func notServed(v provider.Volume, format string, args ...any) error {
	return vss.Errorf(vss.ErrVolumeNotSupportedByProvider, "precopy", v.Root, format, args...)
}

// BeginPrepare implements [provider.Provider].
func (*Provider) BeginPrepare(ctx context.Context, r provider.Request) (provider.Snapshot, error) {
	if err := serves(r.Ref.Volume, r.Ref.Area); err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(r.Ref.Volume.Root, &fs); err != nil {
		return nil, notServed(r.Ref.Volume, "%w", &os.PathError{Op: "statfs", Path: r.Ref.Volume.Root, Err: err})
	}
	s, err := staging.New(ctx, r, method{
		writeBack: staging.Trusted(int64(fs.Type)) && fs.Type != unix.OVERLAYFS_SUPER_MAGIC})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Locate implements [provider.Provider].
func (*Provider) Locate(ctx context.Context, ref provider.Ref) (provider.Copied, error) {
	return staging.Locate(ctx, ref)
}

// Delete implements [provider.Provider].
func (*Provider) Delete(ctx context.Context, ref provider.Ref) error {
	return staging.Delete(ctx, ref)
}

// method implements [staging.Method].
type method struct {
	// writeBack: the file system writes pages back in the kernel's usual way,
	// so that sync_file_range does that part of fdatasync which matters here.
	writeBack bool
}

func (method) Name() string                  { return "precopy" }
func (method) Unclaimed() bool               { return false }
func (method) Workers() int                  { return 8 } // reading and flushing wait for the disk
func (method) Renew(int64) bool              { return false }
func (method) Examine(*os.File) (int, error) { return 0, nil }

// Flush writes the file's dirty pages back. That also write-protects those
// mapped into memory, so that the next store through the mapping sets the
// file's times. It is what fdatasync does first; what that does besides, a
// flush of the disk's cache, takes half a millisecond for each file even if
// nothing is dirty (ext4), and no copy gains from it. EndPrepare has synced the
// file system before.
func (m method) Flush(src *os.File) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for {
		var err error
		if m.writeBack {
			err = unix.SyncFileRange(int(src.Fd()), 0, 0, all)
		} else {
			err = unix.Fdatasync(int(src.Fd()))
		}
		if err == nil || err == unix.EROFS || err == unix.EINVAL { // nothing to be written back there
			return nil
		}
		if err != unix.EINTR {
			return os.NewSyscallError("flush", err)
		}
	}
}

// Expect implements [staging.Method]: what was changed lately will be changed
// again.
func (method) Expect(t staging.Totals) staging.Expectation {
	if t.Files == 0 { // a copy of directories, as of a volume without claims
		return staging.Expectation{Room: uint64(t.Dirs) * fileRoom}
	}
	files, bytes := t.RecentFiles, t.RecentBytes
	var notes []string
	if t.Suspect {
		files, bytes = t.Files, t.Bytes
		notes = []string{"All claimed files are copied while writes are held, because this file system does not tell every change."}
	}
	return staging.Expectation{
		Hold: time.Duration(t.Files)*perFile + time.Duration(files)*perCopy +
			time.Duration(float64(bytes)/byteRate*float64(time.Second)),
		Room:  t.Data + uint64(t.Files+t.Dirs)*fileRoom + extraRoom,
		Notes: notes,
	}
}

// Copy implements [staging.Method].
func (method) Copy(ctx context.Context, src, dst *os.File, size int64, fresh bool) (uint64, error) {
	c := &copier{ctx: ctx, src: src, dst: dst, size: size}
	switch {
	case fresh:
		return c.whole()
	case size > compareAbove:
		return c.difference()
	}
	if err := dst.Truncate(0); err != nil {
		return 0, err
	}
	return c.whole()
}
