package server

import "testing"

// attributeDir gives a folder; the S3 server keeps attributes beside files here.
func attributeDir(t testing.TB) string { return t.TempDir() }

// private says nothing here, where the cache is always in the user's profile.
func private(string) error { return nil }
