package testwriter

import (
	"fmt"
	"slices"

	"github.com/sombra-backup/sombra/vss"
)

// hasSelectableAncestor reports whether a component belongs to the component
// set of another.
func (c *Config) hasSelectableAncestor(m *Component) bool {
	for i := range c.Components {
		if a := &c.Components[i]; a.Selectable && vss.IsDescendant(m.LogicalPath, a.FullPath()) {
			return true
		}
	}
	return false
}

// checkSelection tells what is wrong with the components a requester added.
func (c *Config) checkSelection(chosen []*Component) []string {
	var wrong []string
	for _, m := range chosen {
		if !m.Selectable && c.hasSelectableAncestor(m) {
			wrong = append(wrong, fmt.Sprintf("component %s was added, and comes only with one above it (R-SEL-8)", m.FullPath()))
		}
		for _, a := range chosen {
			if a.Selectable && vss.IsDescendant(m.LogicalPath, a.FullPath()) {
				wrong = append(wrong, fmt.Sprintf("component %s was added beside %s, which includes it (R-SEL-9)", m.FullPath(), a.FullPath()))
			}
		}
	}
	for i := range c.Components {
		m := &c.Components[i]
		if len(chosen) > 0 && !m.Selectable && !c.hasSelectableAncestor(m) && !slices.Contains(chosen, m) {
			wrong = append(wrong, fmt.Sprintf("component %s was not added, and must be whenever any is (R-SEL-6)", m.FullPath()))
		}
	}
	return wrong
}
