// Package quiesce keeps a host's writers frozen beyond the end of the command that
// froze them, for a copy of the disks that a hypervisor or a cloud takes.
//
// [Start] starts a holder, a process of the same program in a session of its own,
// which does [Main]: it freezes ([requester.Freeze]), says so, and stays. It
// listens at a socket in the state directory, where [Thaw] and [Status] reach it.
//
// # Lease
//
// A hold ends by itself. The holder lets go when the lease is over. If it is
// killed, the keeper and the writers' own processes let go at once, and if it
// hangs, when their own clocks say so, which are set to the same time. Then it
// leaves a file in the state directory, so that whoever comes to thaw learns that
// it was too late: what was copied is not application-consistent.
//
// # Frozen file systems
//
// From when the writers are held until they are thawed the holder writes to no
// file, and neither Thaw nor Status does: the file systems may be frozen, and who
// writes to one waits until it is thawed. While it cannot write that the lease was
// over, the holder stays and answers. The socket is made before, and removed
// when nobody is held any more. Reading does not wait, so that nothing needs to be
// locked into memory.
package quiesce
