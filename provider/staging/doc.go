// Package staging is the part that providers have in common which copy file by
// file: it finds the files of a scope without ever being led out of the volume,
// takes passes over them until little is left to do, copies inside the hold
// what changed since, keeps the originals' attributes, and removes it all
// again. How one file is copied, and what that costs, is a [Method].
//
// # Layout
//
// One copy is the directory <area>/<shadow copy id>, mode 0700:
//
//	tree/      the files, at their paths from the volume's root
//	manifest   provider.Manifest of everything in tree; written last, so a
//	           copy without it was never finished
//	aside/     what had to make way in the hold; removed in PostCommit
//
// In tree a file has the original's content, size, mode, owner, extended
// attributes and times of access and modification as far as the caller may set
// them: for users other than root the owner is the caller, and what he could
// not read back has the owner's bits added. The manifest has the attributes as
// they were, and inode, links and time of change, which no copy can have.
// Each name of a hard-linked file is a copy of its own. Directories on the way
// to a file set, and all in it, are there too, also empty ones. Another volume's
// root is an empty directory. Device nodes, pipes and sockets are made anew
// where the caller may; they are never opened.
//
// # When a file is copied again
//
// A file counts as unchanged since it was last copied only if size, inode, and
// times of modification and change are what they were, and its time of change
// lies at least two ticks of the file system's clock before that copy began,
// which is when it was first flushed. The flush write-protects pages mapped
// into memory, so that a later store through the mapping faults and sets the
// times. On file systems not known to do that every file counts as changed
// ([Trusted]).
//
// The package exists on Linux only.
package staging
