package requester

import (
	"fmt"

	"github.com/sombra-backup/sombra/vss"
)

// Wish is what a selection is made from.
type Wish struct {
	// Wanted gives components to take and why, in the user's words.
	Wanted map[*Component]string
	// SystemState takes in all components of system state writers (R-SEL-19).
	SystemState bool
	// Barred gives components that cannot be taken, and why: excluded by
	// name, on a volume that no provider serves, of a writer that failed.
	Barred map[*Component]Bar
}

// Bar is why a component cannot be taken.
type Bar struct {
	Why   string
	Asked bool // the user excluded it by name
	// Covered: a chosen component of another writer claims its files too, so
	// that only those which that one does not claim are missing.
	Covered bool
	// Elsewhere: it is in another of the backups that a request comes to.
	Elsewhere bool
}

// Selection is which components take part, and how.
type Selection struct {
	// Explicit are to be added with AddComponent, in the documents' order.
	Explicit []*Component
	// Defining gives, for every component that takes part, the explicit one
	// whose set it is in: itself if it is explicit.
	Defining map[*Component]*Component
	// Why tells for each explicit component why it takes part.
	Why map[*Component]string
	// Out tells for components that were wanted, or would have come along,
	// why they do not take part.
	Out map[*Component]Bar
	// Remote are dependencies on other machines, by the component that has
	// them (R-SEL-34): reported, not followed.
	Remote map[*Component][]Dependency
}

// Has reports whether the component takes part, explicitly or implicitly.
func (s *Selection) Has(c *Component) bool { return s.Defining[c] != nil }

// Select applies the selection rules to the writers' documents.
//
//   - What is wanted and cannot be explicit, because a selectable ancestor
//     brings it in, is raised to the nearest such ancestor (R-SEL-8).
//   - A component whose selectable ancestor is explicit is implicit, whether
//     selectable itself or not (R-SEL-9, R-SEL-10).
//   - With any component of a writer come those that are not selectable and
//     have no selectable ancestor (R-SEL-6, R-SEL-11).
//   - Dependencies on other writers' components are pulled in, and a component
//     whose dependency cannot be is left out (R-SEL-31, R-SEL-33); cycles end
//     (R-SEL-36).
//   - A set with a barred member is not taken as a set; its other members may
//     be, where they are wanted and selectable. A writer with a barred mandatory
//     component is left out whole.
func Select(writers []*Writer, wish Wish) *Selection {
	s := &selector{writers: writers, wish: wish, barred: make(map[*Component]Bar, len(wish.Barred))}
	for c, bar := range wish.Barred { // before any is barred because of another
		s.barred[c] = bar
	}
	for c, bar := range wish.Barred {
		s.barFollowers(c, bar)
	}
	// Each round starts from nothing, since what only came along with a
	// component now barred must go too. A round that bars nothing is the last;
	// a component is barred once, so there are no more rounds than components.
	for {
		sel := newSelection()
		if s.round(sel) {
			s.outs(sel)
			return sel
		}
	}
}

func newSelection() *Selection {
	return &Selection{
		Defining: map[*Component]*Component{}, Why: map[*Component]string{},
		Out: map[*Component]Bar{}, Remote: map[*Component][]Dependency{},
	}
}

type selector struct {
	writers []*Writer
	wish    Wish
	barred  map[*Component]Bar
	classes map[vss.ComponentID][]*Component
}

// bar marks a component and everything that cannot be without it.
func (s *selector) bar(c *Component, b Bar) {
	if _, ok := s.barred[c]; ok {
		return
	}
	s.barred[c] = b
	s.barFollowers(c, b)
}

func (s *selector) barFollowers(c *Component, b Bar) {
	follow := Bar{Why: fmt.Sprintf("its set holds %s, which is left out: %s", c.FullPath(), b.Why)}
	for _, a := range c.ancestors {
		if a.Selectable {
			s.bar(a, follow)
		}
	}
	if c.Mandatory() {
		follow.Why = fmt.Sprintf("%s must be in every backup of this writer and is left out: %s", c.FullPath(), b.Why)
		for _, other := range c.Writer.Components {
			s.bar(other, follow)
		}
	}
}

// round builds a selection from the wishes; false if it found out that one
// more component is barred.
func (s *selector) round(sel *Selection) bool {
	explicit := map[*Component]string{}
	for _, w := range s.writers {
		for _, c := range w.Components {
			if why, ok := s.seed(c); ok {
				s.want(explicit, c, why)
			}
		}
	}
	for {
		s.mandatory(explicit)
		s.settle(sel, explicit)
		pulled, ok := s.dependencies(sel, explicit)
		if !ok {
			return false
		}
		if !pulled {
			return true
		}
	}
}

// seed tells whether a component is wanted for itself.
func (s *selector) seed(c *Component) (string, bool) {
	if why, ok := s.wish.Wanted[c]; ok {
		return why, true
	}
	if s.wish.SystemState && inSystemState(c) {
		return "system state", true
	}
	return "", false
}

