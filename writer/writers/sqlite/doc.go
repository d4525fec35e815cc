// Package sqlite is the writer for SQLite databases.
//
// There is one writer for each database. Its component is of type database and
// holds the database file and, where they exist, its write-ahead log (-wal) and
// rollback journal (-journal). The index of the write-ahead log (-shm) is always
// excluded: SQLite makes it anew.
//
// # Freeze
//
// Freeze takes the locks SQLite itself uses, through SQLite, as any client that
// is about to write would: BEGIN IMMEDIATE. While it is held no other process
// can begin to write; readers are not hindered. In write-ahead log mode that
// lock does not stop a checkpoint, which writes to the database file, so the
// checkpoint lock is taken too. With both held no byte of the component's files
// changes, which the writer declares as [writer.FilesStill], after asking the
// kernel whether the locks are really there.
//
// SQLite's own way to wait for a lock starves beside a busy application, as it
// sleeps for up to 100 ms between attempts; the application's pause between two
// transactions is some 20 µs. So the writer looks every few dozen µs, until it
// has the lock or its time is up.
//
// # The rule of the process
//
// The locks are POSIX record locks. They belong to process and file, and any
// close of any descriptor of the file drops them. So a process that runs this
// writer must open no database file in any other way, and the package keeps a
// list of the files it has open, in which the same file under another name (a
// hard link) is found. They also end with the process, however it ends, and that
// is why a killed writer holds nobody.
//
// # Restore
//
// A write-ahead log left beside a database that was put back destroys it. So
// PreRestore moves -wal, -shm and -journal aside, after making sure that nobody
// has the database open, and PostRestore puts them back if nothing was restored,
// or removes them once the restored database has passed SQLite's integrity
// check.
package sqlite

import "github.com/sombra-backup/sombra/vss"

// KindName is the kind's name in the configuration.
const KindName = "sqlite"

// writerName is the writer's name in its metadata document.
const writerName = "SQLite"

// classID is the writer class, fixed for ever.
var classID = vss.MustParseGUID("b1c5b0c4-6a0e-4f0c-9d5b-3a5e2f7c8d41")
