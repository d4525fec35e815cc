package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/sombra-backup/sombra/session"
)

// config is the configuration file. Flags and environment come before it. All
// but Paths and Writers are flags, too, of the same names with dashes.
type config struct {
	name  string         // of the file
	lines map[string]int // of the keys in it

	Repository      string `yaml:"repository"`
	PasswordFile    string `yaml:"password_file"`
	PasswordCommand string `yaml:"password_command"`
	StateDir        string `yaml:"state_dir"`

	LimitUpload   string `yaml:"limit_upload"`
	LimitDownload string `yaml:"limit_download"`
	Connections   *int   `yaml:"connections"`
	RetryLimit    string `yaml:"retry_limit"`
	StallLimit    string `yaml:"stall_limit"`
	SSHCommand    string `yaml:"ssh_command"`
	Retain        string `yaml:"retain"`

	Paths         []string `yaml:"paths"`
	Exclude       []string `yaml:"exclude"`
	ExcludeFile   []string `yaml:"exclude_file"`
	OneFileSystem bool     `yaml:"one_file_system"`
	Tag           []string `yaml:"tag"`
	Type          string   `yaml:"type"`
	TypeFor       []string `yaml:"type_for"`
	StrictType    bool     `yaml:"strict_type"`
	Consistency   string   `yaml:"consistency"`
	Provider      string   `yaml:"provider"`
	AsPlainFiles  bool     `yaml:"as_plain_files"`
	NoWriters     bool     `yaml:"no_writers"`
	Reread        bool     `yaml:"reread"`
	NoPartial     bool     `yaml:"no_partial"`
	KeepBase      *int     `yaml:"keep_base_shadow"`

	Writer           []string `yaml:"writer"`
	ExcludeWriter    []string `yaml:"exclude_writer"`
	Component        []string `yaml:"component"`
	ExcludeComponent []string `yaml:"exclude_component"`

	FreezeLimit     string `yaml:"freeze_limit"`
	HoldLimit       string `yaml:"hold_limit"`
	DiscoveredLimit string `yaml:"discovered_limit"`
	EventLimit      string `yaml:"event_limit"`
	IdentifyLimit   string `yaml:"identify_limit"`
	PrepareLimit    string `yaml:"prepare_limit"`

	NoDiscovery bool           `yaml:"no_discovery"`
	Writers     []writerConfig `yaml:"writers"`
}

// writerConfig configures one built-in writer; what is under config is the
// kind's own.
type writerConfig struct {
	Kind     string         `yaml:"kind"`
	Name     string         `yaml:"name"`
	Required bool           `yaml:"required"`
	Config   map[string]any `yaml:"config"`
}

// options are the configuration's values by the flags they stand for.
func (c *config) options() map[string][]string {
	m := map[string][]string{
		"exclude": c.Exclude, "exclude-file": c.ExcludeFile, "tag": c.Tag, "type-for": c.TypeFor,
		"writer": c.Writer, "exclude-writer": c.ExcludeWriter, "component": c.Component, "exclude-component": c.ExcludeComponent,
	}
	for name, v := range map[string]string{
		"type": c.Type, "consistency": c.Consistency, "provider": c.Provider,
		"freeze-limit": c.FreezeLimit, "hold-limit": c.HoldLimit, "discovered-limit": c.DiscoveredLimit,
		"limit-upload": c.LimitUpload, "limit-download": c.LimitDownload, "retry-limit": c.RetryLimit, "stall-limit": c.StallLimit, "ssh-command": c.SSHCommand, "retain": c.Retain,
		"event-limit": c.EventLimit, "identify-limit": c.IdentifyLimit, "prepare-limit": c.PrepareLimit,
	} {
		if v != "" {
			m[name] = []string{v}
		}
	}
	if c.KeepBase != nil {
		m["keep-base-shadow"] = []string{strconv.Itoa(*c.KeepBase)}
	}
	if c.Connections != nil {
		m["connections"] = []string{strconv.Itoa(*c.Connections)}
	}
	for name, v := range map[string]bool{
		"one-file-system": c.OneFileSystem, "as-plain-files": c.AsPlainFiles, "no-writers": c.NoWriters,
		"reread": c.Reread, "no-partial": c.NoPartial, "no-discovery": c.NoDiscovery, "strict-type": c.StrictType,
	} {
		if v {
			m[name] = []string{"true"}
		}
	}
	return m
}

