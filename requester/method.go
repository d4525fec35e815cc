package requester

import (
	"fmt"

	"github.com/sombra-backup/sombra/vss"
)

// Branch is what becomes of the files of a component set in a restore. All of
// them take the same one (R-RES-2).
type Branch int

// The branches.
const (
	// BranchRefused: none of them is restored.
	BranchRefused Branch = iota
	// BranchOriginal: they go to where they were.
	BranchOriginal
	// BranchAlternate: they go to where their writer's alternate location
	// mappings send them.
	BranchAlternate
	// BranchReboot: they are staged, and take their places at the next start.
	BranchReboot
	// BranchDirected: they go to where their writer directed them in PreRestore.
	BranchDirected
)

// String gives the branch as results have it.
func (b Branch) String() string {
	switch b {
	case BranchRefused:
		return "refused"
	case BranchOriginal:
		return "original"
	case BranchAlternate:
		return "alternate"
	case BranchReboot:
		return "reboot"
	case BranchDirected:
		return "directed"
	}
	return fmt.Sprintf("Branch(%d)", int(b))
}

// Decision is what a restore method and a restore target come to for one
// component set.
type Decision struct {
	Branch Branch
	// Refusal says why nothing is restored; empty unless Branch is
	// BranchRefused.
	Refusal string
	// WriterError: the refusal is an error of the writer (R-RES-13).
	WriterError bool
}

// Presence tells what is at the places where files of a set would go. Directories
// are not looked at.
type Presence struct {
	// There is a place at which something is; empty if nothing is at any.
	There string
	// Blocked is a place at which a file can be neither replaced nor made, and
	// Why says why; empty if there is none.
	Blocked, Why string
}

func (p Presence) blocked() string {
	return fmt.Sprintf("%s cannot be replaced (%s)", p.Blocked, p.Why)
}

// RestoreView is all that a decision is made from besides what the writer says:
// the host as it is after PreRestore has ended (R-RES-3), and with the service
// stopped if it is to be ([RestoreMethod.ServiceUse]).
type RestoreView struct {
	// Original is of the places where the files were.
	Original Presence
	// Alternate is of the places that the alternate location mappings give, and
	// Unmapped is a file of the set that none matches; empty if all have one.
	Alternate Presence
	Unmapped  string
	// Running says why the service runs still, if it was to be stopped and
	// could not be.
	Running string
	// NoReboot says why files cannot take their places at the next start; empty
	// if they can.
	NoReboot string
}

// ServiceUse is what a restore does with the service that a writer names
// (R-RES-36).
type ServiceUse int

// The uses.
const (
	// ServiceUntouched: nothing.
	ServiceUntouched ServiceUse = iota
	// ServiceStopFirst: it is stopped after PreRestore and started before
	// PostRestore (R-RES-7).
	ServiceStopFirst
	// ServiceRestartAfter: it is stopped and started after PostRestore
	// (R-RES-8).
	ServiceRestartAfter
)

// ServiceUse tells what the method does with the service. A restore target has no
// say in that: it moves files, and does not tell that the application need not
// know.
func (m RestoreMethod) ServiceUse() ServiceUse {
	switch {
	case !m.Given:
	case m.Method == vss.RestoreMethodStopRestoreStart:
		return ServiceStopFirst
	case m.Method == vss.RestoreMethodRestoreStopStart:
		return ServiceRestartAfter
	}
	return ServiceUntouched
}

// UsesMappings reports whether a decision can need the Alternate part of the view.
func (m RestoreMethod) UsesMappings(target vss.RestoreTarget) bool {
	if !m.Given || m.ownWay() {
		return false
	}
	switch target {
	case vss.RestoreTargetAlternate:
		return true
	case vss.RestoreTargetOriginal:
		switch m.Method {
		case vss.RestoreMethodIfNotThere, vss.RestoreMethodIfCanReplace, vss.RestoreMethodStopRestoreStart, vss.RestoreMethodToAlternateLocation:
			return true
		}
	}
	return false
}

// UsesReboot reports whether a decision can need NoReboot of the view.
func (m RestoreMethod) UsesReboot() bool {
	return m.Given && (m.Method == vss.RestoreMethodAtReboot || m.Method == vss.RestoreMethodAtRebootIfCannotReplace)
}

// ownWay reports whether a restore target has no say over the method: those that
// wait for the next start are not affected, and the application's own may ignore
// it (R-RES-16).
func (m RestoreMethod) ownWay() bool {
	return m.UsesReboot() || m.Given && m.Method == vss.RestoreMethodCustom
}

