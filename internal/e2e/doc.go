// Package e2e holds the tests that need everything at once: real databases under
// load, real volumes, whole backups and restores, and processes killed in their
// midst. It has no code of its own.
package e2e
