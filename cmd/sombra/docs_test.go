package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestDocumentsNameEveryCommandAndFlag: nothing can be added to the command line
// that docs/cli.md and docs/configuration.md do not tell.
func TestDocumentsNameEveryCommandAndFlag(t *testing.T) {
	cli := readDoc(t, "docs/cli.md")
	all := cli + readDoc(t, "docs/configuration.md")
	seen := 0
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" {
			return
		}
		seen++
		heading := strings.Fields(cmd.CommandPath())
		if len(heading) > 1 && !regexp.MustCompile(`(?m)^### sombra `+heading[1]+`\b.*\b`+cmd.Name()+`\b|^### sombra `+cmd.Name()+`\b`).MatchString(cli) {
			t.Errorf("docs/cli.md has no heading for %s", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(all, "`--"+f.Name) && !strings.Contains(all, "--"+f.Name+"`") {
				t.Errorf("docs do not name --%s of %s", f.Name, cmd.CommandPath())
			}
		})
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(&app{}))
	if seen < 20 {
		t.Fatalf("only %d commands", seen)
	}
}

// TestDocumentsNameEveryMessage: each message type in the source is in the table
// of docs/cli.md.
func TestDocumentsNameEveryMessage(t *testing.T) {
	cli := readDoc(t, "docs/cli.md")
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	types := regexp.MustCompile(`(?:printJSON|jsonLine|\.line|a\.lines)\("(\w+)"|kind :?= "(\w+)"`)
	found := map[string]bool{}
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range types.FindAllStringSubmatch(string(data), -1) {
			found[m[1]+m[2]] = true
		}
	}
	if len(found) < 20 {
		t.Fatalf("only %d message types found in the source", len(found))
	}

	for name := range found {
		if !regexp.MustCompile("(?m)^\\|.*`" + name + "`.*\\|").MatchString(cli) {
			t.Errorf("docs/cli.md does not tell of message %s", name)
		}
	}
}

// TestDocumentsNameEveryKey: each key of the configuration is in
// docs/configuration.md.
func TestDocumentsNameEveryKey(t *testing.T) {
	text := readDoc(t, "docs/configuration.md")
	for name := range newConfigKeys(t) {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/configuration.md does not tell of %s", name)
		}
	}
}

func newConfigKeys(t *testing.T) map[string]any {
	t.Helper()
	data, err := yaml.Marshal(config{})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]any{}
	if err := yaml.Unmarshal(data, &keys); err != nil || len(keys) < 20 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	return keys
}

// TestExampleConfigurationLoads: the file in contrib, as it is and with what it
// has in comments switched on.
func TestExampleConfigurationLoads(t *testing.T) {
	text := readDoc(t, "contrib/sombra.yaml")
	on := regexp.MustCompile(`(?m)^#([a-z_ ]*( - )?[a-z_]+:)`).ReplaceAllString(text, "$1")
	if on == text {
		t.Fatal("nothing is in comments")
	}
	for name, text := range map[string]string{"as it is": text, "switched on": on} {
		c, err := parseConfig("sombra.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.Repository == "" || len(c.Paths) == 0 {
			t.Errorf("%s: it names no repository or no paths", name)
		}
		cmd := newBackup(&app{})
		a := &app{config: c, getenv: func(string) string { return "" }}
		if err := a.setOptions(cmd); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzConfig: whatever the configuration holds, reading it ends with an error of
// one line or with options that can be set or refused.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{"", "repository: r\n", "paths: [a, b]\nhold_limit: 3s\n", "writers:\n - kind: sqlite\n   config: {path: /x}\n",
		"limts: 1", "paths: [", "a: &a [*a]", "consistency: total", "exclude: {a: b}", "tag: [1, 2.5, null]", "tag: !0 0"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig("f", data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		a := &app{config: c, getenv: func(string) string { return "" }}
		if err := a.setOptions(newBackup(a)); err != nil && strings.ContainsAny(oneLine(err.Error()), "\n\r") {
			t.Errorf("an error of several lines: %q", err)
		}
		if _, err := c.sessionOptions(limitFlags{}); err != nil {
			t.Logf("%v", err)
		}
	})
}
