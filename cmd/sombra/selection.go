package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// addSelectors adds the flags that name writers and components.
func addSelectors(cmd *cobra.Command, s *requester.Selectors) {
	f := cmd.Flags()
	f.StringArrayVar(&s.Writers, "writer", nil, "take only this `writer`: name, instance name or GUID; repeatable")
	f.StringArrayVar(&s.ExcludeWriters, "exclude-writer", nil, "leave this `writer` out")
	f.StringArrayVar(&s.Components, "component", nil, "take this `component`: name, full path, or writer:component")
	f.StringArrayVar(&s.ExcludeComponents, "exclude-component", nil, "leave this `component` out")
}

// backupTypes are the types of backup.
var backupTypes = []string{"copy", "full", "incremental", "differential", "log"}

// backupFlags are those of backup and plan.
type backupFlags struct {
	request     requester.Request
	typ         string
	typesFor    []string
	consistency string
	provider    string
	excludeFile []string
	filesFrom   []string
	noDiscovery bool
	limits      limitFlags
	own         string // the repository's directory, if below the paths
}

func (b *backupFlags) add(cmd *cobra.Command) {
	r := &b.request
	addSelectors(cmd, &r.Selectors)
	addChoice(cmd, &b.typ, "type", "type", "type of backup: copy (the default; changes nothing for the writers), full, incremental, differential or log", backupTypes...)
	cmd.Flags().BoolVar(&r.StrictType, "strict-type", false, "leave writers that do not know log backups out of one, where otherwise they get a full one")
	cmd.Flags().StringArrayVar(&b.typesFor, "type-for", nil, "give a writer or component a type of its own, as in `SELECTOR=TYPE`: it gets a backup of its own, after the others; repeatable, the last that names a component counts")
	addChoice(cmd, &b.consistency, "consistency", "level", "least level wanted, app, crash or none; out of reach is an error before anything is frozen", "app", "crash", "none")
	f := cmd.Flags()
	f.StringArrayVarP(&r.Exclude, "exclude", "e", nil, "leave out paths that match this `pattern` (data of no writer)")
	f.StringArrayVar(&b.excludeFile, "exclude-file", nil, "read exclude patterns from a `file`, one a line")
	f.StringArrayVar(&b.filesFrom, "files-from", nil, "read paths from a `file`, one a line")
	f.BoolVar(&r.OneFileSystem, "one-file-system", false, "leave out volumes mounted or nested below the paths")
	f.BoolVar(&r.AsPlainFiles, "as-plain-files", false, "take files of writers that are left out or fail as data of no writer")
	f.BoolVar(&r.Reread, "reread", false, "read every file, even if unchanged since the last backup")
	f.BoolVar(&r.NoPartial, "no-partial", false, "tell writers that files are saved whole only, not by ranges; ranges that one lists all the same fail its component")
	f.IntVar(&r.KeepBaseShadow, "keep-base-shadow", 0, "keep the shadow copies of the `N` newest backups (1 without a number), so that the next one reads only what changed in large files, where the file system tells")
	f.Lookup("keep-base-shadow").NoOptDefVal = "1"
	f.BoolVar(&r.SystemState, "system-state", false, "take the system state in")
	f.StringArrayVar(&r.Tags, "tag", nil, "`tag` the backup; repeatable")
	mark(f, settable, "type", "strict-type", "type-for", "consistency", "writer", "exclude-writer", "component", "exclude-component", "exclude",
		"exclude-file", "one-file-system", "as-plain-files", "reread", "no-partial", "keep-base-shadow", "tag")
	mark(f, addsUp, "exclude-writer", "exclude-component", "exclude", "exclude-file", "tag")
	b.addService(cmd)
}

// addService adds the flags that concern the shadow copies themselves.
func (b *backupFlags) addService(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&b.provider, "provider", "", "use this `provider` for all volumes: name or GUID")
	f.BoolVar(&b.request.NoWriters, "no-writers", false, "take part of no writer: nothing is application-consistent")
	f.BoolVar(&b.noDiscovery, "no-discovery", false, "use only configured writers")
	mark(f, settable, "provider", "no-writers", "no-discovery")
	b.limits.add(cmd)
}

