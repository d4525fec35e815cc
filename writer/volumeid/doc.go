// Package volumeid names volumes by what survives a restart, for the instance
// names of built-in writers: a real path alone could name other data after a disk
// was exchanged.
package volumeid
