package testwriter

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// maxProblems bounds how many problems of one component are told.
const maxProblems = 50

// PreRestore implements [writer.PreRestorer].
func (w *testWriter) PreRestore(_ context.Context, e *writer.Event) error {
	w.log.event("PreRestore: session %v", e.SessionID)
	for _, c := range selected(e) {
		w.log.detail("PreRestore: component %s", c.FullPath())
	}
	return w.fails.at(writer.EventPreRestore, w.log)
}

// PostRestore implements [writer.PostRestorer]: what the configuration wants
// checked is checked (T-6). What is wrong is printed, set as the component's
// failure message, and fails the event.
func (w *testWriter) PostRestore(_ context.Context, e *writer.Event) error {
	w.log.event("PostRestore")
	if err := w.fails.at(writer.EventPostRestore, w.log); err != nil {
		return err
	}
	total := 0
	for _, c := range selected(e) {
		problems, err := w.check(c)
		if err != nil {
			problems = append(problems, err.Error())
		}
		total += len(problems)
		for _, text := range problems {
			w.log.wrong("component %s: %s", c.FullPath(), text)
		}
		if len(problems) > maxProblems {
			problems = append(problems[:maxProblems], fmt.Sprintf("and %d more", len(problems)-maxProblems))
		}
		if len(problems) == 0 {
			continue
		}
		text := strings.ToValidUTF8(strings.Join(problems, "; "), "?")
		if err := c.SetPostRestoreFailureMsg(text); err != nil {
			return err
		}
		e.SetWriterFailure(vss.ErrWriterErrorNonRetryable, 0, c.FullPath()+": "+text)
	}
	if total > 0 {
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, "PostRestore", "test writer", "the restore has %d faults, the last of them: %s", total, e.Failure.Message)
	}
	return nil
}

// selected gives the components that take part in a restore.
func selected(e *writer.Event) []*metadata.Component {
	if e.Components == nil {
		return nil
	}
	var out []*metadata.Component
	for _, c := range e.Components.Components() {
		if ok, _ := c.SelectedForRestore(); ok {
			out = append(out, c)
		}
	}
	return out
}

// check tells what is wrong with the restore of one component set.
func (w *testWriter) check(c *metadata.Component) ([]string, error) {
	if status := c.FileRestoreStatus(); status != vss.FileRestoreStatusAll {
		w.log.event("PostRestore: component %s is not checked, its restore ended with %v", c.FullPath(), status)
		return nil, nil
	}
	if c.AdditionalRestores() { // R-RES-28: the files may be of a later backup already
		w.log.event("PostRestore: component %s is not checked before its last restore", c.FullPath())
		return nil, nil
	}
	var problems []string
	if w.config.Check.Includes {
		text, ok := c.BackupMetadata()
		if !ok {
			return []string{"its backup metadata, which say what was saved, are gone"}, nil
		}
		m, err := decodeManifest(text)
		if err != nil {
			return nil, err
		}
		if problems, err = w.checkIncludes(c, m); err != nil {
			return problems, err
		}
	}
	if w.config.Check.Excludes {
		found, err := w.checkExcludes(c)
		problems = append(problems, found...)
		if err != nil {
			return problems, err
		}
	}
	return problems, nil
}

func (w *testWriter) checkIncludes(c *metadata.Component, m *manifest) ([]string, error) {
	var problems []string
	checked := 0
	for i := range m.Files {
		e := &m.Files[i]
		if !restores(c, e.Component) {
			continue
		}
		place, err := w.placeOf(c, e.spec())
		if err != nil {
			return problems, err
		}
		checked++
		path := filepath.Join(place.dir, e.name())
		wrong := e.compare(path)
		if wrong == "" {
			continue
		}
		if other, err := w.untold(c, place, e); err != nil {
			return problems, err
		} else if other != "" {
			wrong = "was restored to " + other + ", but AddAlternativeLocationMapping was not called"
		}
		problems = append(problems, path+" "+wrong)
	}
	w.log.event("PostRestore: component %s: %d files checked, %d wrong", c.FullPath(), checked, len(problems))
	return problems, nil
}

// restores reports whether a member of a component set is restored: all are,
// unless subcomponents were named (R-SEL-23, R-SEL-26).
func restores(c *metadata.Component, member string) bool {
	subs := c.RestoreSubcomponents()
	for _, s := range subs {
		full := vss.FullPath(s.LogicalPath, s.Name)
		if member == full || strings.HasPrefix(member, full+`\`) {
			return true
		}
	}
	return len(subs) == 0
}

// place is where the files of a file set should be after a restore.
type place struct {
	dir      string
	original bool // it is their own
}

// placeOf follows a new target before all else (R-RES-21), and then a mapping
// that the requester says it used (R-RES-19).
func (w *testWriter) placeOf(c *metadata.Component, spec vss.FileSpec) (place, error) {
	for _, t := range c.NewTargets() {
		if t.Equal(spec, w.style) {
			dir, err := w.env.expand(t.NewPath)
			return place{dir: dir}, err
		}
	}
	for _, m := range c.AlternateLocationMappings() {
		if m.Equal(spec, w.style) {
			dir, err := w.env.expand(m.AlternatePath)
			return place{dir: dir}, err
		}
	}
	dir, err := w.env.expand(spec.Path)
	return place{dir: dir, original: true}, err
}

// untold finds a file that is not at its own place where one of the writer's
// own mappings would have led it.
func (w *testWriter) untold(c *metadata.Component, at place, e *entry) (string, error) {
	if !at.original {
		return "", nil
	}
	for _, m := range w.config.Mappings {
		if !m.Equal(e.spec(), w.style) {
			continue
		}
		dir, err := w.env.expand(m.AlternatePath)
		if err != nil {
			return "", err
		}
		if path := filepath.Join(dir, e.name()); e.compare(path) == "" {
			return path, nil
		}
	}
	return "", nil
}

// checkExcludes looks for excluded files wherever files of the component set
// were restored to, and at the places the exclusions name. It can tell only if
// those were emptied before the restore.
func (w *testWriter) checkExcludes(c *metadata.Component) ([]string, error) {
	exclude, err := newMatcher(w.config.ExcludeFiles, w.style, w.env)
	if err != nil {
		return nil, err
	}
	var problems []string
	seen := map[string]bool{}
	note := func(path string) {
		if !seen[path] {
			seen[path] = true
			problems = append(problems, path+" is excluded, and is there after the restore")
		}
	}
	for _, s := range exclude.specs {
		names, err := list(s.Path, s, w.style)
		if err != nil {
			return problems, err
		}
		for _, name := range names {
			note(filepath.Join(s.Path, name))
		}
	}
	own := w.config.component(c.LogicalPath(), c.Name())
	if own == nil {
		return problems, nil
	}
	for _, m := range w.config.members(own) {
		for _, f := range m.Files {
			if err := w.excludedAt(c, f.FileSpec, exclude, note); err != nil {
				return problems, err
			}
		}
	}
	return problems, nil
}

// excludedAt looks where a file set was restored to, if that is not its own
// place, for files whose own paths are excluded.
func (w *testWriter) excludedAt(c *metadata.Component, spec vss.FileSpec, exclude *matcher, note func(string)) error {
	at, err := w.placeOf(c, spec)
	if err != nil || at.original {
		return err
	}
	own, err := w.env.expand(spec.Path)
	if err != nil {
		return err
	}
	names, err := list(at.dir, spec, w.style)
	if err != nil {
		return err
	}
	for _, name := range names {
		if exclude.matches(filepath.Join(own, name)) {
			note(filepath.Join(at.dir, name))
		}
	}
	return nil
}