// inSystemState is R-SEL-19.
func inSystemState(c *Component) bool {
	u := c.Writer.Usage
	return (u == vss.UsageBootableSystemState || u == vss.UsageSystemService) && c.Flags&vss.FlagNotSystemState == 0
}

// want makes a component explicit, or what brings it in. It reports whether
// that is possible.
func (s *selector) want(explicit map[*Component]string, c *Component, why string) bool {
	if a := c.SelectableAncestor(); a != nil && !c.Selectable {
		why = fmt.Sprintf("holds %s (%s), which cannot be taken alone", c.FullPath(), why)
		c = a
	}
	if _, barred := s.barred[c]; barred {
		return false
	}
	if _, ok := explicit[c]; !ok {
		explicit[c] = why
	}
	return true
}

// mandatory adds what R-SEL-6 wants. Where a writer takes part for the system
// state alone, a component that says it is not system state stays out.
func (s *selector) mandatory(explicit map[*Component]string) {
	for _, w := range s.writers {
		any, stateOnly := false, s.wish.SystemState
		for _, c := range w.Components {
			if why, ok := explicit[c]; ok {
				any = true
				stateOnly = stateOnly && why == "system state"
			}
		}
		if !any {
			continue
		}
		for _, c := range w.Components {
			if _, ok := explicit[c]; ok || !c.Mandatory() || stateOnly && !inSystemState(c) {
				continue
			}
			s.want(explicit, c, "must be in every backup of this writer")
		}
	}
}

// settle decides what is explicit and what implicit.
func (s *selector) settle(sel *Selection, explicit map[*Component]string) {
	sel.Explicit = sel.Explicit[:0]
	clear(sel.Defining)
	clear(sel.Why)
	for _, w := range s.writers {
		for _, c := range w.Components {
			why, ok := explicit[c]
			if !ok || hasExplicitAncestor(explicit, c) {
				continue
			}
			sel.Explicit = append(sel.Explicit, c)
			sel.Why[c] = why
			for _, m := range c.Set() {
				sel.Defining[m] = c
			}
		}
	}
}

// hasExplicitAncestor: then the component is implicit (R-SEL-9).
func hasExplicitAncestor(explicit map[*Component]string, c *Component) bool {
	for _, a := range c.ancestors {
		if _, ok := explicit[a]; ok && a.Selectable {
			return true
		}
	}
	return false
}

// dependencies pulls in what included components depend on. pulled tells that
// something was added; ok is false if a component had to be barred instead.
func (s *selector) dependencies(sel *Selection, explicit map[*Component]string) (pulled, ok bool) {
	clear(sel.Remote)
	for _, w := range s.writers {
		for _, c := range w.Components {
			if !sel.Has(c) {
				continue
			}
			for _, d := range c.Dependencies {
				if d.Computer != "" {
					sel.Remote[c] = append(sel.Remote[c], d)
					continue
				}
				added, why := s.depend(sel, explicit, c, d)
				if why != "" {
					s.bar(c, Bar{Why: why})
					s.bar(sel.Defining[c], Bar{Why: why})
					return false, false
				}
				pulled = pulled || added
			}
		}
	}
	return pulled, true
}

// depend sees to one dependency: added, or why it cannot be.
func (s *selector) depend(sel *Selection, explicit map[*Component]string, c *Component, d Dependency) (added bool, why string) {
	if d.Class == c.Writer.Class {
		return false, fmt.Sprintf("it depends on %s of its own writer, which the model forbids", d)
	}
	targets := s.find(vss.ComponentID{WriterClass: d.Class, LogicalPath: d.LogicalPath, Name: d.Name})
	for _, t := range targets {
		if sel.Has(t) {
			return false, ""
		}
	}
	for _, t := range targets {
		if s.want(explicit, t, fmt.Sprintf("%s depends on it", c.Label())) {
			return true, ""
		}
	}
	if len(targets) == 0 {
		return false, fmt.Sprintf("it depends on %s, which no writer here has", d)
	}
	return false, fmt.Sprintf("it depends on %s, which is left out: %s", targets[0].Label(), s.barredWhy(targets[0]))
}

func (s *selector) barredWhy(c *Component) string {
	if b, ok := s.barred[c]; ok {
		return b.Why
	}
	if a := c.SelectableAncestor(); a != nil {
		return s.barred[a].Why
	}
	return "it cannot be selected"
}

func (s *selector) find(id vss.ComponentID) []*Component {
	if s.classes == nil {
		s.classes = map[vss.ComponentID][]*Component{}
		for _, w := range s.writers {
			for _, c := range w.Components {
				s.classes[c.ID()] = append(s.classes[c.ID()], c)
			}
		}
	}
	return s.classes[id]
}

// outs lists what does not take part although it was wanted, or barred.
func (s *selector) outs(sel *Selection) {
	for c, bar := range s.barred {
		if !sel.Has(c) {
			sel.Out[c] = bar
		}
	}
	for _, w := range s.writers {
		for _, c := range w.Components {
			if _, wanted := s.seed(c); wanted && !sel.Has(c) {
				if _, ok := sel.Out[c]; !ok {
					sel.Out[c] = Bar{Why: s.barredWhy(c)}
				}
			}
		}
	}
}
