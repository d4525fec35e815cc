// Package model is the rules of backups and restores a second time, as plainly as
// they can be said: maps of names to contents, and loops over all of them. It is
// written from the rules alone and apart from package requester, whose tests
// compare what a backup holds, and what a restore leaves, with what the model says.
// Only the words of the model (enumerations) are shared.
//
// A tree maps absolute paths, with slashes, to files. Nothing here is quick, and
// nothing is safe for concurrent use.
package model
