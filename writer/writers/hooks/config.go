package hooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/sombra-backup/sombra/vss"
)

// DefaultDirectory is the one directory that is used without being configured,
// by root only.
const DefaultDirectory = "/etc/sombra/hooks.d"

// Bounds of a configuration.
const (
	maxComponents  = 1000
	maxPaths       = 10000
	defaultTimeout = 30 * time.Second
	maxTimeout     = 10 * time.Minute
)

// config is the JSON of a writer's configuration.
type config struct {
	// Directory holds the scripts; empty means DefaultDirectory.
	Directory string `json:"directory,omitempty"`
	// Components maps the name of a component to the files and directories
	// that the scripts bring to rest. Without any there is one component
	// without files.
	Components map[string][]string `json:"components,omitempty"`
	// FilesStill promises that no byte of these files changes between freeze
	// and thaw.
	FilesStill bool `json:"files_still,omitempty"`
	// Timeout is how long one script may take, as in "10s".
	Timeout string `json:"timeout,omitempty"`

	timeout time.Duration
}

// parseConfig reads and checks a configuration; an empty one is valid.
func parseConfig(text json.RawMessage) (config, error) {
	var c config
	if len(bytes.TrimSpace(text)) > 0 {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil {
			return config{}, fmt.Errorf("hooks configuration: %w", err)
		}
		if _, err := d.Token(); err != io.EOF {
			return config{}, fmt.Errorf("hooks configuration: it goes on after its object")
		}
	}
	if c.Directory == "" {
		c.Directory = DefaultDirectory
	}
	if !filepath.IsAbs(c.Directory) {
		return config{}, fmt.Errorf("hooks configuration: directory %q is not absolute", c.Directory)
	}
	c.Directory = filepath.Clean(c.Directory)
	if err := c.checkTimeout(); err != nil {
		return config{}, err
	}
	return c, c.checkComponents()
}

func (c *config) checkTimeout() error {
	c.timeout = defaultTimeout
	if c.Timeout == "" {
		return nil
	}
	d, err := time.ParseDuration(c.Timeout)
	if err != nil || d <= 0 || d > maxTimeout {
		return fmt.Errorf(`hooks configuration: timeout %q is no time such as "10s", at most %v`, c.Timeout, maxTimeout)
	}
	c.timeout = d
	return nil
}

func (c *config) checkComponents() error {
	if len(c.Components) > maxComponents {
		return fmt.Errorf("hooks configuration: %d components, more than %d", len(c.Components), maxComponents)
	}
	total := 0
	for _, name := range c.names() {
		if err := vss.ValidateComponentName(name); err != nil {
			return fmt.Errorf("hooks configuration: component %.60q: %w", name, err)
		}
		paths := c.Components[name]
		if len(paths) == 0 {
			return fmt.Errorf("hooks configuration: component %q has no paths", name)
		}
		if total += len(paths); total > maxPaths {
			return fmt.Errorf("hooks configuration: more than %d paths", maxPaths)
		}
		for _, p := range paths {
			if !filepath.IsAbs(p) {
				return fmt.Errorf("hooks configuration: component %q: path %q is not absolute", name, p)
			}
		}
	}
	return nil
}

// names gives the components' names in order.
func (c *config) names() []string {
	names := make([]string, 0, len(c.Components))
	for name := range c.Components {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
