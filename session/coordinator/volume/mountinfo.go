package volume

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// mount is one line of mountinfo.
type mount struct {
	id, parent   int
	major, minor uint32
	root         string // within the file system
	point        string // where this process sees it
	readOnly     bool   // the mount or its file system
	fsType       string
	source       string
}

// maxMounts bounds the lines; the kernel's own default bound is 100 000.
const maxMounts = 1 << 20

var errMountinfo = errors.New("malformed line in mountinfo")

// parseMountinfo reads /proc/PID/mountinfo (proc(5)).
func parseMountinfo(text string) ([]mount, error) {
	var all []mount
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			continue
		}
		m, err := parseMount(line)
		if err != nil {
			return nil, fmt.Errorf("%w: %.200q", err, line)
		}
		if len(all) == maxMounts {
			return nil, fmt.Errorf("mountinfo has more than %d lines", maxMounts)
		}
		all = append(all, m)
	}
	return all, nil
}

// parseMount reads one line:
//
//	36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/source rw,errors=continue
func parseMount(line string) (mount, error) {
	// Single blanks, as a source may be empty.
	f := strings.Split(line, " ")
	if len(f) < 10 {
		return mount{}, errMountinfo
	}
	rest := f[6:] // optional fields, ended by a hyphen
	for len(rest) > 0 && rest[0] != "-" {
		rest = rest[1:]
	}
	if len(rest) < 4 {
		return mount{}, errMountinfo
	}
	m := mount{
		root: unescape(f[3]), point: unescape(f[4]),
		readOnly: hasOption(f[5], "ro") || hasOption(rest[3], "ro"),
		fsType:   unescape(rest[1]), source: unescape(rest[2]),
	}
	var err error
	if m.id, err = strconv.Atoi(f[0]); err != nil {
		return mount{}, errMountinfo
	}
	if m.parent, err = strconv.Atoi(f[1]); err != nil {
		return mount{}, errMountinfo
	}
	major, minor, _ := strings.Cut(f[2], ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	if err1 != nil || err2 != nil || !strings.HasPrefix(m.point, "/") {
		return mount{}, errMountinfo
	}
	m.major, m.minor = uint32(a), uint32(b)
	return m, nil
}

func hasOption(list, option string) bool {
	for o := range strings.SplitSeq(list, ",") {
		if o == option {
			return true
		}
	}
	return false
}

// unescape undoes the kernel's escapes: blank, tab, line feed, backslash and
// number sign as a backslash and three octal digits.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isBelow reports whether path is top or lies below it; both are absolute and
// clean.
func isBelow(path, top string) bool {
	return path == top || top == "/" || len(path) > len(top) && path[len(top)] == '/' && path[:len(top)] == top
}

// relative is path from top on, "." for top itself.
func relative(path, top string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(path, top), "/")
	if rel == "" {
		return "."
	}
	return rel
}

// joinPath appends a relative name to an absolute path.
func joinPath(top, rel string) string {
	switch {
	case rel == ".":
		return top
	case top == "/":
		return "/" + rel
	}
	return top + "/" + rel
}

func joinName(a, b string) string {
	switch {
	case a == ".":
		return b
	case b == ".":
		return a
	}
	return a + "/" + b
}

// pseudo are file systems that hold no data of anybody's.
var pseudo = map[string]bool{
	"autofs": true, "binder": true, "binfmt_misc": true, "bpf": true, "cgroup": true, "cgroup2": true, "configfs": true,
	"cpuset": true, "debugfs": true, "devpts": true, "devtmpfs": true, "efivarfs": true, "fusectl": true, "hugetlbfs": true,
	"mqueue": true, "nfsd": true, "nsfs": true, "pipefs": true, "proc": true, "pstore": true, "resctrl": true, "rpc_pipefs": true,
	"securityfs": true, "selinuxfs": true, "smackfs": true, "sockfs": true, "sysfs": true, "tracefs": true, "xenfs": true,
}

// remote are file systems for which another machine or process answers, and
// may take its time.
var remote = map[string]bool{
	"9p": true, "acfs": true, "afs": true, "ceph": true, "cifs": true, "coda": true, "fuse": true, "glusterfs": true, "gpfs": true,
	"lustre": true, "ncpfs": true, "nfs": true, "nfs4": true, "orangefs": true, "smb3": true, "smbfs": true, "virtiofs": true,
}

func isRemote(fsType string) bool {
	return remote[fsType] || strings.HasPrefix(fsType, "fuse.")
}
