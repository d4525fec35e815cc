// Package postgres is the writer for PostgreSQL clusters.
//
// There is one writer for each cluster. Its component is named by the data
// directory; the instance by the cluster's system identifier, which survives
// restarts, moves and restores. The component is of type database: the files at
// the top of the data directory are its database files, the write-ahead log its
// database log files. File sets of databases have no recursion, and a database
// made between Identify and the copy must be in it, so the directories below are
// file groups of their own, members of the component's set that cannot be chosen
// alone: "data", and one for each tablespace.
//
// # Freeze
//
// PostgreSQL cannot hold commits, and need not: what is durable at one instant
// is a state from which its crash recovery brings back all that was
// acknowledged. So the writer declares [writer.NothingHeld] and names the
// postmaster and all its children, which the service stops where the copy is not
// one operation on one volume. Before Freeze it has the server make a checkpoint
// (pg_backup_start), so that recovery is short; in Freeze it makes what was
// acknowledged with synchronous_commit off durable, and fetches the position.
// Nothing is asked of the server while it may be stopped.
//
// The label that pg_backup_stop gives is kept in the backup's metadata and not
// used in a restore: with it, recovery would have to go past the instant of the
// copy, to the end of the backup, whose log is not in it.
//
// A cluster whose server does not run has nothing to freeze; that it was not
// started meanwhile is checked.
//
// # Logs
//
// With "logs" configured, a replication slot keeps the write-ahead log since the
// last backup. A log backup switches to a new segment and saves the complete ones,
// from a directory in which it links them; the slot goes forward in
// BackupComplete, for a component that succeeded.
//
// # Restore
//
// PreRestore stops the server and moves the old cluster's directories aside, so
// that nothing of it mixes with what is restored. PostRestore, when no more
// restores follow, has a server of its own, which nobody can reach, recover the
// cluster to the point asked for on a new timeline, and then starts the cluster
// as it ran before.
package postgres

import "github.com/sombra-backup/sombra/vss"

// KindName is the kind's name in the configuration.
const KindName = "postgres"

// writerName is the writer's name in its metadata document.
const writerName = "PostgreSQL"

// tested is the major version that the tests run, and the only one that is
// served: the layout of the control file and the names of the directories in
// tablespaces are its own.
const tested = "15"

// classID is the writer class, fixed for ever.
var classID = vss.MustParseGUID("7d1e5a0b-3c62-4f0e-9b57-2f4c8a6e1d93")
