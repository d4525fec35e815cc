package cases

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Parse reads one case.
func Parse(name string, data []byte) (*Case, error) {
	a, comment, err := open(name, data)
	if err != nil {
		return nil, err
	}
	c := &Case{
		Name: name, Comment: comment, Outcome: Complete, Env: map[string]string{}, Times: map[string]time.Time{},
		Config: a.sections["config.xml"],
		Tree:   a.takeFiles("tree"), Before: a.takeFiles("before"), content: a.takeFiles("content"),
		Dirs: a.take("dirs"), Live: a.take("live"), Restored: a.take("restored"),
	}
	if c.Config == nil || comment == "" {
		return nil, fmt.Errorf("%s: a case needs a comment and the section config.xml", name)
	}
	delete(a.sections, "config.xml")
	for _, part := range []struct {
		section string
		line    func(string) error
	}{
		{"backup", c.backupLine}, {"times", c.timeLine}, {"saved", c.savedLine}, {"restore", c.restoreLine},
	} {
		for _, line := range a.take(part.section) {
			if err := part.line(line); err != nil {
				return nil, fmt.Errorf("%s: section %s: line %q: %w", name, part.section, line, err)
			}
		}
	}
	for section := range a.sections {
		return nil, fmt.Errorf("%s: no case has a section %s", name, section)
	}
	slices.Sort(c.Explicit)
	slices.SortFunc(c.Saved, func(a, b Saved) int { return strings.Compare(a.Path, b.Path) })
	if c.Type == vss.BackupTypeUndefined {
		return nil, fmt.Errorf("%s: section backup does not give the type", name)
	}
	return c, nil
}

func (c *Case) backupLine(line string) (err error) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "type":
		c.Type, err = vss.ParseBackupType(rest)
	case "base":
		c.Base, err = vss.ParseBackupType(rest)
	case "partial":
		c.NoPartial = rest == "no"
	case "add":
		c.Add = append(c.Add, rest)
	case "explicit":
		c.Explicit = append(c.Explicit, rest)
	case "environment":
		name, value, _ := strings.Cut(rest, "=")
		c.Env[name] = value
	case "outcome":
		c.Outcome = Outcome(rest)
		if c.Outcome != Complete && c.Outcome != Incomplete && c.Outcome != Absent {
			return fmt.Errorf("no such outcome")
		}
	case "fails":
		return c.failsLine(strings.Fields(rest))
	default:
		return fmt.Errorf("no such word")
	}
	return err
}

func (c *Case) failsLine(words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("an event and codes are wanted")
	}
	kind, err := writer.ParseEventKind(words[0])
	if err != nil {
		return err
	}
	c.Fails = &Failure{Event: kind}
	for _, w := range words[1:] {
		code, err := vss.ParseCode(w)
		if err != nil {
			return err
		}
		c.Fails.Codes = append(c.Fails.Codes, code)
	}
	return nil
}

func (c *Case) timeLine(line string) error {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return fmt.Errorf("a path and a time are wanted")
	}
	t, err := time.Parse(time.RFC3339, line[i+1:])
	c.Times[line[:i]] = t
	return err
}

// savedLine reads "path", "path < alternate" or "path ranges".
func (c *Case) savedLine(line string) error {
	if path, from, ok := strings.Cut(line, " < "); ok {
		c.Saved = append(c.Saved, Saved{Path: path, From: from})
		return nil
	}
	s := Saved{Path: line}
	if i := strings.LastIndexByte(line, ' '); i > 0 && strings.Contains(line[i:], ":") {
		ranges, err := vss.ParseRanges(line[i+1:])
		if err != nil {
			return err
		}
		s.Path, s.Ranges = line[:i], ranges
	}
	c.Saved = append(c.Saved, s)
	return nil
}

func (c *Case) restoreLine(line string) error {
	words := strings.Fields(line)
	switch {
	case len(words) == 2 && words[0] == "select":
		c.Select = append(c.Select, words[1])
	case len(words) == 3 && words[0] == "subcomponent":
		c.Subcomponents = append(c.Subcomponents, Subcomponent{Of: words[1], Name: words[2]})
	case len(words) == 6 && words[0] == "newtarget":
		spec := vss.FileSpec{Path: words[2], Pattern: words[3], Recursive: words[4] == "yes"}
		c.NewTargets = append(c.NewTargets, NewTarget{Component: words[1], Spec: spec, Path: words[5]})
	default:
		return fmt.Errorf("no such words")
	}
	return nil
}
