package systemd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// Bounds of a configuration.
const (
	maxPaths = 10000
	maxUnit  = 255
)

// How a unit is held.
const (
	howStop   = "stop"
	howFreeze = "freeze"
)

// config is the JSON of a writer's configuration.
type config struct {
	// Unit is the service, with or without ".service".
	Unit string `json:"unit"`
	// Paths are the files and directories that are the unit's.
	Paths []string `json:"paths"`
	// Exclude are files and directories below them that are not backed up; the
	// last element may have wildcards, and then counts in all directories below.
	Exclude []string `json:"exclude,omitempty"`
	// How is howStop or howFreeze.
	How string `json:"how"`
	// Level orders Freeze among writers: front-end (the default), back-end or
	// system.
	Level string `json:"level,omitempty"`

	level vss.ApplicationLevel
}

// parseConfig reads and checks a configuration.
func parseConfig(text json.RawMessage) (config, error) {
	var c config
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return config{}, fmt.Errorf("systemd configuration: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return config{}, fmt.Errorf("systemd configuration: it goes on after its object")
	}
	if err := c.checkUnit(); err != nil {
		return config{}, fmt.Errorf("systemd configuration: %w", err)
	}
	if err := c.checkPaths(); err != nil {
		return config{}, fmt.Errorf("systemd configuration of %s: %w", c.Unit, err)
	}
	return c, nil
}

// checkUnit leaves the rest of what may be a unit, and is one, to whoever stops it.
func (c *config) checkUnit() error {
	switch {
	case c.Unit == "":
		return fmt.Errorf("it names no unit")
	case len(c.Unit) > maxUnit || strings.ContainsAny(c.Unit, "/ \n\t"):
		return fmt.Errorf("%.60q is not the name of a service", c.Unit)
	}
	if !strings.HasSuffix(c.Unit, ".service") {
		c.Unit += ".service"
	}
	switch c.How {
	case howStop, howFreeze:
	case "":
		return fmt.Errorf("it does not say how %s is held: how: stop, or how: freeze", c.Unit)
	default:
		return fmt.Errorf("how: %.60q is neither stop nor freeze", c.How)
	}
	switch c.Level {
	case "", "front-end":
		c.level = vss.LevelFrontEnd
	case "back-end":
		c.level = vss.LevelBackEnd
	case "system":
		c.level = vss.LevelSystem
	default:
		return fmt.Errorf("level: %.60q is none of front-end, back-end, system", c.Level)
	}
	return nil
}

func (c *config) checkPaths() error {
	if len(c.Paths) == 0 {
		return fmt.Errorf("it names no paths")
	}
	if len(c.Paths)+len(c.Exclude) > maxPaths {
		return fmt.Errorf("more than %d paths", maxPaths)
	}
	for _, list := range [][]string{c.Paths, c.Exclude} {
		for i, p := range list {
			if !filepath.IsAbs(p) {
				return fmt.Errorf("path %q is not absolute", p)
			}
			list[i] = filepath.Clean(p)
		}
	}
	for _, p := range c.Exclude {
		if vss.HasWildcard(filepath.Dir(p)) {
			return fmt.Errorf("excluded path %q has a wildcard before its last element", p)
		}
	}
	return nil
}

// excluded are the file specifications of what is not backed up.
func (c *config) excluded() (list []vss.FileSpec) {
	for _, p := range c.Exclude {
		dir, last := filepath.Dir(p), filepath.Base(p)
		if vss.HasWildcard(last) {
			list = append(list, vss.FileSpec{Path: dir, Pattern: last, Recursive: true})
			continue
		}
		list = append(list, vss.FileSpec{Path: dir, Pattern: last}, vss.FileSpec{Path: p, Pattern: "*", Recursive: true})
	}
	return list
}
