// Package reflink is the provider for file systems whose files can share
// blocks: XFS made with reflink=1, btrfs, bcachefs and others. It clones the
// files of the scope (FICLONE), which copies no data.
//
// Before anything is frozen it clones them all, and in the hold again those
// changed since: see package staging for the rule. One clone shows one instant
// of its file, but several files are taken one after another, so that programs
// must be still during Commit.
//
// Cloning costs time by the extent: a much fragmented database of some GiB
// takes seconds. Extents are counted beforehand, and the provider says no if
// cloning all of them could outlast the hold. A clone that is made over an
// earlier one costs only what changed on XFS, which passes over extents already
// shared; btrfs drops and makes them all again, so that there a new file takes
// the place of the old one.
//
// It works for any user who can read the files and has an area on their file
// system. The package exists on Linux only.
package reflink
