package repository

import "golang.org/x/sys/unix"

// adviseLarge asks for large pages, as the system's settings allow them. Without
// them all goes on as before.
func adviseLarge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
