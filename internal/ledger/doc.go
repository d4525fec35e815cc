// Package ledger proves that backups show one instant. Clients commit numbers to
// several stores in turn, databases and files, each number to the next store only
// after the one before has acknowledged it; what a backup of all of them holds can
// then be judged without knowing when it was made:
//
//   - for each client the numbers found are non-increasing in its order of the
//     stores, since nothing is in a store that was not in the one before;
//   - they differ by at most one, since no client begins a number before the last
//     store has the previous one;
//   - no store lacks a number below its highest.
//
// With the clients' history of when each commit was begun and acknowledged it can
// also be told whether a store holds what it must at a time.
//
// The package is for tests and benchmarks. It returns errors, knows no
// testing.TB, and nothing of the product imports it. A client must not run in a
// process that reads backed up files: where SQLite is among the stores, closing
// any of its files there would drop the client's locks.
package ledger
