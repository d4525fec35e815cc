package local

import (
	"syscall"
)

// operation is one thing the store asks of a file system.
type operation string

const (
	opStat      operation = "stat"
	opLstat     operation = "lstat"
	opResolve   operation = "resolve links"
	opReadDir   operation = "read folder"
	opOpen      operation = "open"
	opStatOpen  operation = "stat open file"
	opRead      operation = "read"
	opClose     operation = "close after reading"
	opMkdir     operation = "make folder"
	opCreate    operation = "create file"
	opWrite     operation = "write"
	opStatTemp  operation = "stat written file"
	opSyncFile  operation = "sync file"
	opCloseTemp operation = "close after writing"
	opRename    operation = "rename"
	opRemove    operation = "remove"
	opSyncDir   operation = "sync folder"
	opSyncAbove operation = "sync folders above"
)

// changes says whether the operation changes what programs see, or what is
// durable.
func (op operation) changes() bool {
	switch op {
	case opMkdir, opCreate, opWrite, opSyncFile, opRename, opRemove, opSyncDir, opSyncAbove:
		return true
	}
	return false
}

// effect is what an operation that fails does all the same.
type effect int

const (
	// doesNothing: it is as if it had not been asked for.
	doesNothing effect = iota
	// doesAll: it is done, and reported to have failed.
	doesAll
	// doesOneBlock, doesAllButOne: that many blocks of it.
	doesOneBlock
	doesAllButOne
	// doesDrop: a sync loses what it could not write, but for one block, and
	// the next one says that all is well.
	doesDrop
	// doesGiveUp: the file system changes nothing any more from now on.
	doesGiveUp
	// doesDie: the process is killed, before the operation.
	doesDie
)

// fault is one way in which one operation fails.
type fault struct {
	name string
	op   operation
	// err is what is reported; nil is a fault that is not.
	err  error
	does effect
}

// blocks gives how many of n bytes are read or written.
func (f *fault) blocks(n int) int {
	switch f.does {
	case doesOneBlock, doesDrop:
		return min(block, n)
	case doesAllButOne:
		return max(n-1, 0) / block * block
	}
	return 0
}

// faults is every way in which every operation fails. A fault that a test does
// not bring about fails the test, and so does an operation that has none.
var faults = []fault{
	{"stat: input/output error", opStat, syscall.EIO, doesNothing},
	{"lstat: input/output error", opLstat, syscall.EIO, doesNothing},
	{"lstat: stale file handle", opLstat, syscall.ESTALE, doesNothing},
	{"resolve links: input/output error", opResolve, syscall.EIO, doesNothing},
	{"read folder: input/output error", opReadDir, syscall.EIO, doesNothing},
	{"read folder: too many open files", opReadDir, syscall.EMFILE, doesNothing},
	{"open: input/output error", opOpen, syscall.EIO, doesNothing},
	{"open: too many open files", opOpen, syscall.EMFILE, doesNothing},
	{"open: permission denied", opOpen, syscall.EACCES, doesNothing},
	{"stat open file: input/output error", opStatOpen, syscall.EIO, doesNothing},
	{"read: input/output error", opRead, syscall.EIO, doesNothing},
	{"read: input/output error after a block", opRead, syscall.EIO, doesOneBlock},
	{"read: the file ends", opRead, nil, doesNothing},
	{"read: the file ends after a block", opRead, nil, doesOneBlock},
	{"close after reading: input/output error", opClose, syscall.EIO, doesAll},

	{"make folder: no space", opMkdir, syscall.ENOSPC, doesNothing},
	{"make folder: permission denied", opMkdir, syscall.EACCES, doesNothing},
	{"make folder: done, input/output error", opMkdir, syscall.EIO, doesAll},
	{"create file: no space", opCreate, syscall.ENOSPC, doesNothing},
	{"create file: too many open files", opCreate, syscall.EMFILE, doesNothing},
	{"create file: done, input/output error", opCreate, syscall.EIO, doesAll},
	{"write: no space", opWrite, syscall.ENOSPC, doesNothing},
	{"write: no space after a block", opWrite, syscall.ENOSPC, doesOneBlock},
	{"write: no space before the last block", opWrite, syscall.ENOSPC, doesAllButOne},
	{"write: quota exceeded", opWrite, syscall.EDQUOT, doesOneBlock},
	{"write: input/output error", opWrite, syscall.EIO, doesNothing},
	{"write: done, input/output error", opWrite, syscall.EIO, doesAll},
	{"write: interrupted after a block", opWrite, syscall.EINTR, doesOneBlock},
	{"write: short, not said", opWrite, nil, doesOneBlock},
	{"write: short by the last block, not said", opWrite, nil, doesAllButOne},
	{"stat written file: input/output error", opStatTemp, syscall.EIO, doesNothing},
	{"sync file: input/output error", opSyncFile, syscall.EIO, doesNothing},
	{"sync file: input/output error, bytes dropped", opSyncFile, syscall.EIO, doesDrop},
	{"sync file: no space", opSyncFile, syscall.ENOSPC, doesNothing},
	{"sync file: done, interrupted", opSyncFile, syscall.EINTR, doesAll},
	{"sync file: the file system gives up", opSyncFile, syscall.EIO, doesGiveUp},
	{"close after writing: input/output error", opCloseTemp, syscall.EIO, doesAll},
	{"rename: input/output error", opRename, syscall.EIO, doesNothing},
	{"rename: no space", opRename, syscall.ENOSPC, doesNothing},
	{"rename: done, input/output error", opRename, syscall.EIO, doesAll},
	{"rename: done, said to exist", opRename, syscall.EEXIST, doesAll},
	{"rename: done, said to be gone", opRename, syscall.ENOENT, doesAll},
	{"rename: the file system gives up", opRename, syscall.EIO, doesGiveUp},
	{"remove: input/output error", opRemove, syscall.EIO, doesNothing},
	{"remove: not permitted", opRemove, syscall.EPERM, doesNothing},
	{"remove: done, input/output error", opRemove, syscall.EIO, doesAll},
	{"sync folder: input/output error", opSyncDir, syscall.EIO, doesNothing},
	{"sync folder: no space", opSyncDir, syscall.ENOSPC, doesNothing},
	{"sync folder: done, input/output error", opSyncDir, syscall.EIO, doesAll},
	{"sync folder: the file system gives up", opSyncDir, syscall.EIO, doesGiveUp},
	{"sync folders above: input/output error", opSyncAbove, syscall.EIO, doesNothing},
	{"sync folders above: done, input/output error", opSyncAbove, syscall.EIO, doesAll},
	{"sync folders above: the file system gives up", opSyncAbove, syscall.EIO, doesGiveUp},
}

// operations lists those of the fault table.
func operations() map[operation]bool {
	all := map[operation]bool{}
	for _, f := range faults {
		all[f.op] = true
	}
	return all
}
