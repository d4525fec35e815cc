package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

func newFind(a *app) *cobra.Command {
	var f finder
	var newer, older, sizes string
	cmd := &cobra.Command{
		Use:   "find PATTERN...",
		Short: "Find files in all backups",
		Long: `Find files in all backups, or in those chosen. A version of a file that several
backups hold is shown once, with the first and the last of them.

A PATTERN without a slash is matched with names, one that begins with a slash
with whole paths of the host, any other one with the ends of paths. "*" and "?"
match within one name, "[a-z]" a character, "**" any number of names.`,
		Example: `  sombra find passwd
  sombra find --newer 7d --size +100M '*.log'
  sombra find --host web1 '/etc/**/*.conf'`,
		Args: takes("PATTERN..."),
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			var err error
			if newer != "" {
				if f.newer, err = parseWhen(newer, now); err != nil {
					return fmt.Errorf("--newer: %w", err)
				}
			}
			if older != "" {
				if f.older, err = parseWhen(older, now); err != nil {
					return fmt.Errorf("--older: %w", err)
				}
			}
			f.sizes = sizeRange{0, 1<<63 - 1}
			if sizes != "" {
				if f.sizes, err = parseSizes(sizes); err != nil {
					return fmt.Errorf("--size: %w", err)
				}
			}
			for _, text := range args {
				p, err := parseNamePattern(text)
				if err != nil {
					return err
				}
				f.patterns = append(f.patterns, p)
			}
			f.app = a
			return f.run(cmd.Context())
		},
	}
	f.chosen.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&newer, "newer", "", "only what was modified after this `time`, or less long ago")
	fl.StringVar(&older, "older", "", "only what was modified before this `time`, or longer ago")
	fl.StringVar(&sizes, "size", "", "only files of this `size`: 10M, +10M for more, -10M for less")
	addChoice(cmd, &f.typ, "type", "type", "only entries of this type: "+strings.Join(findTypes, ", "), findTypes...)
	fl.BoolVarP(&f.fold, "ignore-case", "i", false, "take upper and lower case for the same")
	fl.BoolVarP(&f.all, "all", "a", false, "show what each backup holds, one line each")
	return cmd
}

// findTypes are the types of entries by name.
var findTypes = []string{"file", "dir", "symlink", "fifo", "socket", "chardev", "blockdev", "reparse"}

// matchLine is a version of a file as a JSON line.
type matchLine struct {
	Path     string    `json:"path"`
	Host     string    `json:"host"`
	Type     string    `json:"type"`
	Mode     string    `json:"mode"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"mtime"`
	Target   string    `json:"target,omitempty"`
	// Count is the number of backups that hold it; First and Last are the
	// oldest and the newest of them.
	Count     int       `json:"count"`
	First     string    `json:"first"`
	FirstTime time.Time `json:"first_time"`
	Last      string    `json:"last"`
	LastTime  time.Time `json:"last_time"`
	Backups   []string  `json:"backups"`
}

// finder is one search.
type finder struct {
	*app
	chosen       chosenRecords
	patterns     []namePattern
	newer, older time.Time
	sizes        sizeRange
	typ          string
	fold, all    bool

	found    map[foundPlace][]*foundVersion
	versions int
}

// foundPlace is a file of a host.
type foundPlace struct{ host, root, path string }

// foundVersion is one state of a file, and who has it.
type foundVersion struct {
	entry   *repository.Entry
	records []*repository.Record
}

// maxVersions bounds the memory of a search.
const maxVersions = 1 << 20

func (f *finder) run(ctx context.Context) error {
	repo, err := f.openRepository(ctx)
	if err != nil {
		return err
	}
	defer repo.Close()
	records, damaged := f.chosen.of(ctx, f.app, repo)
	if damaged != nil && !errors.Is(damaged, repository.ErrDamaged) {
		return damaged
	}
	f.found = map[foundPlace][]*foundVersion{}
	out := bufio.NewWriter(f.stdout)
	matches := 0
	s := repository.Search{
		Match: f.matches,
		Damaged: func(rec *repository.Record, _, path string, err error) error {
			damaged = errors.Join(damaged, fmt.Errorf("backup %s, from %s on: %w", rec.ID.Short(), requester.HostPath(styleOf(rec), path), err))
			return nil
		},
	}
	for _, rec := range records {
		err := s.Record(ctx, rec, func(e *repository.Entry) error {
			matches++
			if f.all {
				return f.print(out, &foundVersion{e, []*repository.Record{rec}})
			}
			return f.note(rec, e)
		})
		if err != nil {
			return errors.Join(err, out.Flush())
		}
	}
	if !f.all {
		matches = f.versions
		err = f.printAll(out)
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		return err
	}
	noun := "version"
	if f.all {
		noun = "entry"
	}
	f.printf("%s in %s\n", plural(matches, noun), plural(len(records), "backup"))
	return damaged
}

// matches says whether an entry is looked for.
func (f *finder) matches(e *repository.Entry) bool {
	if f.typ != "" && e.Type.String() != f.typ && findTypes[e.Type-1] != f.typ {
		return false
	}
	if e.Size < f.sizes.least || e.Size > f.sizes.most || !f.newer.IsZero() && !e.ModTime.After(f.newer) || !f.older.IsZero() && !e.ModTime.Before(f.older) {
		return false
	}
	return slices.ContainsFunc(f.patterns, func(p namePattern) bool { return p.match(e.Path, f.fold) })
}

