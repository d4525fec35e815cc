package local

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// disk is a model of a file system on a disk, no kinder than the rules: what a
// file holds is durable when the file was synced, and a name, or that it is
// gone, when its folder was. All else may be lost by a loss of power, each
// name and each block of 4 KiB by itself.
//
// It is a files; each of its methods is an operation that the fault table must
// know.
type disk struct {
	// fault is asked before each operation. What it gives is how that fails;
	// nil is not at all.
	fault func(op operation, path string) *fault
	// changed is called after each operation that changed something.
	changed func()
	// These leave out a part of the discipline, for controls.
	forgets map[operation]bool

	mu    sync.Mutex
	root  *node
	now   time.Time
	temps int
	// gaveUp says that the file system became read-only after an error.
	gaveUp bool
}

const block = 4096

// node is a file or folder.
type node struct {
	dir   bool
	mtime time.Time

	// A file's bytes as programs see them, and as they were last synced.
	data, kept []byte

	// A folder's names as programs see them, as they were last synced, and what
	// became of them since.
	names, keptNames map[string]*node
	pending          []change
}

// change is one name added, or removed if the node is nil. A rename is two of
// them with one number.
type change struct {
	number int
	name   string
	node   *node
}

func newFolder() *node {
	return &node{dir: true, names: map[string]*node{}, keptNames: map[string]*node{}}
}

// newDisk is an empty disk with the folders.
func newDisk(folders ...string) *disk {
	d := &disk{root: newFolder(), now: time.Now()}
	for _, folder := range folders {
		at := d.root
		for part := range strings.SplitSeq(strings.Trim(folder, "/"), "/") {
			if at.names[part] == nil {
				at.names[part] = newFolder()
				at.keptNames[part] = at.names[part]
			}
			at = at.names[part]
		}
	}
	return d
}

// copy gives a disk in the same state.
func (d *disk) copy() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.copyLocked()
}

func (d *disk) copyLocked() *disk {
	copies := map[*node]*node{}
	var one func(n *node) *node
	one = func(n *node) *node {
		if n == nil || copies[n] != nil {
			return copies[n]
		}
		c := *n
		copies[n] = &c
		if !n.dir {
			return &c // bytes are never changed in place
		}
		c.names, c.keptNames, c.pending = map[string]*node{}, map[string]*node{}, slices.Clone(n.pending)
		for name, child := range n.names {
			c.names[name] = one(child)
		}
		for name, child := range n.keptNames {
			c.keptNames[name] = one(child)
		}
		for i := range c.pending {
			c.pending[i].node = one(c.pending[i].node)
		}
		return &c
	}
	return &disk{root: one(d.root), now: d.now, temps: d.temps, forgets: d.forgets}
}

// survival decides what of the unsynced a loss of power leaves.
type survival struct {
	name string
	// keeps says whether a change of a name survives.
	keeps func(c change) bool
	// length gives how much of a file survives that was extended from one
	// length to another, and keepsBlock whether a block of the new does.
	length     func(from, to int) int
	keepsBlock func() bool
}

// The ways of a loss of power: the two ends, the zero-length file that
// programs that do not sync are known for, and chance.
func survivals(r *rand.Rand) []survival {
	yes, no := func(change) bool { return true }, func(change) bool { return false }
	least, most := func(from, _ int) int { return from }, func(_, to int) int { return to }
	toss := func() bool { return r.IntN(2) == 0 }
	byNumber := func(half bool) func(change) bool {
		kept := map[int]bool{}
		return func(c change) bool {
			if half { // of a rename, one name may be there and the other not, or both, or none
				return toss()
			}
			if _, ok := kept[c.number]; !ok {
				kept[c.number] = toss()
			}
			return kept[c.number]
		}
	}
	some := func(from, to int) int {
		if to <= from {
			return to
		}
		return min(to, (from+r.IntN(to-from+block))/block*block)
	}
	return []survival{
		{"nothing unsynced survives", no, least, func() bool { return false }},
		{"names survive, bytes do not", yes, least, func() bool { return false }},
		{"names and lengths survive, bytes do not", yes, most, func() bool { return false }},
		{"everything survives", yes, most, func() bool { return true }},
		{"chance", byNumber(false), some, toss},
		{"chance, renames torn", byNumber(true), some, toss},
	}
}

