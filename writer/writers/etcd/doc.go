// Package etcd makes a writer of an etcd server: one member, whose data is a
// directory with a database and a write-ahead log.
//
// Nothing has to be held: etcd acknowledges a change when its log is on disk, and
// starts from whatever one atomic copy of its files has. So Freeze holds nothing
// ([writer.NothingHeld]); it names the server's process, which the service stops for
// the copy where that is not one atomic operation.
//
// A server is found by its process: by the database that it has open, so that it
// makes no difference whether its directory was named by an argument, the
// environment or a file. The data of one that does not run can be configured; its
// files are still by nature, and a server that is started meanwhile is noticed.
//
// A restore stops the server, moves the present data aside, and starts the server
// again with what was restored, by its unit or else as it was started before. What
// was aside is removed when that has answered.
//
// The data of one member of a cluster of several must not be put back into that
// cluster: the others have gone on, and what this member once promised to keep is
// no longer there. So that is refused, unless the restore is to make a new cluster
// of one member of it (restore option cluster=new).
package etcd
