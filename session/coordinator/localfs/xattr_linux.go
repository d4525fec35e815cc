package localfs

import (
	"bytes"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// The kernel's own bounds: XATTR_LIST_MAX and XATTR_SIZE_MAX. Some file systems
// give longer lists; those are read up to the second bound.
const (
	xattrSizeMax = 64 << 10
	xattrListMax = 1 << 20
)

var xattrBuffers = sync.Pool{New: func() any { b := make([]byte, xattrSizeMax); return &b }}

// listXAttrs reads all extended attributes of the object at path, whose last
// element is not followed; nil where there are none.
func listXAttrs(path string) (map[string][]byte, error) {
	return readXAttrs(
		func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) },
		func(name string, buf []byte) (int, error) { return unix.Lgetxattr(path, name, buf) })
}

func listXAttrsFD(fd int) (map[string][]byte, error) {
	return readXAttrs(
		func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) },
		func(name string, buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
}

func readXAttrs(list func([]byte) (int, error), get func(string, []byte) (int, error)) (map[string][]byte, error) {
	pooled := xattrBuffers.Get().(*[]byte)
	defer xattrBuffers.Put(pooled)
	buf := *pooled
	n, err := list(buf)
	if err == unix.ERANGE {
		buf = make([]byte, xattrListMax)
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
	for _, name := range names {
		n, err := get(name, buf)
		if err == unix.ENODATA || err == unix.EOPNOTSUPP {
			continue // gone meanwhile, or only listed
		}
		if err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", name, err)
		}
		all[name] = bytes.Clone(buf[:n])
	}
	return all, nil
}