// fill completes the request from arguments, files and configuration.
func (b *backupFlags) fill(cmd *cobra.Command, a *app, args []string) (requester.Opener, error) {
	ctx, r := cmd.Context(), &b.request
	for _, name := range b.filesFrom {
		lines, err := readLines(name)
		if err != nil {
			return nil, err
		}
		args = append(args, lines...)
	}
	for _, name := range b.excludeFile {
		lines, err := readLines(name)
		if err != nil {
			return nil, err
		}
		r.Exclude = append(r.Exclude, lines...)
	}
	if len(args) == 0 && len(b.filesFrom) == 0 && !cmd.Flags().Changed("writer") && !cmd.Flags().Changed("component") {
		args = a.config.Paths
	}
	var err error
	if r.Paths, err = existing(args); err != nil {
		return nil, err
	}
	if err := a.warnLinks(r.Paths); err != nil {
		return nil, err
	}
	if len(r.Paths) == 0 && !r.Selectors.Includes() && !r.SystemState {
		return nil, &hintError{errors.New("nothing to back up is named"), "give paths, --writer or --component, or paths: in the configuration"}
	}
	if b.own = a.repositoryIn(r.Paths); b.own != "" {
		r.Exclude = append(r.Exclude, literal.Replace(filepath.ToSlash(b.own)))
	}
	for _, tag := range r.Tags {
		if tag == "" || printable(tag) != tag {
			return nil, fmt.Errorf("tag %q is empty or holds characters that cannot be shown", tag)
		}
	}
	if b.typ != "" {
		if r.Type, err = vss.ParseBackupType(b.typ); err != nil {
			return nil, err
		}
	}
	if r.TypesFor, err = typesFor(b.typesFor); err != nil {
		return nil, err
	}
	r.Consistency = map[string]session.Level{"crash": session.LevelCrash, "app": session.LevelApp}[b.consistency]
	o, err := a.config.sessionOptions(b.limits)
	if err != nil {
		return nil, err
	}
	o.Paths, o.Exclude, o.NoDiscovery = lookIn(r, a.config), r.Exclude, b.noDiscovery || r.NoWriters
	o.Running = len(r.Paths) == 0 && namesWriters(r.Selectors)
	r.Program, r.User = "sombra "+version, userName()
	open := a.sessions(o)
	if b.provider != "" {
		r.Provider, err = chooseProvider(ctx, open, b.provider, r.Paths)
	}
	return open, err
}

// typesFor reads values of --type-for. A component's name may have an equals sign.
func typesFor(list []string) (out []requester.TypeFor, err error) {
	for _, text := range list {
		i := strings.LastIndexByte(text, '=')
		if i <= 0 {
			return nil, &hintError{fmt.Errorf("--type-for %s names no type", printable(text)), "write it as SELECTOR=TYPE, as in: --type-for 'shop=full'"}
		}
		t, err := vss.ParseBackupType(text[i+1:])
		if err != nil || t == vss.BackupTypeUndefined || t == vss.BackupTypeOther {
			return nil, fmt.Errorf("--type-for %s: %q is not copy, full, incremental, differential or log", printable(text), text[i+1:])
		}
		out = append(out, requester.TypeFor{Selector: text[:i], Type: t})
	}
	return out, nil
}

// warnLinks says of paths that are symbolic links that only the links are saved,
// which is seldom what is meant.
func (a *app) warnLinks(paths []string) error {
	for _, p := range paths {
		target, err := os.Readlink(p)
		if err != nil {
			continue // it is none
		}
		if err := a.warn("%s is a symbolic link: it is saved as such, without what it leads to; name %s as well, if that is meant", p, target); err != nil {
			return err
		}
	}
	return nil
}

