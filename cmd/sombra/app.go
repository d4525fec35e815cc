package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/btrfs"
	"github.com/sombra-backup/sombra/provider/providers/precopy"
	"github.com/sombra-backup/sombra/provider/providers/reflink"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/session/coordinator"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/etcd"
	"github.com/sombra-backup/sombra/writer/writers/hooks"
	"github.com/sombra-backup/sombra/writer/writers/mariadb"
	"github.com/sombra-backup/sombra/writer/writers/postgres"
	"github.com/sombra-backup/sombra/writer/writers/redis"
	"github.com/sombra-backup/sombra/writer/writers/sqlite"
	"github.com/sombra-backup/sombra/writer/writers/systemd"
	"github.com/sombra-backup/sombra/writer/writers/testwriter"
)

// kinds are the built-in writers. A new one is one line here.
func kinds() []writer.Kind {
	return []writer.Kind{sqlite.Kind{}, postgres.Kind{}, mariadb.Kind{}, redis.Kind{}, etcd.Kind{}, systemd.Kind{}, hooks.Kind{}, testwriter.Kind{}}
}

// optionless are the classes of those whose writers know no restore option.
func optionless() (classes []vss.GUID) {
	for _, k := range kinds() {
		if _, ok := k.(writer.Optionless); ok {
			classes = append(classes, k.Class())
		}
	}
	return classes
}

// providers are the shadow copy providers, the better before the others of the
// same type. A new one is one line here.
func providers() []provider.Provider {
	return []provider.Provider{btrfs.New(), reflink.New(), precopy.New()}
}

func kindNames() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.Name())
	}
	return names
}

// app is what all commands share: the streams, the global flags, and what comes
// of them together with environment and configuration.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	// Global flags; see addGlobalFlags.
	repo            string
	passwordFile    string
	passwordCommand string
	configFile      string
	stateDir        string
	json            bool
	quiet           bool
	verbose         int
	store           storeFlags

	config *config
}

// env is the value of an environment variable of ours.
func (a *app) env(name string) string { return a.getenv("SOMBRA_" + name) }

// load reads the configuration and fills what no flag has set: flags come before
// the environment, the environment before the configuration.
func (a *app) load(cmd *cobra.Command, _ []string) error {
	if cmd.HasSubCommands() {
		return nil // it prints its help, or that it has no such command
	}
	c, err := a.readConfig()
	if err != nil {
		return err
	}
	a.config = c
	if err := a.setOptions(cmd); err != nil {
		return err
	}
	first := func(dst *string, values ...string) {
		for _, v := range values {
			if *dst == "" {
				*dst = v
			}
		}
	}
	first(&a.repo, a.env("REPOSITORY"), c.Repository)
	first(&a.stateDir, a.env("STATE_DIR"), c.StateDir, defaultStateDir(a.getenv))
	if a.passwordFile == "" && a.passwordCommand == "" && a.env("PASSWORD") == "" {
		first(&a.passwordFile, a.env("PASSWORD_FILE"))
		if a.passwordFile == "" {
			first(&a.passwordCommand, a.env("PASSWORD_COMMAND"))
		}
		if a.passwordFile == "" && a.passwordCommand == "" {
			a.passwordFile, a.passwordCommand = c.PasswordFile, c.PasswordCommand
		}
	}
	a.stateDir, err = filepath.Abs(a.stateDir)
	return err
}

// defaultStateDir is where this host's state is kept.
func defaultStateDir(getenv func(string) string) string {
	if os.Geteuid() == 0 {
		return "/var/lib/sombra"
	}
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sombra")
	}
	return filepath.Join(getenv("HOME"), ".local", "state", "sombra")
}

// log is for what goes wrong where nobody waits for it.
func (a *app) log() *slog.Logger {
	level := slog.LevelWarn
	switch {
	case a.verbose > 1:
		level = slog.LevelDebug
	case a.verbose > 0:
		level = slog.LevelInfo
	case a.quiet:
		level = slog.LevelError
	}
	if a.json {
		return slog.New(&messages{w: a.stderr, level: level, json: true})
	}
	return slog.New(&messages{w: a.stderr, level: level})
}

