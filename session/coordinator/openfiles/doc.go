// Package openfiles finds the processes that have files open or mapped into
// memory, by device and inode, so that nothing is restored under a running
// application. The package exists on Linux only.
package openfiles
