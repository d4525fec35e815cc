package voltest

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Subvolume makes a btrfs subvolume at path, whose parent must be there.
func Subvolume(t testing.TB, path string) {
	t.Helper()
	// struct btrfs_ioctl_vol_args_v2 and BTRFS_IOC_SUBVOL_CREATE_V2.
	var args struct {
		fd      int64
		transid uint64
		flags   uint64
		unused  [4]uint64
		name    [4040]byte
	}
	const subvolCreateV2 = 0x50009418
	copy(args.name[:len(args.name)-1], filepath.Base(path))
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	_, _, e := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), subvolCreateV2, uintptr(unsafe.Pointer(&args)))
	runtime.KeepAlive(&args)
	if e != 0 {
		t.Fatalf("make subvolume %s: %v", path, e)
	}
}
