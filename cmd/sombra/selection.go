package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

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

// backupFlags are those of backup and plan.
type backupFlags struct {
	request     requester.Request
	typ         string
	consistency string
	provider    string
	excludeFile []string
	filesFrom   []string
	noDiscovery bool
}

func (b *backupFlags) add(cmd *cobra.Command) {
	r := &b.request
	addSelectors(cmd, &r.Selectors)
	f := cmd.Flags()
	f.StringVar(&b.typ, "type", "", "type of `backup`: copy (default; changes nothing for the writers) or full")
	f.StringVar(&b.consistency, "consistency", "", "least `level` wanted: app, crash or none; out of reach is an error before anything is frozen")
	f.StringVar(&b.provider, "provider", "", "use this `provider` for all volumes: name or GUID")
	f.StringArrayVarP(&r.Exclude, "exclude", "e", nil, "leave out paths that match this `pattern` (data of no writer)")
	f.StringArrayVar(&b.excludeFile, "exclude-file", nil, "read exclude patterns from a `file`, one a line")
	f.StringArrayVar(&b.filesFrom, "files-from", nil, "read paths from a `file`, one a line")
	f.BoolVar(&r.OneFileSystem, "one-file-system", false, "leave out volumes mounted or nested below the paths")
	f.BoolVar(&r.NoWriters, "no-writers", false, "take part of no writer: nothing is application-consistent")
	f.BoolVar(&r.AsPlainFiles, "as-plain-files", false, "take files of writers that are left out or fail as data of no writer")
	f.BoolVar(&b.noDiscovery, "no-discovery", false, "use only configured writers")
	f.BoolVar(&r.Reread, "reread", false, "read every file, even if unchanged since the last backup")
	f.BoolVar(&r.SystemState, "system-state", false, "take the system state in")
	f.StringArrayVar(&r.Tags, "tag", nil, "`tag` the backup; repeatable")
}

// fill completes the request from arguments, files and configuration.
func (b *backupFlags) fill(ctx context.Context, a *app, args []string) (requester.Opener, error) {
	r, c := &b.request, a.config
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
	if len(args) == 0 {
		args = c.Paths
	}
	for _, p := range args {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		if _, err := os.Lstat(abs); err != nil {
			return nil, err
		}
		r.Paths = append(r.Paths, abs)
	}
	r.Exclude = append(r.Exclude, c.Exclude...)
	r.Tags = append(r.Tags, c.Tags...)
	r.OneFileSystem = r.OneFileSystem || c.OneFileSystem
	r.Selectors.ExcludeWriters = append(r.Selectors.ExcludeWriters, c.ExcludeWriter...)
	r.Selectors.ExcludeComponents = append(r.Selectors.ExcludeComponents, c.ExcludeComponent...)
	if !r.Selectors.Includes() {
		r.Selectors.Writers, r.Selectors.Components = c.Writer, c.Component
	}
	if len(r.Paths) == 0 && !r.Selectors.Includes() && !r.SystemState {
		return nil, &hintError{errors.New("nothing to back up is named"), "give paths, --writer or --component, or paths: in the configuration"}
	}
	if err := b.words(c); err != nil {
		return nil, err
	}
	o, err := c.sessionOptions()
	if err != nil {
		return nil, err
	}
	o.Paths, o.Exclude, o.NoDiscovery = r.Paths, r.Exclude, o.NoDiscovery || b.noDiscovery
	r.Program, r.User = "sombra "+version, userName(a)
	open := a.sessions(o)
	if b.provider == "" {
		b.provider = c.Provider
	}
	if b.provider != "" {
		r.Provider, err = findProvider(ctx, open, b.provider)
	}
	return open, err
}

// words reads the flags that are one of a few words.
func (b *backupFlags) words(c *config) error {
	if b.typ == "" {
		b.typ = c.Type
	}
	if b.typ != "" {
		t, err := vss.ParseBackupType(b.typ)
		if err != nil {
			return &hintError{fmt.Errorf("backup type %q is not known", b.typ), "use copy or full"}
		}
		b.request.Type = t
	}
	if b.consistency == "" {
		b.consistency = c.Consistency
	}
	switch b.consistency {
	case "", "none":
	case "crash":
		b.request.Consistency = session.LevelCrash
	case "app":
		b.request.Consistency = session.LevelApp
	default:
		return &hintError{fmt.Errorf("consistency %q is not known", b.consistency), "use app, crash or none"}
	}
	return nil
}

// findProvider finds a provider by name or GUID.
func findProvider(ctx context.Context, open requester.Opener, word string) (vss.GUID, error) {
	s, err := open(ctx)
	if err != nil {
		return vss.GUID{}, err
	}
	defer s.Close()
	list, err := s.QueryProviders(ctx)
	if err != nil {
		return vss.GUID{}, err
	}
	var names []string
	for _, p := range list {
		names = append(names, p.Name)
		if id, err := vss.ParseGUID(word); strings.EqualFold(p.Name, word) || err == nil && id == p.ID {
			return p.ID, nil
		}
	}
	return vss.GUID{}, &hintError{fmt.Errorf("no provider is called %q", word), "there are " + strings.Join(names, ", ")}
}

// readLines reads a file's lines without empty ones and comments.
func readLines(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
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

func userName(a *app) string {
	if u := a.getenv("USER"); u != "" {
		return u
	}
	return fmt.Sprintf("uid %d", os.Geteuid())
}