// openRepository opens the repository with the password.
func (a *app) openRepository(ctx context.Context) (*repository.Repository, error) {
	return a.openWith(ctx, a.passwordSource())
}

// openWith opens the repository with the password from a source.
func (a *app) openWith(ctx context.Context, source passwordSource) (*repository.Repository, error) {
	open, err := a.readyToOpen(ctx, source)
	if err != nil {
		return nil, err
	}
	return open(ctx)
}

// readyToOpen asks for the password, and gives what then opens the repository,
// once, without asking anybody anything.
func (a *app) readyToOpen(ctx context.Context, source passwordSource) (requester.RepositoryOpener, error) {
	st, err := a.openStore(ctx)
	if err != nil {
		return nil, err
	}
	password, err := a.secret(ctx, source, false)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (*repository.Repository, error) {
		defer clear(password)
		r, err := repository.Open(ctx, st, password, repository.Options{StateDir: a.stateDir})
		switch {
		case errors.Is(err, repository.ErrNoRepository):
			return nil, &codeError{exitNoRepository, &hintError{fmt.Errorf("there is no repository at %s", a.where()), "make one with: sombra init --repo DIR"}}
		case errors.Is(err, repository.ErrWrongPassword):
			return nil, &codeError{exitWrongPassword, &hintError{fmt.Errorf("wrong password for the repository at %s", a.where()),
				source.hint()}}
		}
		return r, err
	}, nil
}

// where is the repository's place, to be shown.
func (a *app) where() string {
	if u, err := store.Locate(a.repo); err == nil && u.Scheme != "file" {
		return printable(store.Shown(u))
	}
	return printable(a.repo)
}

// sessions opens sessions of this host's service.
func (a *app) sessions(o session.Options) requester.Opener {
	return func(ctx context.Context) (session.Session, error) {
		if err := a.makeStateDir(); err != nil {
			return nil, err
		}
		s, err := coordinator.Open(ctx, coordinator.Options{
			Options: o, Kinds: kinds(), Providers: providers(), StateDir: a.stateDir,
			SocketDirs: a.socketDirs(), KeeperArgs: []string{keeperArg}, HostArgs: []string{hostArg}, RebootArgs: a.rebootArgs(),
			Log: a.log(),
		})
		if errors.Is(err, fs.ErrPermission) && strings.Contains(err.Error(), a.stateDir) {
			err = &hintError{fmt.Errorf("state directory: %w", err), "it is another user's; another one can be named by --state-dir or SOMBRA_STATE_DIR"}
		}
		return s, err
	}
}

// makeStateDir makes the state directory where there is none.
func (a *app) makeStateDir() error {
	if err := os.MkdirAll(a.stateDir, 0o700); err != nil {
		return &hintError{fmt.Errorf("state directory: %w", pathError(err)), "another one can be named by --state-dir or SOMBRA_STATE_DIR"}
	}
	return nil
}

// socketDirs are where writers of other programs listen.
func (a *app) socketDirs() []string {
	return []string{"/run/sombra/writers.d", filepath.Join(a.stateDir, "writers.d")}
}

// printJSON prints an object as one line that begins with its message type.
func (a *app) printJSON(kind string, v any) error {
	line, err := jsonLine(kind, v)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(line)
	return err
}

// jsonLine gives an object a message type.
func jsonLine(kind string, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(data) < 2 || data[0] != '{' {
		return nil, fmt.Errorf("message %s: %T is no object", kind, v)
	}
	line := append([]byte(`{"message_type":`), strconv.Quote(kind)...)
	if len(data) > 2 {
		line = append(line, ',')
	}
	return append(append(line, data[1:]...), '\n'), nil
}

// fields are those of a JSON line.
type fields map[string]any

// warn prints a warning, also where quiet is asked for.
func (a *app) warn(format string, args ...any) error {
	text := oneLine(fmt.Sprintf(format, args...))
	if a.json {
		return a.printJSON("warning", fields{"message": text})
	}
	_, err := fmt.Fprintf(a.stderr, "sombra: warning: %s\n", text)
	return err
}

// printf prints a line for people, unless they asked for quiet or for JSON.
func (a *app) printf(format string, args ...any) {
	if !a.json && !a.quiet {
		fmt.Fprintf(a.stdout, format, args...)
	}
}
