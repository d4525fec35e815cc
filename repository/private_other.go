//go:build !unix

package repository

import "os"

// checkPrivateDir leaves the question to the rights of the state directory on
// this system.
func checkPrivateDir(string, int) error { return nil }

// openPrivate opens a file.
func openPrivate(name string) (*os.File, error) { return os.Open(name) }

// syncDir does nothing: this system makes names durable with the file.
func syncDir(string) error { return nil }
