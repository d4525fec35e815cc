package requester

import (
	"fmt"
	"slices"
)

// whyResting is why a component without files takes part.
const whyResting = "declares no files: brings what it covers to rest"

// wantResting takes in components that declare no files, in any backup of paths.
// No path can lead to them, and yet somebody set their writers up so that they
// bring data to rest when a shadow copy is made, as scripts do. That is so where
// an administrator says which writers there are: on a host with a service of its
// own they come with the system.
//
// Nothing else may come in by that: not files of components that must be in
// every backup of the writer (R-SEL-6), nor what is depended on (R-SEL-31). Of a
// writer of which something is named that alone is taken.
func (a *attempt) wantResting() {
	if len(a.req.Paths) == 0 || a.host.Native {
		return
	}
	for _, w := range a.writers {
		if w.Info.Discovered || slices.ContainsFunc(w.Components, a.namedByUser) ||
			slices.ContainsFunc(w.Components, func(c *Component) bool { return c.Mandatory() && !c.resting() }) {
			continue
		}
		for _, c := range w.Components {
			if _, ok := a.wish.Wanted[c]; !ok && c.Selectable && c.SelectableAncestor() == nil && c.resting() {
				a.wish.Wanted[c] = whyResting
			}
		}
	}
}

// resting reports whether the component's set has no file specifications, and
// depends on nothing.
func (c *Component) resting() bool {
	return !slices.ContainsFunc(c.Set(), func(m *Component) bool { return len(m.Files) > 0 || len(m.Dependencies) > 0 })
}

// warnResting says where the rest that such components bring is of no use: data
// of no writer that is read when their writers have long gone on.
func (a *attempt) warnResting(p *Plan) {
	for _, c := range a.sel.Explicit {
		if a.sel.Why[c] != whyResting {
			continue
		}
		for _, id := range a.order {
			if v := a.volumes[id]; v.unclaimed && !v.unclaimedCopied() {
				p.Warnings = append(p.Warnings, fmt.Sprintf("%s declares no files: those on %s that no writer declares are read when it has gone on already; "+
					"name them in its configuration to have them copied while it rests", c.Label(), v.Root))
			}
		}
	}
}

// unclaimedCopied reports whether data of no writer is in the shadow copy.
func (v *volumeState) unclaimedCopied() bool {
	return v.refusal == "" && v.support.Provider.Name != "" &&
		(v.support.Capabilities.Atomic && !v.support.Capabilities.NeedsScope || v.estimate.Unclaimed)
}
