package btrfs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mayDelete tells why this process could not delete a snapshot of the
// subvolume whose root is fd, or nil if it could. Making one is allowed to
// more users than deleting it.
func mayDelete(fd int) error {
	if privileged() {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("the subvolume belongs to user %d; without root only its owner can make shadow copies of it", st.Uid)
	}
	options, err := mountOptions(fd)
	if err != nil {
		return err
	}
	if !slices.Contains(options, "user_subvol_rm_allowed") {
		return errors.New("users other than root could not delete the snapshot: mount the file system with the option user_subvol_rm_allowed, or run as root")
	}
	return nil
}

// privileged reports whether the process has CAP_SYS_ADMIN where it counts: in
// the first user namespace.
func privileged() bool {
	const initialUserNamespace = "user:[4026531837]" // PROC_USER_INIT_INO
	if ns, err := os.Readlink("/proc/self/ns/user"); err != nil || ns != initialUserNamespace {
		return false
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, found := strings.Cut(string(status), "\nCapEff:\t")
	line, _, _ := strings.Cut(rest, "\n")
	caps, err := strconv.ParseUint(line, 16, 64)
	return found && err == nil && caps&(1<<unix.CAP_SYS_ADMIN) != 0
}

// mountOptions are the file system's options at the mount fd was opened
// through.
func mountOptions(fd int) ([]string, error) {
	var stx unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &stx); err != nil {
		return nil, os.NewSyscallError("statx", err)
	}
	if stx.Mask&unix.STATX_MNT_ID == 0 {
		return nil, errors.New("the kernel does not tell through which mount a directory is reached (Linux 5.8 does)")
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return uint64(m.ID) != stx.Mnt_id, uint64(m.ID) == stx.Mnt_id
	})
	if err != nil {
		return nil, err
	}
	if len(mounts) == 0 {
		return nil, fmt.Errorf("mount %d is not in /proc/self/mountinfo", stx.Mnt_id)
	}
	return strings.Split(mounts[0].VFSOptions, ","), nil
}
