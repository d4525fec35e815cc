package e2e

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/internal/ledger"
)

// clients are the ledger's clients at work in a process of their own, and what
// they have logged.
type clients struct {
	t       *testing.T
	load    ledger.Load
	history ledger.History
	cmd     *exec.Cmd // nil when they have ended
	input   io.Closer
	said    bytes.Buffer
}

// startClients starts them and returns when all have committed to all stores.
func startClients(t *testing.T, load ledger.Load) *clients {
	t.Helper()
	c := &clients{t: t, load: load}
	c.history.Log = filepath.Join(scratch(t), "acknowledged")
	c.cmd = exec.Command("/proc/self/exe", append([]string{"test-ledger"}, load.Words(c.history.Log)...)...)
	c.cmd.Args[0] = os.Args[0]
	c.cmd.Stderr = &c.said
	var err error
	if c.input, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.cmd != nil {
			c.cmd.Process.Kill()
			c.cmd.Wait()
		}
	})
	waitFor(t, time.Minute, "all clients commit", func() bool {
		c.update()
		for i := range load.Clients {
			if c.history.Acked(load.Places[len(load.Places)-1].Name, i, time.Now()) < 3 {
				return false
			}
		}
		return true
	})
	return c
}

// update reads what the clients have done. It fails the test if one could not go
// on.
func (c *clients) update() {
	c.t.Helper()
	if err := c.history.Update(); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.t.Fatal(err)
	}
	if c.cmd != nil && dead(c.cmd.Process.Pid) {
		c.cmd.Wait()
		c.cmd = nil
		c.t.Fatalf("a client's write failed: %s", c.said.String())
	}
}

// stop has the clients complete what they are at, and end. None may have failed.
func (c *clients) stop() {
	c.t.Helper()
	c.input.Close()
	err := c.cmd.Wait()
	c.cmd = nil
	if err != nil {
		c.t.Fatalf("a client's write failed: %v: %s", err, c.said.String())
	}
	c.update()
}
