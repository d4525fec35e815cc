package testwriter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// Kind is the writer kind "testwriter". The configuration is
//
//	{"file": "/path/config.xml", "log": "/path/to/append/to", "environment": ["NAME"]}
//
// with log left out where nothing is to be printed. environment names variables
// that paths of the XML file use as %NAME%: a writer host sees no other of the
// service's. The zero Kind is ready for use.
type Kind struct{}

var _ writer.Kind = Kind{}

const kindName = "testwriter"

// hostConfig is the JSON of a writer's configuration.
type hostConfig struct {
	File string `json:"file"`
	Log  string `json:"log,omitempty"`
	// Environment is named by the configuration, and Env is what Discover makes
	// of it in the service's process.
	Environment []string    `json:"environment,omitempty"`
	Env         environment `json:"env,omitempty"`
}

func parseHostConfig(text json.RawMessage) (hostConfig, error) {
	var c hostConfig
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("testwriter configuration: %w", err)
	}
	if !filepath.IsAbs(c.File) {
		return c, fmt.Errorf("testwriter configuration: file %q is no full path of an XML file", c.File)
	}
	if c.Log != "" && !filepath.IsAbs(c.Log) {
		return c, fmt.Errorf("testwriter configuration: log %q is no full path", c.Log)
	}
	return c, nil
}

// Name implements [writer.Kind].
func (Kind) Name() string { return kindName }

// Class implements [writer.Kind]: it is the Test Writer's own.
func (Kind) Class() vss.GUID { return vss.TestWriterClass }

// Discover implements [writer.Kind]: only what is configured. Each writer runs
// as the owner of its XML file.
func (Kind) Discover(_ context.Context, d writer.Discovery) ([]writer.Spec, error) {
	var specs []writer.Spec
	for _, entry := range d.Configs {
		c, err := parseHostConfig(entry.Config)
		if err != nil {
			return nil, err
		}
		owner, err := ownerOf(c.File)
		if err != nil {
			return nil, fmt.Errorf("testwriter configuration: %w", err)
		}
		text, err := c.resolve()
		if err != nil {
			return nil, err
		}
		name := entry.Name
		if name == "" {
			name = c.File
		}
		specs = append(specs, writer.Spec{Kind: kindName, Name: name, Owner: owner, Config: text, Required: entry.Required})
	}
	return specs, nil
}

// resolve gives the configuration with the values of the variables it names.
func (c hostConfig) resolve() (json.RawMessage, error) {
	c.Env = environment{}
	for _, name := range c.Environment {
		v, ok := os.LookupEnv(name)
		if !ok {
			return nil, fmt.Errorf("testwriter configuration: environment variable %q is not set", name)
		}
		c.Env[name] = v
	}
	return json.Marshal(c)
}

// New implements [writer.Kind].
func (Kind) New(_ context.Context, s writer.Spec) (writer.Writer, error) {
	c, err := parseHostConfig(s.Config)
	if err != nil {
		return nil, err
	}
	config, err := Load(c.File)
	if err != nil {
		return nil, err
	}
	var log io.Writer
	if c.Log != "" {
		f, err := os.OpenFile(c.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("testwriter log: %w", err)
		}
		log = f // open for as long as the writer lives
	}
	name := s.Name
	if name == "" {
		name = c.File
	}
	w := newWriter(config, name, log)
	w.env = c.Env
	return w, nil
}

// Run is the Test Writer as a program of its own: it serves the writer of a
// configuration file on a socket until ctx ends, and then returns nil. What the
// writer does is printed to log.
func Run(ctx context.Context, configPath, socketPath string, log io.Writer) error {
	config, err := Load(configPath)
	if err != nil {
		return err
	}
	name, err := filepath.Abs(configPath)
	if err != nil {
		return err
	}
	return writer.Serve(ctx, socketPath, New(config, name, log))
}
