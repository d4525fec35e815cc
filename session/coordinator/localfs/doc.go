// Package localfs gives the trees and the target of a session over directories
// of this host: [session.Tree] for a volume, live, as its shadow copy shows it,
// or put together from a file-by-file shadow copy and the live volume, and
// [session.FileTarget] for a restore.
//
// # Names
//
// Every name is opened below one directory that was opened before, by openat2
// with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS, and in a
// tree RESOLVE_NO_XDEV as well. Where the kernel has no openat2, it is done one
// element at a time without following links. Whoever may change the directories
// meanwhile can make a name fail, but cannot make it lead elsewhere. Names may
// be longer than PATH_MAX, and hold any byte but zero and the slash.
//
// A regular file is opened by a descriptor that was seen to be one, so that no
// device and no pipe is ever opened.
//
// /proc must be mounted: extended attributes are reached through /proc/self/fd.
//
// The package exists on Linux only.
package localfs
