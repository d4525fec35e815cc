package localfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// StopService stops a unit of systemd and waits until it has stopped.
func (t *target) StopService(ctx context.Context, name string) error {
	return systemctl(ctx, "stop", name)
}

// StartService starts a unit of systemd and waits until it has started.
func (t *target) StartService(ctx context.Context, name string) error {
	return systemctl(ctx, "start", name)
}

func systemctl(ctx context.Context, verb, name string) error {
	if name == "" || len(name) > 255 || strings.ContainsAny(name, "/\x00 \n*?[") || name[0] == '-' {
		return vss.Errorf(vss.ErrInvalidArgument, verb+" service", name, "this is not the name of a service")
	}
	// The directory tells that systemd runs (sd_booted).
	if _, err := os.Stat("/run/systemd/system"); errors.Is(err, fs.ErrNotExist) {
		return vss.Errorf(vss.ErrNotSupported, verb+" service", name, "systemd does not run here; %s the service by its own means", verb)
	}
	path, err := exec.LookPath("systemctl")
	if err != nil {
		return vss.Errorf(vss.ErrNotSupported, verb+" service", name, "%w; %s the service by its own means", err, verb)
	}
	cmd := exec.CommandContext(ctx, path, "--no-ask-password", verb, "--", name)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SOMBRA_") })
	var out head
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return vss.Errorf(vss.ErrUnexpected, verb+" service", name, "systemctl: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// head keeps the beginning of what a command prints.
type head []byte

func (h *head) Write(p []byte) (int, error) {
	*h = append(*h, p[:min(len(p), 4096-len(*h))]...)
	return len(p), nil
}
