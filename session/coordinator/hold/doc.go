// Package hold keeps processes still while shadow copies are made, and sees to
// it that they go on, whatever happens to us.
//
// # The keeper
//
// Nothing here is done in the process that asks for it. [StartKeeper] starts a
// keeper, a process of the same program in a session of its own (as root also
// in a control group of its own), and a [Keeper] is the connection to it. It has
// two jobs:
//
//   - It stops processes ([Keeper.Stop]) and lets them go on ([Keeper.Resume]).
//     Every stop is on lease: past its time the keeper lets go by itself, also
//     if the process that asked hangs.
//   - It has duties ([Keeper.Assign]): what must be done if the process that
//     assigned them dies. At the end of the connection without [Keeper.Close]
//     it first lets all processes go on and then does its duties, the latest
//     first.
//
// If the keeper dies, the other side of the connection lets go instead.
//
// # How processes are stopped
//
//   - With ptrace (PTRACE_SEIZE, PTRACE_INTERRUPT), if at all possible: it takes
//     milliseconds, neither the processes nor their parents notice, and the
//     kernel lets them go on if the keeper dies.
//   - With the freezer of control groups version 2, for more than 200 tasks, and
//     only if there is a group that holds these processes and no others.
//   - With SIGSTOP, for processes that may not be traced, or are traced already.
//
// The last two outlive the keeper. What has to be undone is therefore known to
// the other side, and through [Options].Journal on disk, before it is done; if
// both die, [Recover] does it at the next start.
//
// A process is stopped with all its threads and with all its descendants,
// whether they were named or not: what it forked after it was named could write
// the files as well. Not found is a descendant whose parent ended before it
// could be stopped. A process that is both traced by others and stopped by a
// signal already goes on after Resume: nothing tells it from one that is traced
// only. System calls that a stop signal interrupts (epoll_wait and a few others,
// see signal(7)) may return EINTR. What the keeper's own side needs is never stopped: the two
// processes themselves, and others started through package child. Process 1
// and kernel threads are refused.
//
// Stopped means seen stopped: no task runs code of its own. Input and output
// that was handed to the device before may still end, and direct writes may
// then reach a file a little later; FICLONE and snapshots wait for those.
package hold
