// Package extents tells what differs between two files of one file system from
// where their data lies, without reading them.
//
// It is for providers whose copies share unchanged blocks with each other: what
// two files of one file system have at the same place of the disk, at the same
// time, is the same. That conclusion holds only while both files are there and
// neither is written to, which is for the caller to see to; [Compare] looks at
// the first file's map again after it has read the second's, so that a file
// whose blocks are moved or given back meanwhile is no ground for an answer.
//
// Bytes are told to differ although they may not: where data was rewritten with
// the same content, where it was moved (defragmented), and where it lies in the
// file system's own records instead of a block (inline). They are never told to
// be the same without ground: data that has no place yet (delayed allocation),
// that is not plainly what lies at its place (encrypted, or compressed where the
// place inside the compressed block cannot be had), flags that this program does
// not know, and file systems other than btrfs and XFS give
// VSS_E_NOT_SUPPORTED. Unwritten (preallocated) blocks and holes are zeros, and
// are the same as each other.
//
// On btrfs the records of the extents themselves are read, which only root may;
// for others, and on XFS, it is FIEMAP. The comparison is in this package for
// all systems; reading maps is for Linux only.
package extents
