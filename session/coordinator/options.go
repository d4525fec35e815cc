package coordinator

import (
	"log/slog"
	"time"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/writer"
)

// Options is what a coordinator is made of.
type Options struct {
	session.Options

	// Kinds are the built-in writers, Providers the providers, both in order
	// of preference where nothing else decides.
	Kinds     []writer.Kind
	Providers []provider.Provider

	// Writers in this very process, for programs that embed the service.
	InProcess []writer.Writer

	// StateDir holds the lock, the journal and the list of persistent shadow
	// copies: /var/lib/sombra for root. It is made if absent, mode 0700, and
	// refused if others may write to it.
	StateDir string

	// SocketDirs are where writers of other programs listen, normally
	// /run/sombra/writers.d.
	SocketDirs []string

	// Executable is the program to run as keeper and writer host, with
	// KeeperArgs or HostArgs; that process must call hold.KeeperMain or
	// host.Main with the same kinds and providers. Empty means this program.
	Executable string
	KeeperArgs []string
	HostArgs   []string

	// RebootArgs are those with which Executable, started by systemd when the
	// host starts, calls reboot.Store.Apply for StateDir. With none no file is
	// staged for the next start.
	RebootArgs []string

	// NoFreeze skips freezing and stopping altogether. It exists so that
	// tests can show what freezing is good for; what it makes is recorded
	// as no more than crash-consistent.
	NoFreeze bool

	// Slots bounds the sessions open at once; nil bounds this one alone.
	Slots *Slots

	// Log is for what goes wrong where no caller waits for it. May be nil.
	Log *slog.Logger
}

// The defaults of [session.Limits].
const (
	DefaultWriterLimit     = 60 * time.Second
	DefaultHoldLimit       = 10 * time.Second
	DefaultDiscoveredLimit = 2 * time.Second
	DefaultEventLimit      = 10 * time.Minute
	DefaultIdentifyLimit   = 60 * time.Second
	DefaultPrepareLimit    = 30 * time.Minute
)

// graceAfterLimit is how long a call whose context has ended is still waited
// for before it is taken to hang.
const graceAfterLimit = 250 * time.Millisecond

// abortLimit bounds Abort and BackupShutdown, which must not hold anybody up.
const abortLimit = 10 * time.Second

// hungLimit bounds BackupShutdown for a writer that has left an event unanswered.
const hungLimit = time.Second

func withDefaults(l session.Limits) session.Limits {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&l.Writer, DefaultWriterLimit)
	def(&l.Hold, DefaultHoldLimit)
	def(&l.Discovered, DefaultDiscoveredLimit)
	def(&l.Event, DefaultEventLimit)
	def(&l.Identify, DefaultIdentifyLimit)
	def(&l.Prepare, DefaultPrepareLimit)
	return l
}
