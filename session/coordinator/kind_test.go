package coordinator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sombra-backup/sombra/session/sessiontest"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// scriptKind makes scripted writers in writer hosts.
type scriptKind struct{}

// scriptConfig is the configuration of one.
type scriptConfig struct {
	Dir string `json:"dir"`
	// Marker is a file that exists while the writer is frozen: what outlives
	// the process.
	Marker string `json:"marker,omitempty"`
	// Hang is the event the writer hangs in, Exit the one it dies in.
	Hang string `json:"hang,omitempty"`
	Exit string `json:"exit,omitempty"`
	// Slow makes every event take this long, so that something can happen
	// meanwhile.
	Slow time.Duration `json:"slow,omitempty"`
	// Say is written to standard error in PrepareForBackup.
	Say string `json:"say,omitempty"`
}

var scriptClass = vss.MustParseGUID("8f7d3c10-0000-4000-8000-00000000000a")

func (scriptKind) Name() string    { return "script" }
func (scriptKind) Class() vss.GUID { return scriptClass }

func (scriptKind) Discover(_ context.Context, d writer.Discovery) ([]writer.Spec, error) {
	var list []writer.Spec
	for _, c := range d.Configs {
		list = append(list, writer.Spec{Kind: "script", Name: c.Name, Config: c.Config, Required: c.Required,
			Owner: writer.Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}})
	}
	return list, nil
}

func (scriptKind) New(_ context.Context, s writer.Spec) (writer.Writer, error) {
	var c scriptConfig
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return nil, err
	}
	w := &sessiontest.Script{Name: s.Name, Class: scriptClass, Dir: c.Dir, Log: new(sessiontest.Log),
		On: map[writer.EventKind]sessiontest.Behaviour{}, Release: make(chan struct{})}
	w.Description.Stillness = writer.FilesStill
	w.Description.OutlivesProcess = c.Marker != ""
	for _, k := range writer.EventKinds() {
		w.On[k] = sessiontest.Behaviour{Hang: k.String() == c.Hang, Do: func(context.Context, *writer.Event) error {
			if k != writer.EventIdentify {
				time.Sleep(c.Slow)
			}
			return c.act(k)
		}}
	}
	return w, nil
}

func (c scriptConfig) act(k writer.EventKind) error {
	if k.String() == c.Exit {
		os.Exit(9)
	}
	if k == writer.EventPrepareForBackup && c.Say != "" {
		fmt.Fprintln(os.Stderr, c.Say)
	}
	if c.Marker == "" {
		return nil
	}
	switch k {
	case writer.EventFreeze:
		return os.WriteFile(c.Marker, nil, 0o600)
	case writer.EventThaw, writer.EventAbort:
		if err := os.Remove(c.Marker); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// findingKind is scriptKind that also finds a writer in each path chosen.
type findingKind struct{ scriptKind }

func (k findingKind) Discover(ctx context.Context, d writer.Discovery) ([]writer.Spec, error) {
	list, err := k.scriptKind.Discover(ctx, d)
	if !d.Auto {
		return list, err
	}
	for _, p := range d.Paths {
		config, err := json.Marshal(scriptConfig{Dir: p, Hang: "Freeze"})
		if err != nil {
			return nil, err
		}
		list = append(list, writer.Spec{Kind: "script", Name: "found " + p, Config: config, Discovered: true,
			Owner: writer.Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}})
	}
	return list, err
}
