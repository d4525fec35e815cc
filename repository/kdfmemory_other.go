//go:build !linux

package repository

// adviseLarge does nothing: large pages are not asked for in this way here.
func adviseLarge([]byte) {}
