// Package repository keeps backups: content-addressed, compressed, encrypted
// and append-only, on any [store.Store]. docs/format.md describes every byte.
//
// The package knows nothing of writers, components or shadow copies. What a
// requester has to say about a file or a backup it puts into [Entry.Attrs],
// [RecordInfo.Summary] and documents, which are carried and never looked at.
//
// # What is kept
//
// A [Record] is one backup: who, when and where, named documents, and a file
// table. It is the only visible object and the commit point: a record is
// stored after everything it needs is durable, so a backup that was killed or
// lost its power has never existed.
//
// The file table is a sequence of [Entry], sorted by root and path (see
// [ComparePaths]), cut into blocks that unchanged neighbourhoods share with
// earlier records.
//
// An entry's data is a [Content]: an ordered list of extents, each a hole or a
// piece of a chunk. Chunks average 1 MiB, are named by a keyed hash of their
// bytes, and are stored once however often they are used. A change known by
// ranges stores the changed bytes only; the other extents of the new version
// point into the chunks of the old one.
//
// # Writing
//
//	b, err := repo.Begin(ctx, repository.BeginOptions{Base: previous})
//	defer b.Abort()
//	content, err := b.PutFile(ctx, repository.Source{At: file, Size: size})
//	err = b.Add(ctx, repository.Entry{Root: "/", Path: "etc/passwd", Content: content, ...})
//	doc, err := b.PutBytes(ctx, xml)
//	record, err := b.Commit(ctx, repository.RecordInfo{Documents: map[string]repository.Content{"bcd.xml": doc}, ...})
//
// The methods of a [Backup] may be called from several goroutines, and
// several files should be stored at once: reading, cutting and hashing happen
// in the caller's goroutine, compression, encryption and upload behind it,
// with bounded memory. Entries may be added in any order.
//
// Many processes on many machines may write to one repository at once. There
// are no locks.
//
// # Reading
//
//	record, err := repo.Record(ctx, "latest")
//	for entry, err := range record.Table().Under(ctx, "/", "etc") { ... }
//	file, err := repo.OpenContent(ctx, entry.Content)
//	err = file.Each(ctx, func(offset int64, data []byte) error { ... })
//
// Nothing read is believed: every byte returned was authenticated and hashed
// back to the name it was asked for by, every entry's name and place were
// checked, and every length was bounded before memory was set aside for it.
// What does not verify is an error wrapping [ErrDamaged] that names the object.
package repository
