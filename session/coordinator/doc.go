// Package coordinator is the shadow copy service for hosts that have none: it
// implements [session.Session] by driving writers and providers itself.
//
// There is no daemon. A session lives in the process of its requester, and
// beside it run, each by re-executing the same program, one keeper, which lets
// go of everything if this process dies (package hold), and writer hosts, in
// which built-in writers run with the rights of their data's owner (package
// host). Writers of other programs listen on sockets of their own.
//
// What a set of shadow copies needs to be undone is in the journal before it is
// made, so that whatever a crash of everything leaves behind is removed at the
// next start.
//
// # One instant
//
// DoSnapshotSet freezes all writers, then commits all volumes, then thaws. A
// writer declares what its Freeze gives; where that is only that commits are
// held, and its files are not all taken by one operation of a provider, its
// processes are stopped as well, or, if it cannot name them, it is refused
// before anything is frozen.
//
// # Time
//
// No call is trusted to return. Limits are kept outside the calls they limit: a
// writer that passes its own is out of the set, a provider that does makes the
// set fail; the stuck call is left behind, and what it makes is deleted when it
// returns or at the next start.
package coordinator
