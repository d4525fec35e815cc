// Package redis is the writer for Redis servers.
//
// There is one writer for each server. Its component is of type database and
// holds what the server loads when it starts: the append-only file with its
// manifest, or, if the server keeps none, the RDB file.
//
// # Freeze
//
// Freeze has the server postpone writes (CLIENT PAUSE ... WRITE) and answers
// when what it has acknowledged is in its files: the buffer of the append-only
// file is empty, which it need not be under "everysec", where the server puts off
// writing while a flush is under way; or, without an append-only file, a
// background save made during the pause has ended. From then on no byte of the
// files changes, which the writer declares as [writer.FilesStill]. Reads are
// answered all the time, writes wait, none fails.
//
// The pause is taken for a second and a half and renewed, so that it ends by
// itself soon after whatever happens to the writer. Since it is asked for in one
// transaction with a command that the server counts as a write, it is never taken
// while somebody else's pause is in force, and one that somebody takes meanwhile
// is not undone.
//
// Before it lets go, Thaw asks the server whether anything was written or saved in
// between. If so, the shadow copy cannot be trusted and Thaw says so.
//
// # Restore
//
// PreRestore stops the server and PostRestore starts it, by its unit or by its
// program and configuration file, unless more restores follow.
package redis

import "github.com/sombra-backup/sombra/vss"

// KindName is the kind's name in the configuration.
const KindName = "redis"

// writerName is the writer's name in its metadata document.
const writerName = "Redis"

// classID is the writer class, fixed for ever.
var classID = vss.MustParseGUID("5d0b7c1e-93a4-4f6b-8a55-0c2e1f7ab9d3")