// powerLoss gives the disk as it is after a loss of power.
func (d *disk) powerLoss(s survival) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := map[*node]*node{}
	var one func(n *node) *node
	one = func(n *node) *node {
		if after[n] != nil {
			return after[n]
		}
		c := &node{dir: n.dir, mtime: n.mtime}
		after[n] = c
		if !n.dir {
			c.data = torn(n, s)
			c.kept = c.data
			return c
		}
		names := maps.Clone(n.keptNames)
		for _, p := range n.pending {
			if !s.keeps(p) {
				continue
			}
			if p.node == nil {
				delete(names, p.name)
			} else {
				names[p.name] = p.node
			}
		}
		c.names = map[string]*node{}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			c.names[name] = one(names[name])
		}
		c.keptNames = maps.Clone(c.names)
		return c
	}
	return &disk{root: one(d.root), now: d.now, temps: d.temps + 1000}
}

// torn gives what is left of a file's bytes.
func torn(n *node, s survival) []byte {
	if bytes.Equal(n.data, n.kept) {
		return n.kept
	}
	left := make([]byte, s.length(len(n.kept), len(n.data)))
	copy(left, n.kept)
	for at := 0; at < len(left); at += block {
		if end := min(at+block, len(left), len(n.data)); at < end && s.keepsBlock() {
			copy(left[at:end], n.data[at:end])
		}
	}
	return left
}

// find gives the node of a path, or the system's error.
func (d *disk) find(name string) (*node, error) {
	at := d.root
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		if part == "" {
			continue
		}
		if !at.dir {
			return nil, syscall.ENOTDIR
		}
		if at = at.names[part]; at == nil {
			return nil, syscall.ENOENT
		}
	}
	return at, nil
}

// folder gives the node of the folder that a path is in.
func (d *disk) folder(name string) (*node, error) {
	n, err := d.find(path.Dir(name))
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	return n, err
}

// do does an operation, or what the fault leaves of it. Operations that change
// something give how it is done by halves, if it can be.
func (d *disk) do(op operation, name string, whole func() error, part func(f *fault)) error {
	var f *fault
	if d.fault != nil {
		f = d.fault(op, name)
	}
	d.mu.Lock()
	var err error
	switch {
	case d.gaveUp && op.changes():
		err = syscall.EROFS
	case f == nil:
		err = whole()
	case f.does == doesAll:
		if err = whole(); err == nil {
			err = f.err
		}
	default:
		err = f.err
		if f.does == doesGiveUp {
			d.gaveUp = true
		}
		if part != nil {
			part(f)
		}
	}
	d.mu.Unlock()
	if op.changes() && d.changed != nil {
		d.changed()
	}
	if err != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: err}
	}
	return nil
}

func (d *disk) stat(op operation, name string) (fi fs.FileInfo, err error) {
	err = d.do(op, name, func() error {
		n, err := d.find(name)
		if err == nil {
			fi = infoOf(path.Base(name), n)
		}
		return err
	}, nil)
	return fi, err
}

func (d *disk) Stat(name string) (fs.FileInfo, error)  { return d.stat(opStat, name) }
func (d *disk) Lstat(name string) (fs.FileInfo, error) { return d.stat(opLstat, name) }
func (d *disk) Same(a, b fs.FileInfo) bool             { return a.(info).node == b.(info).node }

func (d *disk) Resolve(name string) (string, error) {
	_, err := d.stat(opResolve, name)
	return name, err
}

func (d *disk) ReadDir(name string) (list []fs.DirEntry, err error) {
	err = d.do(opReadDir, name, func() error {
		n, err := d.find(name)
		if err != nil {
			return err
		}
		if !n.dir {
			return syscall.ENOTDIR
		}
		for _, child := range slices.Sorted(maps.Keys(n.names)) {
			list = append(list, fs.FileInfoToDirEntry(infoOf(child, n.names[child])))
		}
		return nil
	}, nil)
	return list, err
}

func (d *disk) Mkdir(name string) error {
	return d.do(opMkdir, name, func() error {
		in, err := d.folder(name)
		if err != nil {
			return err
		}
		if in.names[path.Base(name)] != nil {
			return syscall.EEXIST
		}
		d.name(in, path.Base(name), newFolder())
		return nil
	}, nil)
}

// name adds or removes a name.
func (d *disk) name(in *node, name string, n *node) {
	d.temps++
	d.nameAs(d.temps, in, name, n)
}

func (d *disk) nameAs(number int, in *node, name string, n *node) {
	if n == nil {
		delete(in.names, name)
	} else {
		in.names[name] = n
	}
	in.pending = append(in.pending, change{number, name, n})
}

