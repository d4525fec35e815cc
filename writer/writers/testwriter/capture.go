package testwriter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// plan is what a backup makes of one explicit component and its set.
type plan struct {
	component *Component
	members   []*Component
	typ       vss.BackupType // as the writer acts on it
	differ    bool           // differenced files are used (R-SET-32)
	partial   map[string]vss.Ranges
	since     []differenced
	exclude   *matcher
	style     vss.PathStyle
	env       environment
	manifest  manifest

	// What PostSnapshot deletes.
	files, partials, differs []string
}

// differenced is a DifferencedFile with its path expanded.
type differenced struct {
	vss.FileSpec
	after time.Time
	of    DifferencedFile
	used  bool // it equals a file set (R-SET-33)
}

// newPlan expands what the configuration says of a component for a backup.
func (c *Config) newPlan(comp *Component, t vss.BackupType, partialSupport bool, style vss.PathStyle, env environment) (*plan, error) {
	p := &plan{component: comp, members: c.members(comp), typ: t, style: style, env: env, partial: map[string]vss.Ranges{}}
	if !c.supportsType(t) || t == vss.BackupTypeCopy {
		p.typ = vss.BackupTypeFull // R-SET-25, R-SET-30
	}
	p.differ = (p.typ == vss.BackupTypeIncremental || p.typ == vss.BackupTypeDifferential) && c.schema()&vss.SchemaLastModify != 0
	var err error
	if p.exclude, err = newMatcher(c.ExcludeFiles, style, env); err != nil {
		return nil, err
	}
	for _, m := range p.members {
		for _, f := range m.Partial {
			if !partialSupport {
				continue // R-SET-35: saved as any other file
			}
			dir, err := env.expand(f.Path)
			if err != nil {
				return nil, err
			}
			if p.partial[style.Key(filepath.Join(dir, f.Name))], err = rangesOf(f.Ranges, env); err != nil {
				return nil, fmt.Errorf("partial file %s: %w", f.Name, err)
			}
		}
		for _, d := range m.Differenced {
			spec, err := d.FileSpec.Expand(env.lookup)
			if err != nil {
				return nil, err
			}
			p.since = append(p.since, differenced{FileSpec: spec, after: d.Since, of: d})
		}
	}
	return p, nil
}

// rangesOf reads a list of ranges, or the ranges file it names (R-SET-38). It
// never gives nil, which would be a whole file.
func rangesOf(text string, env environment) (vss.Ranges, error) {
	ranges, file, err := vss.ParseRangesOrFile(text)
	if err != nil || file == "" {
		return append(vss.Ranges{}, ranges.Normalize()...), err
	}
	if file, err = env.expand(file); err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ranges, err = vss.ReadRangesFile(f, -1)
	return append(vss.Ranges{}, ranges.Normalize()...), err
}

// capture notes what a backup made now must hold, and what to delete after it.
// With hashes the content is noted too.
func (p *plan) capture(hashes bool) error {
	for _, m := range p.members {
		for _, f := range m.Files {
			if err := p.captureSet(m, f, hashes); err != nil {
				return err
			}
		}
	}
	return p.captureNew(hashes)
}

func (p *plan) captureSet(m *Component, f File, hashes bool) error {
	dir, err := p.env.expand(f.Path)
	if err != nil {
		return err
	}
	from := dir
	if f.AlternatePath != "" { // R-SET-12
		if from, err = p.env.expand(f.AlternatePath); err != nil {
			return err
		}
	}
	names, err := list(from, f.FileSpec, p.style)
	if err != nil {
		return err
	}
	set := vss.FileSpec{Path: dir, Pattern: f.Pattern, Recursive: f.Recursive}
	since := p.differencedSet(set)
	for _, name := range names {
		normal, source := filepath.Join(dir, name), filepath.Join(from, name)
		if p.exclude.matches(normal) { // R-SET-10, R-SET-11
			continue
		}
		ranges, partial := p.partial[p.style.Key(normal)]
		delete(p.partial, p.style.Key(normal)) // it is none of captureNew's
		saved := false
		switch { // R-SET-41, R-SET-42
		case since != nil:
			p.differs = append(p.differs, source)
			if saved, err = since.newer(source); err != nil {
				return err
			}
			ranges = nil
		case partial:
			p.partials = append(p.partials, source)
			saved = true
		default:
			p.files = append(p.files, source)
			saved = p.due(f)
		}
		if !saved {
			continue
		}
		if err := p.add(newEntry(m, f.FileSpec, name), source, ranges, hashes); err != nil {
			return err
		}
	}
	return nil
}

// due reports whether a set's mask has it saved in this type of backup (R-SET-25,
// R-SET-26; for log, D-29).
func (p *plan) due(f File) bool {
	switch p.typ {
	case vss.BackupTypeIncremental:
		return f.BackupType&vss.IncrementalBackupRequired != 0
	case vss.BackupTypeDifferential:
		return f.BackupType&vss.DifferentialBackupRequired != 0
	case vss.BackupTypeLog:
		return f.BackupType&vss.LogBackupRequired != 0 && (f.Log || f.BackupType&vss.FullBackupRequired == 0)
	}
	return f.BackupType&vss.FullBackupRequired != 0
}

// differencedSet gives the differenced files that equal a file set, nil if none
// do or none are used.
func (p *plan) differencedSet(set vss.FileSpec) *differenced {
	if !p.differ {
		return nil
	}
	for i := range p.since {
		if d := &p.since[i]; d.FileSpec.Equal(set, p.style) {
			d.used = true
			return d
		}
	}
	return nil
}

func (d *differenced) newer(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return info.ModTime().After(d.after), nil
}

// captureNew notes partial and differenced files that no file set claims
// (R-SET-34).
func (p *plan) captureNew(hashes bool) error {
	for _, m := range p.members {
		for _, f := range m.Partial {
			dir, err := p.env.expand(f.Path)
			if err != nil {
				return err
			}
			path := filepath.Join(dir, f.Name)
			ranges, isNew := p.partial[p.style.Key(path)]
			if !isNew || p.exclude.matches(path) { // R-SET-45
				continue
			}
			delete(p.partial, p.style.Key(path))
			p.partials = append(p.partials, path)
			spec := vss.FileSpec{Path: f.Path, Pattern: f.Name}
			if err := p.add(newEntry(m, spec, f.Name), path, ranges, hashes); err != nil {
				return err
			}
		}
	}
	if !p.differ {
		return nil
	}
	for i := range p.since {
		if d := &p.since[i]; !d.used {
			if err := p.captureDifferenced(d, hashes); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *plan) captureDifferenced(d *differenced, hashes bool) error {
	names, err := list(d.Path, d.FileSpec, p.style)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(d.Path, name)
		if p.exclude.matches(path) {
			continue
		}
		p.differs = append(p.differs, path)
		newer, err := d.newer(path)
		if err != nil {
			return err
		}
		if !newer {
			continue
		}
		if err := p.add(newEntry(p.component, d.of.FileSpec, name), path, nil, hashes); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) add(e entry, source string, ranges vss.Ranges, hashes bool) error {
	if !hashes {
		return nil
	}
	if len(p.manifest.Files) >= maxEntries {
		return fmt.Errorf("component %s: more than %d files to be checked; leave out checkIncludes", p.component.FullPath(), maxEntries)
	}
	if err := e.read(source, ranges); err != nil {
		return err
	}
	p.manifest.Files = append(p.manifest.Files, e)
	return nil
}

// remove deletes files, those that are gone already excepted.
func remove(paths []string) error {
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
