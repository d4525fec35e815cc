// Package voltest makes real volumes for tests: loop-mounted btrfs, XFS or
// ext4 file systems of a chosen size. They are unmounted when the test ends,
// however it ends; what a killed test process left behind is cleaned up by the
// next one that makes a volume.
//
// A test that needs volumes calls [Need] first. Where they cannot be made (not
// root, a tool missing) the test is skipped with one line that begins with
// [SkipPrefix], so that a run can count what it did not test. As "go test"
// hides the output of packages that pass, the line is also appended to the
// file named by SOMBRA_SKIP_LOG, if that is set.
package voltest

import (
	"fmt"
	"os"
	"testing"
)

// SkipPrefix begins the line that tells that a test was skipped for want of
// volumes.
const SkipPrefix = "SKIPPED VOLUME SUITE: "

// SkipLog is the environment variable that names a file to which each such
// line is appended.
const SkipLog = "SOMBRA_SKIP_LOG"

// Skip skips the test, telling why with [SkipPrefix].
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	line := SkipPrefix + t.Name() + ": " + fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, line)
	if name := os.Getenv(SkipLog); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
		if err != nil {
			t.Fatalf("%s=%s: %v", SkipLog, name, err)
		}
		// One write, so that lines of tests running beside each other stay whole.
		if _, err := f.WriteString(line + "\n"); err != nil {
			t.Fatalf("%s=%s: %v", SkipLog, name, err)
		}
		if err := f.Close(); err != nil {
			t.Fatalf("%s=%s: %v", SkipLog, name, err)
		}
	}
	t.Skip(line)
}
