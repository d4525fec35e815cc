// Package area is for providers that keep their copies in a directory of the
// file system: it opens and makes the [provider.Ref] area safely, tells the
// room in it, and removes what is below it.
//
// An area belongs to the caller, has mode 0700 and is never reached through a
// symbolic link in its last element, so that nobody else can read a copy, or
// have one removed or written somewhere else. Each copy is one entry of the
// area, named by its shadow copy id. The package exists on Linux only.
package area
