// Package mountfs shows the records of a repository as a file system, for
// reading, through FUSE. It exists on Linux.
//
//	/hosts/HOST/TIME   each record, by host and time (UTC)
//	/tags/TAG/TIME     the same by tag
//	/ids/ID            the same by the first digits of its id
//	/latest            a link to the newest, as /hosts/HOST/latest
//
// Below each is what the record has, with owners, modes, times, extended
// attributes, links, devices and holes as they were. A record with several roots
// has a directory for each. Records that come are there after a few seconds;
// those that go are no longer listed.
//
// # How it is made
//
// The file system keeps no state for a file that the kernel knows: a node's
// number says which record it is in and which entry of its file table it is, so
// that looking at millions of files takes no memory that would not be given
// back, and numbers stay the same as long as the mount lasts. What is decoded is
// kept in caches of fixed size.
//
// The medium is hostile: names and entries have been checked by the repository;
// names of hosts and tags are escaped; a read that touches data which does not
// verify fails as a whole with EIO and is logged with the object at fault, for a
// short answer would pass for the end of the file.
package mountfs
