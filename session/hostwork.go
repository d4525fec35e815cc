package session

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// Services stops and starts services of the host: units of systemd, services of
// Windows. Names come from documents on the medium and are not trusted: one that
// is no service's name is VSS_E_INVALIDARG, one of a service that the host does
// not have VSS_E_OBJECT_NOT_FOUND. VSS_E_NOT_SUPPORTED where the host has no
// service manager that is known here.
type Services interface {
	// Service tells how a service is, and changes nothing.
	Service(ctx context.Context, name string) (Service, error)

	// StopService stops a service, and with it what would start it again or
	// cannot run without it, waits until all of that has stopped, and gives
	// the state before. It does nothing to a service that does not run. After
	// an error some of it may have stopped; StartService starts it again.
	StopService(ctx context.Context, name string) (before Service, err error)

	// StartService starts what StopService of the same Target stopped for
	// that name, or, if it stopped nothing, the service alone, and waits
	// until it has started. Whether a service that did not run before is
	// started is the caller's to decide (see [ServiceState.Active]).
	StartService(ctx context.Context, name string) error
}

// Service is a service of the host.
type Service struct {
	Name  string // as the host calls it: app.service
	State ServiceState
	// Detail is the state in the host's own words.
	Detail string
	// With are the other services and the like that run now and stop with it.
	With []string
}

// ServiceState is what a service does.
type ServiceState int

const (
	// ServiceStopped: it does not run, and nothing will start it by itself.
	ServiceStopped ServiceState = iota
	// ServiceRunning: it runs, or is about to.
	ServiceRunning
	// ServiceWaiting: it does not run, but something that runs starts it
	// when there is need, such as a socket.
	ServiceWaiting
	// ServiceFailed: it does not run since it failed.
	ServiceFailed
	// ServiceMasked: it does not run, and the host refuses to start it.
	ServiceMasked
)

// Active reports whether the service is to be started again after it was stopped
// for a restore.
func (s ServiceState) Active() bool { return s == ServiceRunning || s == ServiceWaiting }

func (s ServiceState) String() string {
	switch s {
	case ServiceStopped:
		return "stopped"
	case ServiceRunning:
		return "running"
	case ServiceWaiting:
		return "waiting"
	case ServiceFailed:
		return "failed"
	case ServiceMasked:
		return "masked"
	}
	return fmt.Sprintf("ServiceState(%d)", int(s))
}

// Reboots has restored files take their places at the host's next start, before
// anything uses them.
type Reboots interface {
	// AtReboot begins a set of files that take their places together. What is
	// what people are to be told of it, such as a component's name.
	// VSS_E_NOT_SUPPORTED where the host cannot do that.
	AtReboot(ctx context.Context, what string) (RebootSet, error)

	// PendingReboots lists the sets that wait for the next start, and those
	// that could not take their places at an earlier one; oldest first. Sets
	// that cannot be read are in the error, and the list is good all the same.
	PendingReboots(ctx context.Context) ([]PendingReboot, error)

	// CancelReboot withdraws a set, by its ID or what begins it, and removes
	// its staged files. VSS_E_OBJECT_NOT_FOUND if there is none, VSS_E_BAD_STATE
	// if some of its files have taken their places already.
	CancelReboot(ctx context.Context, id string) error
}

// RebootSet is a set of files being staged: all of them take their places at the
// next start, or none does. Several goroutines may use it.
type RebootSet interface {
	// Stage gives the name to make an object under, by Create, Symlink, Link
	// or Mknod of the same Target, that is to take a name: hidden, in the same
	// directory, which must be there by then. Directories are not staged.
	Stage(ctx context.Context, name string) (staged string, err error)

	// Commit makes what was staged durable, notes what it is, so that nothing
	// else can take its place, and has all of it swapped in at the next
	// start. Each name staged must be there.
	Commit(ctx context.Context) (id string, err error)

	// Close removes what was staged, unless Commit has succeeded.
	Close() error
}

// stagedPrefix begins the names that [RebootSet].Stage gives on hosts whose files
// are staged beside their places.
const stagedPrefix = ".sombra-at-reboot-"

// NewStagedName gives a name, without a directory, for a file staged beside its
// place.
func NewStagedName() string { return stagedPrefix + rand.Text() }

// IsStagedName reports whether the last element of a name is one that
// [NewStagedName] gives. Such files are nobody's data, and not backed up.
func IsStagedName(name string) bool {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	text, ok := strings.CutPrefix(name, stagedPrefix)
	return ok && len(text) == 26 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// PendingReboot is a set of files that wait for the next start.
type PendingReboot struct {
	ID      string
	Created time.Time
	What    string
	State   RebootState
	// Error is why the files could not take their places, and Attempted when
	// that was tried.
	Error     string
	Attempted time.Time
	Files     []PendingFile
}

// PendingFile is one file of a [PendingReboot].
type PendingFile struct {
	Path   string // where it is to be
	Staged string // where it is, or, once it was swapped, what it has replaced
	Type   string // file, symlink, fifo, socket, device
	Size   int64
}

// RebootState is how far a set has come.
type RebootState string

const (
	// RebootPending: it waits for the next start.
	RebootPending RebootState = "pending"
	// RebootFailed: nothing has changed, and it is not tried again.
	RebootFailed RebootState = "failed"
	// RebootHalf: only some of the files have taken their places. The next
	// start goes on with it.
	RebootHalf RebootState = "half"
	// RebootSwapped: all files have taken their places; what they have
	// replaced is still to be removed.
	RebootSwapped RebootState = "swapped"
)
