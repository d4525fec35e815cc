package writertest

import (
	"context"
	"testing"
	"time"

	"github.com/sombra-backup/sombra/writer"
)

// Subject is an application with data of its own and the writer for it. Each
// check gets a new one; what it holds is released by t.Cleanup of the test it
// was started for.
type Subject struct {
	// Writer is the writer under test: in this process, or a [writer.Remote].
	Writer writer.Writer

	// Kill ends the process of Writer with SIGKILL and returns when it is
	// gone. Nil if Writer runs in this process.
	Kill func() error

	// Again starts the writer of the same application once more, as after a
	// restart of its process, while the application goes on. It gives a new
	// Writer and its Kill.
	Again func() (w writer.Writer, kill func() error, err error)

	// Load starts clients, at most 64, that commit transactions as fast as they can, and
	// readers if the application has any. Nil if the application has no
	// clients.
	Load func() (Load, error)

	// Block makes Freeze impossible until release is called, as a transaction
	// that does not end would. Nil if nothing stands against a Freeze of this
	// writer.
	Block func() (release func(), err error)

	// Check opens the data as the application would after a restart, with
	// nobody else using it, makes sure that it is whole, and tells how many
	// transactions it holds: numbers 1 to n without a gap. Nil if the
	// application has no such test.
	Check func() (n uint64, err error)

	// Truncated tells whether logs were truncated since it was last asked.
	// Nil if this writer truncates none.
	Truncated func() (bool, error)

	// Resume is the longest the application needs to go on after Thaw, Abort
	// or the death of the writer's process. Zero means 10 s, far from what any
	// application needs and far from for ever.
	Resume time.Duration
}

// Load is clients at work. Its methods may be called by several goroutines.
type Load interface {
	// Acknowledged is how many transactions have been acknowledged, of this
	// Load and those before it on the same data.
	Acknowledged() uint64
	// Reads is how many reads have been answered; always 0 without readers.
	Reads() uint64
	// Stop ends the clients. Its error is the first that a client could not
	// get past by trying again.
	Stop() error
}

// Start makes a new Subject for a test.
type Start func(t *testing.T) *Subject

// Run runs the whole suite.
func Run(t *testing.T, start Start) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			s := start(t)
			if reason := c.lacks(s); reason != "" {
				t.Skipf("not checked: %s", reason)
			}
			ctx, cancel := context.WithTimeout(t.Context(), checkLimit)
			defer cancel()
			if err := c.run(ctx, s); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkLimit ends a check in which something hangs.
const checkLimit = 2 * time.Minute

// check is one promise of a writer.
type check struct {
	name  string
	needs needs
	run   func(ctx context.Context, s *Subject) error
}

// needs is what a check needs of a Subject.
type needs int

const (
	needsLoad needs = 1 << iota
	needsCheck
	needsBlock
	needsKill
	needsTruncated
	needsStill
)

// lacks says why a check cannot run with a Subject.
func (c *check) lacks(s *Subject) string {
	for _, n := range []struct {
		bit    needs
		absent bool
		reason string
	}{
		{needsLoad, s.Load == nil, "the application has no clients"},
		{needsCheck, s.Check == nil, "the application has no test of its data"},
		{needsBlock, s.Block == nil, "nothing stands against a Freeze of this writer"},
		{needsKill, s.Kill == nil, "the writer runs in this process"},
		{needsTruncated, s.Truncated == nil, "the writer truncates no logs"},
		{needsStill, !stillable(s.Writer.Describe()), "the writer neither holds its files still nor names who writes them"},
	} {
		if c.needs&n.bit != 0 && n.absent {
			return n.reason
		}
	}
	return ""
}

var checks = []check{
	{"Identify gives a valid document", 0, identifyValid},
	{"Identify gives the same answer at any time", 0, identifySame},
	{"Identify names the instance by what survives a restart", 0, identifyAgain},
	{"all events in order, and again", 0, inOrder},
	{"the application works on after a backup", needsLoad, worksOn},
	{"no transaction is acknowledged while frozen", needsLoad, commitsHeld},
	{"no byte changes while frozen, if declared", needsLoad | needsStill, filesStill},
	{"reads are answered while frozen, if declared", needsLoad, readsAnswered},
	{"Abort after each event returns to normal", 0, abortAnywhere},
	{"Abort twice, and Abort before anything", 0, abortTwice},
	{"Abort of a writer just started", 0, abortFresh},
	{"Abort beside a Freeze that waits", needsBlock, abortBeside},
	{"Freeze ends at its limit and leaves nothing held", needsBlock, freezeLimit},
	{"Freeze with its time up leaves nothing held", 0, freezeLate},
	{"the writer's death leaves nothing held", needsLoad | needsKill, killed},
	{"BackupComplete takes every outcome", 0, outcomes},
	{"R-TYPE-17: logs are truncated only for what succeeded", needsTruncated, truncation},
	{"BackupShutdown without a backup", 0, shutdown},
	{"files read while frozen hold exactly what was acknowledged", needsLoad | needsCheck | needsStill, roundTrip},
	{"a restore that restored nothing changes nothing", needsCheck, restoreNone},
}
