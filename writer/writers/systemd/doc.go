// Package systemd makes a writer of any service of systemd: while a shadow copy is
// made, the unit is stopped, or its processes are frozen, and afterwards it goes on.
//
// It is configured; nothing is discovered. The configuration says which unit, which
// files are its, and how it is held:
//
//   - "stop" is for any application: what ends well leaves its files in a state from
//     which it starts well. The unit is down for as long as it takes to stop, to make
//     the copy and to start.
//   - "freeze" is for an application that bears a power cut. Its processes stand
//     still where they are, by the freezer of the unit's control group, for as long
//     as the copy takes, and know nothing of it; the files are those of that instant.
//
// In both no byte of the files changes, as far as the unit's processes write them,
// and no reads are answered.
//
// A unit that does not run is left as it is; sockets, timers and paths that would
// start it meanwhile are stopped with it, and started again. What is stopped or
// frozen is undone by whoever is left: Thaw, Abort, or Abort in a process that the
// keeper starts when all others have been killed.
package systemd
