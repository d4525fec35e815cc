// Package btrfs is the provider that takes read-only snapshots of btrfs
// subvolumes.
//
// A volume is one subvolume; those nested in it are volumes of their own and
// are empty directories in its snapshot. The snapshot is one operation of the
// file system, takes milliseconds however many files there are, and shows
// everything that was durable when it began. What programs had only buffered
// may be missing from it, and then without order: such programs must be still
// during Commit.
//
// It works for root, and for other users where they own the subvolume and the
// file system is mounted with user_subvol_rm_allowed, as nobody should be able
// to make what he cannot delete. [Subvolumes] and [SubvolumeUUID] find nested
// subvolumes and name them for whoever resolves paths to volumes.
//
// The package exists on Linux only.
package btrfs