// maxConfig bounds the configuration file.
const maxConfig = 4 << 20

// readConfig reads the configuration: the file named, or the usual one if there
// is one. One that others could have written is refused, since it decides what
// is run with the caller's rights. /dev/null is an empty one.
func (a *app) readConfig() (*config, error) {
	name, named := a.configFile, true
	if name == "" {
		name = a.env("CONFIG")
	}
	if name == "" {
		name, named = defaultConfig(a.getenv), false
	}
	if name == os.DevNull {
		return &config{name: name}, nil
	}
	f, err := os.Open(name)
	if !named && errors.Is(err, fs.ErrNotExist) {
		return &config{name: name}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", pathError(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := trusted(name, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxConfig)
	}
	return parseConfig(name, data)
}

// parseConfig reads the text of a configuration. An error names the line.
func parseConfig(name string, data []byte) (*config, error) {
	c := &config{name: name, lines: keyLines(data)}
	if err := unmarshal(data, c); err != nil {
		return nil, configError(name, data, err)
	}
	for i, w := range c.Writers {
		if w.Kind == "" {
			return nil, &hintError{fmt.Errorf("%s: writers, entry %d, has no kind", name, i+1), "kinds are " + strings.Join(kindNames(), ", ")}
		}
	}
	return c, nil
}

// unmarshal reads YAML. The reader panics on some texts that are none, which is
// no more than an error in the file.
func unmarshal(data []byte, c *config) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it cannot be read as YAML (%v)", r)
		}
	}()
	return yaml.UnmarshalWithOptions(data, c, yaml.Strict())
}

// configError puts an error of the YAML reader in one line, with the place, and
// shows the line it is in.
func configError(name string, data []byte, err error) error {
	var e yaml.Error
	if !errors.As(err, &e) || e.GetToken() == nil || e.GetToken().Position == nil {
		return fmt.Errorf("%s: %s", name, oneLine(err.Error()))
	}
	pos := e.GetToken().Position
	err = fmt.Errorf("%s:%d:%d: %s", name, pos.Line, pos.Column, oneLine(e.GetMessage()))
	lines := strings.Split(string(data), "\n")
	if pos.Line < 1 || pos.Line > len(lines) {
		return err
	}
	return &hintError{err, fmt.Sprintf("line %d is: %s", pos.Line, strings.TrimSpace(lines[pos.Line-1]))}
}

// keyLines finds the lines of the keys, for errors that come after reading.
func keyLines(data []byte) map[string]int {
	m := map[string]int{}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if key, _, ok := bytes.Cut(line, []byte(":")); ok && len(key) < 64 {
			m[string(key)] = n
		}
	}
	return m
}

// at names the place of a key in the file.
func (c *config) at(key string) string {
	if n := c.lines[key]; n > 0 {
		return fmt.Sprintf("%s:%d: %s", c.name, n, key)
	}
	return c.name + ": " + key
}

func defaultConfig(getenv func(string) string) string {
	if os.Geteuid() == 0 {
		return "/etc/sombra/sombra.yaml"
	}
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sombra", "sombra.yaml")
	}
	return filepath.Join(getenv("HOME"), ".config", "sombra", "sombra.yaml")
}

// sessionOptions is what the configuration and the limits say to the service.
func (c *config) sessionOptions(l limitFlags) (session.Options, error) {
	o := session.Options{NoDiscovery: c.NoDiscovery, Limits: l.session()}
	for i, w := range c.Writers {
		var data []byte
		if w.Config != nil {
			var err error
			if data, err = json.Marshal(w.Config); err != nil {
				return o, fmt.Errorf("%s: writers, entry %d: %w", c.name, i+1, err)
			}
		}
		o.Writers = append(o.Writers, session.WriterConfig{Kind: w.Kind, Name: w.Name, Required: w.Required, Config: data})
	}
	return o, nil
}
