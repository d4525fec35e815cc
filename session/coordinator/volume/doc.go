// Package volume finds the volumes of a Linux host.
//
// A volume is a file system, and on btrfs a subvolume. Its id never depends on
// where it is mounted, nor on a device number:
//
//	UUID                     a file system
//	UUID/SUBVOLUME-UUID      a subvolume of the btrfs with that UUID
//	UUID:/DIR                a file system of which only the directory DIR, and
//	                         what is below it, can be seen from here
//	UUID/SUBVOLUME-UUID:/DIR the same of a subvolume; DIR counts from the top of
//	                         the file system
//	mount:N                  a file system without a UUID (tmpfs, overlay, NFS),
//	                         by the number of its mount; not persistent
//
// UUIDs are as the file system's own tools print them. The form with a directory
// is for containers and chroots, which are given a directory by a bind mount and
// not the volume's root. The same volume may be mounted at several places, whole
// or in part; a file has one volume and one name all the same, found through the
// root field of mountinfo.
//
// If two file systems mounted at the same time have one UUID (a clone, a block
// level snapshot), the one mounted first has it and the other goes by its mount.
//
// Nothing here opens what is mounted from another machine or served by another
// process, unless it is asked about a path on it.
package volume