// note takes in a match.
func (f *finder) note(rec *repository.Record, e *repository.Entry) error {
	place := foundPlace{rec.Host.Name, e.Root, e.Path}
	for _, v := range f.found[place] {
		if v.entry == e || v.entry.Changes(e)&sameVersion == 0 {
			v.records = append(v.records, rec)
			return nil
		}
	}
	if f.versions++; f.versions > maxVersions {
		return &hintError{fmt.Errorf("more than %d versions match", maxVersions), "narrow the pattern, choose backups, or use --all"}
	}
	f.found[place] = append(f.found[place], &foundVersion{e, []*repository.Record{rec}})
	return nil
}

// sameVersion is what two entries of one version may not differ in.
const sameVersion = repository.ChangedType | repository.ChangedContent | repository.ChangedTarget | repository.ChangedModTime |
	repository.ChangedMode | repository.ChangedOwner

// printAll prints the versions by host and path.
func (f *finder) printAll(out *bufio.Writer) error {
	places := make([]foundPlace, 0, len(f.found))
	for p := range f.found {
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b foundPlace) int {
		if c := strings.Compare(a.host, b.host); c != 0 {
			return c
		}
		return repository.ComparePaths(a.root, a.path, b.root, b.path)
	})
	for _, p := range places {
		for _, v := range f.found[p] {
			if err := f.print(out, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// print prints one version.
func (f *finder) print(out *bufio.Writer, v *foundVersion) error {
	e, first, last := v.entry, v.records[0], v.records[len(v.records)-1]
	p := requester.HostPath(styleOf(first), e.Path)
	if f.json {
		l := matchLine{Path: p, Host: first.Host.Name, Type: e.Type.String(), Mode: fmt.Sprintf("%04o", e.Mode), Size: e.Size, Modified: e.ModTime, Target: e.LinkTarget,
			Count: len(v.records), First: first.ID.String(), FirstTime: first.Time, Last: last.ID.String(), LastTime: last.Time}
		for _, r := range v.records {
			l.Backups = append(l.Backups, r.ID.String())
		}
		line, err := jsonLine("match", l)
		if err == nil {
			_, err = out.Write(line)
		}
		return err
	}
	where := fmt.Sprintf("%s of %s", first.ID.Short(), shortTime(first.Time))
	if n := len(v.records); n > 1 {
		where = fmt.Sprintf("%d backups, %s to %s of %s", n, where, last.ID.Short(), shortTime(last.Time))
	}
	p = printable(p)
	if e.LinkTarget != "" {
		p += " -> " + printable(e.LinkTarget)
	}
	_, err := fmt.Fprintf(out, "%-9s %12d %s  %s  [%s: %s]\n", e.Type, e.Size, e.ModTime.Local().Format(time.DateTime), p, printable(first.Host.Name), where)
	return err
}

// shortTime shows when a backup was made.
func shortTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

// namePattern matches paths of the file table as a whole.
type namePattern struct {
	parts    []string
	anchored bool
}

// parseNamePattern reads a pattern.
func parseNamePattern(text string) (namePattern, error) {
	var p namePattern
	s := text
	if len(s) > 2 && s[1] == ':' && (s[2] == '\\' || s[2] == '/') {
		s = "/" + requester.TablePath(vss.Windows, s)
	}
	s, p.anchored = strings.CutPrefix(s, "/")
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || part == "." {
			continue
		}
		if _, err := path.Match(part, ""); err != nil {
			return p, fmt.Errorf("pattern %q: %q is malformed", text, part)
		}
		p.parts = append(p.parts, part)
	}
	if len(p.parts) > 1000 {
		return p, fmt.Errorf("pattern %.60q has more than 1000 parts", text)
	}
	if len(p.parts) == 0 && !p.anchored {
		return p, fmt.Errorf("pattern %q is empty", text)
	}
	return p, nil
}

// match says whether the pattern matches the place or, if it is not anchored,
// an end of it. It keeps the set of positions reached, so that its time is
// bounded by the product of the lengths.
func (p *namePattern) match(place string, fold bool) bool {
	var names []string
	if place != "" {
		names = strings.Split(place, "/")
	}
	at := make([]bool, len(names)+1)
	at[0] = true
	if !p.anchored {
		if len(p.parts) == 1 && len(names) > 0 {
			return matchName(p.parts[0], names[len(names)-1], fold)
		}
		for i := range names {
			at[i] = true
		}
	}
	for _, part := range p.parts {
		next := make([]bool, len(at))
		reached := false
		for i, here := range at {
			switch {
			case !here && !(part == "**" && reached):
			case part == "**":
				next[i], reached = true, true
			case i < len(names) && matchName(part, names[i], fold):
				next[i+1] = true
			}
		}
		at = next
	}
	return at[len(names)]
}

func matchName(part, name string, fold bool) bool {
	if part == "**" {
		return true
	}
	if fold {
		part, name = strings.ToLower(part), strings.ToLower(name)
	}
	ok, _ := path.Match(part, name)
	return ok
}
