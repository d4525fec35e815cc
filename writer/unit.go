package writer

import "context"

// Service is the unit of systemd that runs a writer's application ([Spec].Unit).
// A writer runs as the owner of its data and may not stop units; what it calls
// here is done by the process that started its host, for this unit alone.
//
// A unit is stopped and started with what belongs to it: the units that stop with
// it because they need it, and the sockets, timers and paths that would start it
// again while it has to be down. What Stop stopped is noted where it survives all
// of Sombra's processes, but not the start of the machine, which starts units by
// itself: so Start and Release also undo the Stop of a process that has died.
//
// Stop and Start are refused for units of the system itself and for one in which
// Sombra itself runs; where systemd does not run, and to a session that is not
// root's, with VSS_E_NOT_SUPPORTED; and for a unit that the configuration does not
// name (Spec.UnitConfigured) if it does not run as the owner of the writer's data,
// with VSS_E_ACCESSDENIED: then it is no unit of this application alone. Each ends with
// its context; what systemd has begun by then goes on.
//
// The methods may be called by several goroutines; one is done at a time.
type Service interface {
	// Name is the unit's name.
	Name() string
	// Stop stops the unit, and returns when none of its processes is left. To
	// stop one that does not run is no error, but what would start it is
	// stopped then, too.
	Stop(ctx context.Context) error
	// Start starts the unit and all that Stop stopped with it, and returns when
	// it runs: when it is ready if it tells, else when it has run for a second.
	// To start one that runs is no error.
	Start(ctx context.Context) error
	// Active reports whether the unit runs, or is on its way up or down.
	Active(ctx context.Context) (bool, error)
}

// ServiceHolder is what every [Service] that a host gives also is: for writers
// that hold the unit itself while a copy is made.
type ServiceHolder interface {
	Service
	// Hold stops the unit as Stop does, but until Thaw. If it fails, what it
	// has stopped by then is to be started again by systemd itself as soon as it
	// can be, whether or not anybody calls Thaw; of a service that has a socket and
	// is stopping still, only the socket.
	Hold(ctx context.Context) error
	// Freeze stops all the unit's processes where they are, by the freezer of its
	// control group, and returns when none moves any more. A unit that does not
	// run has nothing to freeze, which is no error.
	Freeze(ctx context.Context) error
	// Thaw undoes what Hold and Freeze did to the unit, whoever called them, and
	// nothing else: what did not run before is not started, and neither is what
	// Stop stopped. Without anything to undo it does nothing. If somebody else
	// has started the unit, or let it go, it is left running all the same, and
	// the error is VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT. If its context ends
	// first, systemd goes on with it.
	Thaw(ctx context.Context) error
	// LetGo does what Thaw does, but does not wait for a start: it has systemd take
	// the start on, which then goes on whoever dies. Starting reports that systemd
	// has done so; Thaw then waits for it. With an error nothing is known to be
	// undone, but for VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT, as of Thaw.
	LetGo(ctx context.Context) (starting bool, err error)
	// Release undoes what Thaw undoes and what Stop did besides.
	Release(ctx context.Context) error
}
