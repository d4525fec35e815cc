package etcd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/sombra-backup/sombra/vss"
)

// config is a writer's configuration. A person gives the first fields; Discover
// adds the last.
type config struct {
	// Directory is that of the data (--data-dir).
	Directory string `json:"directory"`
	// WAL is the log's directory, if it has one of its own (--wal-dir).
	WAL string `json:"wal_directory,omitempty"`
	// Unit is the unit of systemd that runs the server, where it cannot be found
	// out.
	Unit string `json:"unit,omitempty"`
	// AnyVersion allows versions that no test has met.
	AnyVersion bool `json:"any_version,omitempty"`

	Found *found `json:"found,omitempty"`
}

// found is what Discover adds.
type found struct {
	// PID is the running server's, 0 if none runs.
	PID int `json:"pid,omitempty"`
	// Command is how it was started.
	Command command `json:"command,omitzero"`
	// Restore says that the directory may be absent, or hold anything.
	Restore bool `json:"restore,omitempty"`
}

// command is how a server is started.
type command struct {
	Program string   `json:"program,omitempty"`
	Args    []string `json:"args,omitempty"`
	Env     []string `json:"env,omitempty"` // of it what is etcd's
	Dir     string   `json:"dir,omitempty"`
}

// option gives the value of one of etcd's options, by argument before environment.
func (c command) option(name string) string {
	value := ""
	for i, a := range c.Args {
		a, ok := strings.CutPrefix(a, "-")
		if !ok {
			continue
		}
		a = strings.TrimPrefix(a, "-")
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			value = v
		} else if a == name && i+1 < len(c.Args) {
			value = c.Args[i+1]
		}
	}
	if value != "" {
		return value
	}
	variable := "ETCD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "="
	for _, kv := range c.Env {
		if v, ok := strings.CutPrefix(kv, variable); ok {
			return v
		}
	}
	return ""
}

// parseConfig reads what a person wrote.
func parseConfig(raw json.RawMessage) (config, error) {
	var c config
	bad := func(format string, args ...any) (config, error) {
		return config{}, fmt.Errorf("configuration of an etcd writer: "+format, args...)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return bad("%w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("it goes on after its object")
	}
	if c.Found != nil {
		return bad("unknown field \"found\"")
	}
	if c.Directory == "" {
		return bad("it names no directory")
	}
	for _, dir := range []*string{&c.Directory, &c.WAL} {
		if *dir == "" {
			continue
		}
		if !filepath.IsAbs(*dir) {
			return bad("directory %q is not absolute", *dir)
		}
		*dir = filepath.Clean(*dir)
		if err := checkDir(*dir); err != nil {
			return bad("%w", err)
		}
	}
	return c, nil
}

// checkDir says why a directory cannot be one of a component: it becomes a name and
// a part of file specifications, which must stand for exactly this directory.
func checkDir(dir string) error {
	switch {
	case dir == "/":
		return errors.New("directory / cannot be a database's: name the one in which etcd has its files")
	case !filepath.IsAbs(dir) || filepath.Clean(dir) != dir:
		return fmt.Errorf("directory %.200q is not an absolute path in its shortest form", dir)
	case strings.ContainsFunc(dir, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }):
		return fmt.Errorf("directory %.200q is not plain text; rename it", dir)
	case strings.Contains(dir, `\`) || vss.HasWildcard(dir):
		return fmt.Errorf("directory %.200q holds one of \\ * ?, which file specifications do not allow; rename it", dir)
	}
	if _, err := vss.ExpandEnv(dir, func(string) (string, bool) { return "", false }); err != nil {
		return fmt.Errorf("directory %.200q has a part between percent signs, which file specifications take for a variable; rename it", dir)
	}
	return nil
}

// walDir is where the log is.
func (c config) walDir() string {
	if c.WAL != "" {
		return c.WAL
	}
	return filepath.Join(c.Directory, "member", "wal")
}