func (d *disk) CreateTemp(dir string) (tempFile, error) {
	var f *diskFile
	err := d.do(opCreate, dir, func() error {
		in, err := d.find(dir)
		if err != nil {
			return err
		}
		n := &node{mtime: d.now}
		d.name(in, fmt.Sprint(tempPrefix, d.temps+1), n)
		f = &diskFile{d, n, path.Join(dir, fmt.Sprint(tempPrefix, d.temps))}
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d *disk) Rename(from, to string) error {
	return d.do(opRename, to, func() error {
		in, err := d.folder(to)
		if err != nil {
			return err
		}
		n := in.names[path.Base(from)]
		switch {
		case n == nil || path.Dir(from) != path.Dir(to):
			return syscall.ENOENT
		case in.names[path.Base(to)] != nil:
			return syscall.EEXIST
		}
		d.temps++
		d.nameAs(d.temps, in, path.Base(from), nil)
		d.nameAs(d.temps, in, path.Base(to), n)
		return nil
	}, nil)
}

func (d *disk) Remove(name string) error {
	return d.do(opRemove, name, func() error {
		in, err := d.folder(name)
		if err == nil && in.names[path.Base(name)] == nil {
			err = syscall.ENOENT
		}
		if err == nil {
			d.name(in, path.Base(name), nil)
		}
		return err
	}, nil)
}

// keepNames makes a folder's names durable.
func (n *node) keepNames() { n.keptNames, n.pending = maps.Clone(n.names), nil }

func (d *disk) SyncDir(name string) error {
	return d.do(opSyncDir, name, func() error {
		n, err := d.find(name)
		if err == nil && !d.forgets[opSyncDir] {
			n.keepNames()
		}
		return err
	}, nil)
}

func (d *disk) SyncAbove(name string) error {
	return d.do(opSyncAbove, name, func() error {
		for name != "/" {
			n, err := d.folder(name)
			if err != nil {
				return err
			}
			if !d.forgets[opSyncAbove] {
				n.keepNames()
			}
			name = path.Dir(name)
		}
		return nil
	}, nil)
}

func (d *disk) Open(name string) (readFile, error) {
	var f *diskFile
	err := d.do(opOpen, name, func() error {
		n, err := d.find(name)
		f = &diskFile{d, n, name}
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return readDiskFile{f}, nil
}

// diskFile is a file that is being written.
type diskFile struct {
	d    *disk
	n    *node
	name string
}

func (f *diskFile) Name() string { return f.name }

func (f *diskFile) Write(p []byte) (written int, err error) {
	extend := func(n int) {
		f.n.data = append(slices.Clip(f.n.data), p[:n]...)
		f.n.mtime = f.d.now
		written = n
	}
	err = f.d.do(opWrite, f.name, func() error { extend(len(p)); return nil }, func(fault *fault) {
		extend(fault.blocks(len(p)))
		if fault.err == nil {
			written = len(p) // and says nothing of it
		}
	})
	return written, err
}

func (f *diskFile) Stat() (fi fs.FileInfo, err error) { return f.stat(opStatTemp) }

func (f *diskFile) stat(op operation) (fi fs.FileInfo, err error) {
	err = f.d.do(op, f.name, func() error { fi = infoOf(path.Base(f.name), f.n); return nil }, nil)
	return fi, err
}

func (f *diskFile) Sync() error {
	return f.d.do(opSyncFile, f.name, func() error {
		if !f.d.forgets[opSyncFile] {
			f.n.kept = f.n.data
		}
		return nil
	}, func(fault *fault) {
		if fault.does == doesDrop { // what could not be written is not tried again
			left := fault.blocks(len(f.n.data))
			f.n.data = append(slices.Clone(f.n.data[:left]), make([]byte, len(f.n.data)-left)...)
		}
	})
}

func (f *diskFile) Close() error {
	return f.d.do(opCloseTemp, f.name, func() error { return nil }, nil)
}

// readDiskFile is one that is being read.
type readDiskFile struct{ f *diskFile }

func (r readDiskFile) Stat() (fs.FileInfo, error) { return r.f.stat(opStatOpen) }

func (r readDiskFile) Close() error {
	return r.f.d.do(opClose, r.f.name, func() error { return nil }, nil)
}

func (r readDiskFile) ReadAt(p []byte, offset int64) (n int, err error) {
	read := func(limit int) {
		if offset < int64(len(r.f.n.data)) {
			n = copy(p[:limit], r.f.n.data[offset:])
		}
	}
	err = r.f.d.do(opRead, r.f.name, func() error { read(len(p)); return nil }, func(fault *fault) { read(fault.blocks(len(p))) })
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// info is a fs.FileInfo.
type info struct {
	name string
	node *node
	size int64
	time time.Time
}

func infoOf(name string, n *node) info { return info{name, n, int64(len(n.data)), n.mtime} }

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return i.time }
func (i info) IsDir() bool        { return i.node.dir }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.node.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
