// Package mariadb is the writer for MariaDB servers.
//
// There is one writer for each data directory. Its component is of type database
// and holds all that the server keeps: the data directory and the directories of
// its databases, and, where the server was told to have them elsewhere, redo and
// undo logs, tablespaces and binary logs. They are the files of one instant, from
// which the server comes up as after a power cut: with all that was acknowledged
// before that instant and nothing that came after it.
//
// # Freeze
//
// The writer takes the server's own backup lock, BACKUP STAGE, in one connection,
// and holds it there: when the connection ends, for whatever reason, the server
// lets go by itself. PrepareForSnapshot takes it as far as FLUSH, which delays
// nobody; Freeze takes BLOCK_DDL and BLOCK_COMMIT. Then no commit is acknowledged
// and no table without transactions is written to, while reads are answered. The
// server's own threads go on writing pages, so the writer declares
// [writer.CommitsHeld] and names the server's process.
//
// A server that does not run is held by the locks that it would take itself at its
// start, and its files are still ([writer.FilesStill]).
//
// # Logs
//
// A log backup begins a new binary log and saves those before it, back to where
// the backup it builds upon left off. They are linked into a directory of the
// writer's own and read from there, live: nobody is frozen. In BackupComplete the
// server is told to purge what is in the record, if the backup's type allows it.
//
// # Restore
//
// PreRestore stops the server and moves what is in its directories aside.
// PostRestore, of a chain's last operation, replays binary logs as far as it is
// asked to, in a server of its own that nobody else can reach, and starts the
// server as it was started before.
package mariadb

import "github.com/sombra-backup/sombra/vss"

// KindName is the kind's name in the configuration.
const KindName = "mariadb"

// writerName is the writer's name in its metadata document.
const writerName = "MariaDB"

// classID is the writer class, fixed for ever.
var classID = vss.MustParseGUID("6f1d7c52-1b6e-4a56-9d0e-6c2d0b1e7a94")
