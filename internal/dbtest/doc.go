// Package dbtest starts real database servers in given directories, for tests
// and benchmarks. Each server is an instance of its own that listens on a unix
// socket or loopback only, syncs its commits to disk, and is small in memory.
// Servers that already run on the machine are not touched.
//
// A server runs as its database's usual user if the program is root, else as the
// user itself, and ends with the program that started it.
//
// Nothing here is part of the product: only tests and bench import it.
package dbtest
