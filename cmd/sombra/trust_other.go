//go:build !unix

package main

import "os"

// trusted leaves the question to the directory's rights on this system.
func trusted(*os.File) error { return nil }