// repositoryIn gives the repository's directory if it lies below one of the paths:
// it would be backed up into itself, more with every backup.
func (a *app) repositoryIn(paths []string) string {
	u, err := store.Locate(a.repo)
	if a.repo == "" || err != nil || u.Scheme != "file" {
		return ""
	}
	dir, err := filepath.EvalSymlinks(filepath.FromSlash(u.Path))
	if err != nil {
		return "" // it is not there, which is told when it is opened
	}
	for _, p := range paths {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		if rel, err := filepath.Rel(p, dir); err == nil && filepath.IsLocal(rel) {
			return dir
		}
	}
	return ""
}

// tellOwn says that the repository is left out of its own backup.
func (b *backupFlags) tellOwn(a *app) {
	if b.own != "" {
		a.printf("left out: %s, which is this repository itself\n", printable(b.own))
	}
}

// literal makes a pattern of a path that matches only it.
var literal = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

// lookIn is where writers look for their data: below the paths chosen, or, where
// components are named instead, below those usual here, and where a component
// is named as a file.
func lookIn(r *requester.Request, c *config) []string {
	paths := slices.Clone(r.Paths)
	if len(paths) == 0 {
		paths = append(paths, c.Paths...)
	}
	for _, name := range r.Selectors.Components {
		if i := strings.Index(name, ":/"); i >= 0 {
			name = name[i+1:]
		}
		if _, err := os.Lstat(name); err == nil && filepath.IsAbs(name) {
			paths = append(paths, filepath.Clean(name))
		}
	}
	return paths
}

// namesWriters reports whether writers are chosen by name, so that those of
// servers that run are to be found wherever their data lies.
func namesWriters(s requester.Selectors) bool {
	return len(s.Writers) > 0 || slices.ContainsFunc(s.Components, func(name string) bool {
		return strings.Contains(name, ":") && !filepath.IsAbs(name)
	})
}

// existing makes paths absolute, and refuses those that are not there.
func existing(paths []string) ([]string, error) {
	var list []string
	for _, p := range paths {
		if p == "" {
			return nil, errors.New("a path is empty")
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		if _, err := os.Lstat(abs); err != nil {
			return nil, pathError(err)
		}
		list = append(list, abs)
	}
	return list, nil
}

// pathError is an error without the system call it comes from.
func pathError(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return fmt.Errorf("%s: %w", e.Path, e.Err)
	}
	return err
}

// chooseProvider finds a provider by name or GUID. One that is asked for by name
// must serve the paths: what it does not serve would be read without it.
func chooseProvider(ctx context.Context, open requester.Opener, word string, paths []string) (vss.GUID, error) {
	s, err := open(ctx)
	if err != nil {
		return vss.GUID{}, err
	}
	defer s.Close()
	p, err := findProvider(ctx, s, word)
	if err != nil {
		return vss.GUID{}, err
	}
	for _, path := range paths {
		loc, err := s.ResolvePath(ctx, path)
		if err != nil {
			return vss.GUID{}, err
		}
		if _, err := s.IsVolumeSupported(ctx, p.ID, loc.Volume); err != nil {
			return vss.GUID{}, &hintError{fmt.Errorf("provider %s does not serve %s: %w", p.Name, path, cause(err)),
				"which one does is told by: sombra providers " + path}
		}
	}
	return p.ID, nil
}

func findProvider(ctx context.Context, s session.Session, word string) (session.Provider, error) {
	list, err := s.QueryProviders(ctx)
	if err != nil {
		return session.Provider{}, err
	}
	var names []string
	for _, p := range list {
		names = append(names, p.Name)
		if id, err := vss.ParseGUID(word); strings.EqualFold(p.Name, word) || err == nil && id == p.ID {
			return p, nil
		}
	}
	return session.Provider{}, &hintError{fmt.Errorf("no provider is called %q", word), "there are: " + strings.Join(names, ", ")}
}

// cause is what is particular in an error with one of the model's codes.
func cause(err error) error {
	var e *vss.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err
	}
	return err
}

// readLines reads a file's lines without empty ones and comments.
func readLines(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, pathError(err)
	}
	defer f.Close()
	var lines []string
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if line := strings.TrimSpace(sc.Text()); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return lines, nil
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Geteuid())
}
