package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sombra-backup/sombra/session"
)

// config is the configuration file. Flags and environment come before it.
type config struct {
	Repository      string `yaml:"repository"`
	PasswordFile    string `yaml:"password_file"`
	PasswordCommand string `yaml:"password_command"`
	StateDir        string `yaml:"state_dir"`

	Paths         []string `yaml:"paths"`
	Exclude       []string `yaml:"exclude"`
	OneFileSystem bool     `yaml:"one_file_system"`
	Tags          []string `yaml:"tags"`
	Type          string   `yaml:"type"`
	Consistency   string   `yaml:"consistency"`
	Provider      string   `yaml:"provider"`

	Writer           []string `yaml:"writer"`
	ExcludeWriter    []string `yaml:"exclude_writer"`
	Component        []string `yaml:"component"`
	ExcludeComponent []string `yaml:"exclude_component"`

	NoDiscovery bool           `yaml:"no_discovery"`
	Writers     []writerConfig `yaml:"writers"`
	Limits      limitsConfig   `yaml:"limits"`
}

// writerConfig configures one built-in writer; what is under config is the
// kind's own.
type writerConfig struct {
	Kind     string         `yaml:"kind"`
	Name     string         `yaml:"name"`
	Required bool           `yaml:"required"`
	Config   map[string]any `yaml:"config"`
}

type limitsConfig struct {
	Writer     duration `yaml:"writer"`
	Hold       duration `yaml:"hold"`
	Discovered duration `yaml:"discovered"`
	Event      duration `yaml:"event"`
	Identify   duration `yaml:"identify"`
	Prepare    duration `yaml:"prepare"`
}

// duration is a time.Duration as people write it: 90s, 2m30s.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	if v <= 0 {
		return fmt.Errorf("%s is not a positive duration", text)
	}
	*d = duration(v)
	return nil
}

// maxConfig bounds the configuration file.
const maxConfig = 4 << 20

// readConfig reads the configuration: the file named, or the usual one if there
// is one. One that others could have written is refused, since it decides what
// is run with the caller's rights.
func (a *app) readConfig() (*config, error) {
	name, named := a.configFile, true
	if name == "" {
		name = a.env("CONFIG")
	}
	if name == "" {
		name, named = defaultConfig(a.getenv), false
	}
	if name == os.DevNull {
		return new(config), nil
	}
	f, err := os.Open(name)
	if !named && errors.Is(err, fs.ErrNotExist) {
		return new(config), nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := trusted(f); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxConfig)
	}
	c := new(config)
	if err := yaml.UnmarshalWithOptions(data, c, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %s", name, yaml.FormatError(err, false, true))
	}
	return c, nil
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

// sessionOptions is what the configuration says to the service.
func (c *config) sessionOptions() (session.Options, error) {
	o := session.Options{NoDiscovery: c.NoDiscovery, Limits: session.Limits{
		Writer: time.Duration(c.Limits.Writer), Hold: time.Duration(c.Limits.Hold),
		Discovered: time.Duration(c.Limits.Discovered), Event: time.Duration(c.Limits.Event),
		Identify: time.Duration(c.Limits.Identify), Prepare: time.Duration(c.Limits.Prepare),
	}}
	for i, w := range c.Writers {
		if w.Kind == "" {
			return o, fmt.Errorf("configuration: writers[%d] has no kind", i)
		}
		data, err := json.Marshal(w.Config)
		if err != nil {
			return o, fmt.Errorf("configuration: writers[%d]: %w", i, err)
		}
		if w.Config == nil {
			data = nil
		}
		o.Writers = append(o.Writers, session.WriterConfig{Kind: w.Kind, Name: w.Name, Required: w.Required, Config: data})
	}
	return o, nil
}
