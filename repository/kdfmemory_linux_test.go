package repository

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMemoryOfAKeyIsFaultedOnce: what a key is derived in is memory that the process
// has not had before, and each page of it comes once. Coming first to be read and
// then to be written takes a third of the time of every command.
func TestMemoryOfAKeyIsFaultedOnce(t *testing.T) {
	const alone = "SOMBRA_TEST_DERIVE_ALONE"
	if os.Getenv(alone) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v") // a process that has derived none
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	faults := func() int64 {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			t.Fatal(err)
		}
		return r.Minflt
	}
	k := defaultKDF()
	pages := int64(k.Memory) << 10 / int64(os.Getpagesize())
	before := faults()
	k.key([]byte("password"), make([]byte, 16))
	if n := faults() - before; n > pages*3/2 {
		t.Errorf("%d faults for %d pages, want one a page at most", n, pages)
	}
}
