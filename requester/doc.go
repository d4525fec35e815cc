// Package requester decides what a backup or a restore is made of, and drives
// one: it drives a session of the shadow copy service and fills, or reads, a
// repository.
//
// # Decisions
//
// What is decided is decided by pure functions of the writers' documents, of
// views of file trees and of the user's wishes: [NewWriter] reads a document
// into the tree of components, [Selectors.Match] finds what the user named,
// [Select] applies the selection rules (R-SEL), and a [Claims] tells for any
// file who claims it. No clock and no input is hidden in them.
//
// # A backup
//
// [Backup] goes the one way of the data: the writers' documents come back,
// components are selected, the shadow copies are estimated ([MakePlan] stops
// there), prepared and taken; the file list is made from the shadow copies;
// the bytes stream into the repository; outcomes are told to the writers'
// document; documents and file table are committed as one record; and only
// then BackupComplete is sent, because writers truncate logs in it. If the
// commit fails it is never sent. Its outcome is appended to the record as a
// note.
//
// The package opens no path of the host itself: everything is read through
// [session.Tree] and written through [session.Target].
//
// # The file table
//
// A record has one root, "/". An entry's path is the absolute path of the file
// on its host without what stands before the first name, with slashes between
// names: "srv/app/data.db", on Windows "C/ProgramData/app/data.db". It is made
// from the volume's root and the name below it, so that a file reachable by two
// mounts has one entry. What the requester knows of an entry is in its Attrs;
// see the Attr constants.
//
// # A restore
//
// [Restore] puts files back where they were, with the writers taking part;
// [Extract] copies files into a directory of the user's choice, without them.
// Nothing that comes from the medium is believed: names are checked before
// they are used, bytes that do not verify are never written.
package requester
