//go:build unix

package server

import (
	"archive/zip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tiny is a program on a proxy of this machine.
var tiny = module{"tiny", "example.test/tiny", "v1.0.0"}

// proxy makes a module proxy in a folder, and gives its URL.
func proxy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, tiny.path, "@v")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	const mod = "module example.test/tiny\n\ngo 1.21\n"
	for name, text := range map[string]string{"list": tiny.version + "\n", tiny.version + ".info": `{"Version":"` + tiny.version + `"}`, tiny.version + ".mod": mod} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(at, tiny.version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(f)
	for name, text := range map[string]string{"go.mod": mod, "main.go": "package main\n\nfunc main() { println(\"tiny\") }\n"} {
		part, err := w.Create(tiny.path + "@" + tiny.version + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return "file://" + dir
}

func TestProgramsAreInstalledWithoutHome(t *testing.T) {
	dir := t.TempDir()
	// Building the standard library anew would take half a minute.
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"HOME", "GOPATH", "GOMODCACHE", "GOCACHE"} {
		t.Setenv(name, "")
	}
	t.Setenv("XDG_CACHE_HOME", dir)
	t.Setenv("GOPROXY", proxy(t))
	t.Setenv("GONOSUMDB", "example.test")
	t.Setenv("GONOSUMCHECK", "1")
	t.Setenv("GOTOOLCHAIN", "local")
	if env := environ(dir); !slices.Contains(env, "GOCACHE="+filepath.Join(dir, "go-build")) {
		t.Errorf("without HOME go has no cache: %v", env)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
	program, err := tiny.install(t.Context())
	// The module cache is read-only.
	defer exec.Command("chmod", "-R", "u+w", dir).Run()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "tiny" {
		t.Errorf("it printed %q: %v", out, err)
	}
}

func TestWithoutAConnectionItIsSaidInALineWhatToDo(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	t.Setenv("GOMODCACHE", t.TempDir())
	t.Setenv("GOPROXY", "off")
	t.Setenv("npm_config_offline", "true")
	t.Setenv("npm_config_cache", t.TempDir())
	_, goErr := versitygw.install(t.Context())
	_, npmErr := installAzurite(t.Context())
	for name, err := range map[string]error{"versitygw v1": goErr, "azurite 3": npmErr} {
		if err == nil {
			t.Errorf("%s was installed", name)
			continue
		}
		text := err.Error()
		for _, want := range []string{"install " + name, "without a connection", "go run ./internal/storeservers", dir} {
			if !strings.Contains(text, want) || strings.Contains(text, "\n") {
				t.Errorf("%s: %q does not say %q in one line", name, text, want)
			}
		}
	}
}
