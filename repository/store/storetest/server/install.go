package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// module is a server program that comes as a Go module.
type module struct{ name, path, version string }

var (
	versitygw = module{"versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"}
	fakeGCS   = module{"fake-gcs-server", "github.com/fsouza/fake-gcs-server", "v1.56.1"}
)

// azuriteVersion is the version of the npm package.
const azuriteVersion = "3.37.0"

// cacheDir is where the programs are kept.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		// Without HOME: where who runs it may write, but nobody else.
		dir = filepath.Join("/var/tmp", fmt.Sprintf("sombra-cache-%d", os.Getuid()))
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
		if err := private(dir); err != nil {
			return "", err
		}
	}
	dir = filepath.Join(dir, "sombra-test")
	return dir, os.MkdirAll(dir, 0o700)
}

// environ is the environment for the tools that install programs. Without HOME
// they would not know where to keep what they fetch: that is dir then.
func environ(dir string, more ...string) []string {
	env := os.Environ()
	if os.Getenv("HOME") == "" {
		for name, value := range map[string]string{
			"HOME": dir, "GOCACHE": filepath.Join(dir, "go-build"), "GOPATH": filepath.Join(dir, "go"), "npm_config_cache": filepath.Join(dir, "npm"),
		} {
			if os.Getenv(name) == "" {
				env = append(env, name+"="+value)
			}
		}
	}
	return append(env, more...)
}

// installError says in one line what could not be installed, why, and what to do
// on a machine that cannot reach where it comes from.
func installError(what, from, dir string, err error, out []byte) error {
	lines := strings.FieldsFunc(tail(out), func(r rune) bool { return r == '\n' || r == '\r' })
	// npm says last where it has logged what it said.
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, "complete log of this run") })
	reason := err.Error()
	if len(lines) > 0 {
		reason = lines[len(lines)-1]
	}
	return fmt.Errorf("install %s, which tests of storage run against: %s; it comes from %s: without a connection run \"go run ./internal/storeservers\" on a machine that has one, and copy its cache to %s", what, reason, from, dir)
}

// install gives the program's path, and builds it if it is not there yet.
func (m module) install(ctx context.Context) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, m.name+"-"+m.version)
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	temp, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	cmd := exec.CommandContext(ctx, "go", "install", m.path+"@"+m.version)
	cmd.Dir = temp
	cmd.Env = environ(dir, "GOBIN="+temp, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", installError(m.name+" "+m.version, "the Go module proxy", dir, err, out)
	}
	built := filepath.Join(temp, m.name)
	if runtime.GOOS == "windows" {
		built += ".exe"
	}
	return path, os.Rename(built, path)
}

// installAzurite gives the path of azurite's script for node.
func installAzurite(ctx context.Context) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "azurite-"+azuriteVersion)
	script := filepath.Join("node_modules", "azurite", "dist", "src", "blob", "main.js")
	if _, err := os.Stat(filepath.Join(dir, script)); err == nil {
		return filepath.Join(dir, script), nil
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".npm-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	cmd := exec.CommandContext(ctx, "npm", "install", "--prefix", temp, "--no-audit", "--no-fund", "azurite@"+azuriteVersion)
	cmd.Dir = temp
	cmd.Env = environ(filepath.Dir(dir))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", installError("azurite "+azuriteVersion, "the npm registry", filepath.Dir(dir), err, out)
	}
	if err := os.Rename(temp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		if _, err := os.Stat(filepath.Join(dir, script)); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, script), nil
}

// Install installs all that can be installed, and says what cannot.
func Install(ctx context.Context) error {
	var errs []error
	for _, m := range []module{versitygw, fakeGCS} {
		_, err := m.install(ctx)
		errs = append(errs, err)
	}
	_, err := installAzurite(ctx)
	return errors.Join(append(errs, err)...)
}