// Decide applies a writer's restore method, and the restore target it set in
// PreRestore, to what is on the host. It does nothing but decide: the same
// arguments give the same decision.
func Decide(m RestoreMethod, target vss.RestoreTarget, v RestoreView) Decision {
	if m.ServiceUse() == ServiceStopFirst && v.Running != "" {
		return refuse("its restore method is %s, and its service %s cannot be stopped: %s", m.Method, m.Service, v.Running)
	}
	if target == vss.RestoreTargetOriginal || m.ownWay() {
		return decideMethod(m, v)
	}
	switch target {
	case vss.RestoreTargetAlternate:
		return decideAlternate(fmt.Sprintf("its writer asks for restore target %s", target), v, true)
	case vss.RestoreTargetOriginalLocation:
		return decideOriginal(v)
	case vss.RestoreTargetDirected:
		return Decision{Branch: BranchDirected}
	}
	return writerError("its writer asks for restore target %s, which is none", target)
}

// decideMethod is Decide without a restore target of the writer's.
func decideMethod(m RestoreMethod, v RestoreView) Decision {
	if !m.Given { // data of no method: a plain copy (R-RES-37)
		return decideOriginal(v)
	}
	is := fmt.Sprintf("its restore method is %s", m.Method)
	switch m.Method {
	case vss.RestoreMethodIfNotThere: // R-RES-5
		return decideIfNotThere(is, v)
	case vss.RestoreMethodIfCanReplace, vss.RestoreMethodStopRestoreStart: // R-RES-6, R-RES-7
		if v.Original.Blocked == "" {
			return Decision{Branch: BranchOriginal}
		}
		return decideAlternate(is+", "+v.Original.blocked(), v, false)
	case vss.RestoreMethodRestoreStopStart: // R-RES-8
		return decideOriginal(v)
	case vss.RestoreMethodToAlternateLocation: // R-RES-9
		return decideAlternate(is, v, true)
	case vss.RestoreMethodAtReboot: // R-RES-10
		return decideReboot(is, v)
	case vss.RestoreMethodAtRebootIfCannotReplace: // R-RES-11
		if v.Original.Blocked == "" {
			return Decision{Branch: BranchOriginal}
		}
		return decideReboot(is+", "+v.Original.blocked(), v)
	case vss.RestoreMethodCustom: // R-RES-12
		return refuse("%s: only the application's own documented way restores it%s", is, m.pointer())
	case vss.RestoreMethodUndefined: // R-RES-13
		return writerError("its writer gives no restore method, which is an error of the writer")
	}
	return writerError("%s, which is none", is)
}

// pointer says where a writer's instructions are.
func (m RestoreMethod) pointer() string {
	if m.Procedure == "" {
		return "; see its documentation. The files can be had with \"sombra extract\""
	}
	return "; see " + clip(m.Procedure, 500) + ". The files can be had with \"sombra extract\""
}

func refuse(format string, args ...any) Decision {
	return Decision{Refusal: fmt.Sprintf(format, args...)}
}

func writerError(format string, args ...any) Decision {
	d := refuse(format, args...)
	d.WriterError = true
	return d
}

// decideOriginal is the original place, and no other.
func decideOriginal(v RestoreView) Decision {
	if v.Original.Blocked != "" {
		return refuse("%s", v.Original.blocked())
	}
	return Decision{Branch: BranchOriginal}
}

// decideIfNotThere never replaces anything, at the mapped places neither (D-25).
func decideIfNotThere(is string, v RestoreView) Decision {
	if v.Original.There == "" {
		return decideOriginal(v)
	}
	is += " and " + v.Original.There + " is there"
	d := decideAlternate(is, v, false)
	if d.Branch == BranchAlternate && v.Alternate.There != "" {
		return refuse("%s, and so is %s, where its alternate location mapping leads; move what is there away", is, v.Alternate.There)
	}
	return d
}

// decideAlternate is the branch of the alternate location mappings (R-RES-4). why
// says what leads there; required tells that there is no other way, so that a
// file without a mapping is an error of the writer.
func decideAlternate(why string, v RestoreView, required bool) Decision {
	switch {
	case v.Unmapped != "" && required:
		return writerError("%s, and %s has no alternate location mapping, which is an error of the writer", why, v.Unmapped)
	case v.Unmapped != "":
		return refuse("%s, and %s has no alternate location mapping; move what is there away, or choose another way with --restore-method", why, v.Unmapped)
	case v.Alternate.Blocked != "":
		return refuse("%s, and at its alternate location %s", why, v.Alternate.blocked())
	}
	return Decision{Branch: BranchAlternate}
}

func decideReboot(why string, v RestoreView) Decision {
	if v.NoReboot != "" {
		return refuse("%s, and nothing can be replaced at the next start: %s", why, v.NoReboot)
	}
	return Decision{Branch: BranchReboot}
}
