//go:build !linux

package local

import "os"

// newTemp gives the file to be written.
func newTemp(f *os.File) tempFile { return f }
