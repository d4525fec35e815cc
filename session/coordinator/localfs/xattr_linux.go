package localfs

import (
	"bytes"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// xattrSizeMax is the kernel's own bound on one value and on the list of names
// (XATTR_SIZE_MAX, XATTR_LIST_MAX); xattrTotalMax bounds what is kept of one
// object.
const (
	xattrSizeMax  = 64 << 10
	xattrTotalMax = 16 << 20
)

var xattrBuffers = sync.Pool{New: func() any { b := make([]byte, xattrSizeMax); return &b }}

// listXAttrs reads all extended attributes of an object in an open directory;
// nil where there are none. proc is the directory's path under /proc/self/fd.
// A link is not followed.
func listXAttrs(dir int, proc, elem string) (map[string][]byte, error) {
	return readXAttrs(
		func(buf []byte) (int, error) {
			if haveListxattrat() {
				return listxattrat(dir, elem, buf)
			}
			return unix.Llistxattr(proc+"/"+elem, buf)
		},
		func(name string, buf []byte) (int, error) { return unix.Lgetxattr(proc+"/"+elem, name, buf) })
}

// listxattrat (Linux 6.13) halves the cost of the many objects that have no
// attributes.
func listxattrat(dir int, elem string, buf []byte) (int, error) {
	name, err := unix.BytePtrFromString(elem)
	if err != nil {
		return 0, err
	}
	n, _, e := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(name)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// haveListxattrat asks the kernel once.
var haveListxattrat = sync.OnceValue(func() bool {
	_, err := listxattrat(unix.AT_FDCWD, "/", make([]byte, xattrSizeMax))
	return err != unix.ENOSYS && err != unix.EPERM
})

func listXAttrsFD(fd int) (map[string][]byte, error) {
	return readXAttrs(
		func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) },
		func(name string, buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
}

// few is room for the names most objects have, and for most values. The kernel
// takes memory for all the room it is offered, each time: for 64 KiB that costs
// more than all the rest.
const few = 512

func readXAttrs(list func([]byte) (int, error), get func(string, []byte) (int, error)) (map[string][]byte, error) {
	pooled := xattrBuffers.Get().(*[]byte)
	defer xattrBuffers.Put(pooled)
	buf := *pooled
	n, err := list(buf[:few])
	if err == unix.ERANGE {
		n, err = list(buf)
	}
	if err == unix.EOPNOTSUPP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	var names []string
	for name := range bytes.SplitSeq(buf[:n], []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	all := make(map[string][]byte, len(names))
	total := 0
	for _, name := range names {
		n, err := get(name, buf[:few])
		if err == unix.ERANGE {
			n, err = get(name, buf)
		}
		if err == unix.ENODATA || err == unix.EOPNOTSUPP {
			continue // gone meanwhile, or only listed
		}
		if err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", name, err)
		}
		if total += n; total > xattrTotalMax {
			return nil, fmt.Errorf("read extended attributes: more than %d bytes: %w", xattrTotalMax, unix.E2BIG)
		}
		all[name] = bytes.Clone(buf[:n])
	}
	return all, nil
}
