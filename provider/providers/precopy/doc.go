// Package precopy is the provider for every local file system that has nothing
// better: it copies the claimed files.
//
// Before anything is frozen it copies them all, flushing each first, and then
// again what changed meanwhile, as long as that gets less. In the hold it
// copies what has changed since: see package staging for the rule. Of a file
// over 64 MiB it then compares blocks, and writes those that differ. It says no
// beforehand if what changes while it copies would take longer than writes may
// be held. Data of no writer is not copied; it is read live.
//
// It works for any user who can read the files, and its copies may lie on
// another file system. The package exists on Linux only.
package precopy
