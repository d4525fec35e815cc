// Package cases reads the configurations in the Test Writer's testdata, each of
// which proves one rule: what tree it is for, what a backup of it must hold, and
// what must be there after everything was deleted and restored. The writer's own
// tests and those of a requester run them.
//
// A case is a txtar archive; testdata/README.md describes its sections.
package cases

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// DirVariable is the environment variable by which a configuration names the
// directory its tree is in.
const DirVariable = "SOMBRA_TEST_DIR"

// Case is one configuration with all that is known of it. Paths are relative to
// the directory of the tree, with slashes.
type Case struct {
	Name    string // of the file, such as "R-SET-12-alternate-path"
	Comment string
	Config  []byte

	// Type is the backup to make. If Base is set, a backup of that type is made
	// before, of the tree as it is.
	Type, Base vss.BackupType
	Env        map[string]string // more variables the paths use
	NoPartial  bool              // the requester takes no partial files
	Add        []string          // components a user chooses; all if empty
	Explicit   []string          // components that must be explicit, sorted
	Outcome    Outcome
	Fails      *Failure

	Dirs  []string          // empty directories
	Tree  map[string][]byte // files and their content
	Times map[string]time.Time

	Saved []Saved
	// Live is what is left after the backup, files only; nil means all.
	Live []string

	Select        []string // components to restore; all explicit ones if empty
	Subcomponents []Subcomponent
	NewTargets    []NewTarget
	Before        map[string][]byte // files put there before the restore
	// Restored is everything below the directory after the restore, directories
	// with a slash at their end; nil if nothing is restored.
	Restored []string
	content  map[string][]byte
}

// Outcome is how a backup must end.
type Outcome string

// Outcomes.
const (
	Complete   Outcome = "complete"
	Incomplete Outcome = "incomplete" // the writer's components fail
	Absent     Outcome = "absent"     // the writer is not in the list
)

// Failure is the event in which the writer must fail, with one of the codes.
type Failure struct {
	Event writer.EventKind
	Codes []vss.Code
}

// Saved is one file that the backup must hold.
type Saved struct {
	Path   string
	From   string     // the alternate path it is read from; empty mostly
	Ranges vss.Ranges // nil means the whole file
}

// Subcomponent is an argument of AddRestoreSubcomponent, as full paths.
type Subcomponent struct{ Of, Name string }

// NewTarget is an argument of AddNewTarget. Paths hold the variable.
type NewTarget struct {
	Component string
	Spec      vss.FileSpec
	Path      string
}

// Load reads all cases in a directory, sorted by name.
func Load(dir string) ([]*Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no cases", dir)
	}
	var all []*Case
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		c, err := Parse(strings.TrimSuffix(filepath.Base(f), ".txtar"), data)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// Make makes the tree in a directory that is there.
func (c *Case) Make(dir string) error {
	for _, d := range c.Dirs {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(d)), 0o755); err != nil {
			return err
		}
	}
	if err := Write(dir, c.Tree); err != nil {
		return err
	}
	for name, t := range c.Times {
		if err := os.Chtimes(filepath.Join(dir, filepath.FromSlash(name)), t, t); err != nil {
			return err
		}
	}
	return nil
}

// Write writes files below a directory.
func Write(dir string, files map[string][]byte) error {
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// List gives everything below a directory as Restored has it.
func List(dir string) ([]string, error) {
	var all []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if d.IsDir() {
			name += "/"
		}
		all = append(all, name)
		return nil
	})
	slices.Sort(all)
	return all, err
}

// Content gives what a file of Restored must hold. A file of which only ranges
// were saved is right if those are; the rest of it may be anything.
func (c *Case) Content(name string) []byte {
	if b, ok := c.content[name]; ok {
		return b
	}
	return c.Tree[name]
}

// Ranges gives the ranges of a file in which its content counts, nil for all.
func (c *Case) Ranges(name string) vss.Ranges {
	for _, s := range c.Saved {
		if s.Path == name {
			return s.Ranges
		}
	}
	return nil
}

// archive is the sections of a txtar archive.
type archive struct {
	name     string
	sections map[string][]byte
}

func open(name string, data []byte) (archive, string, error) {
	a := txtar.Parse(data)
	out := archive{name: name, sections: map[string][]byte{}}
	for _, f := range a.Files {
		if _, twice := out.sections[f.Name]; twice {
			return out, "", fmt.Errorf("%s: section %s stands twice", name, f.Name)
		}
		out.sections[f.Name] = f.Data
	}
	return out, strings.TrimSpace(string(a.Comment)), nil
}

// take removes a section and gives its lines, nil if it is not there.
func (a archive) take(section string) []string {
	data, ok := a.sections[section]
	if !ok {
		return nil
	}
	delete(a.sections, section)
	lines := []string{}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// takeFiles removes the sections below a directory and gives their content.
func (a archive) takeFiles(dir string) map[string][]byte {
	files := map[string][]byte{}
	for name, data := range a.sections {
		if rest, ok := strings.CutPrefix(name, dir+"/"); ok {
			files[rest] = data
			delete(a.sections, name)
		}
	}
	return files
}
