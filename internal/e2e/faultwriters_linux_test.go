package e2e

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sombra-backup/sombra/requester"
)

// shopWriter is the Test Writer's document of the shop, with events that fail.
const shopWriter = `<TestWriter usage="USER_DATA" pidFile="%[1]s/pids" supportsCopy="yes">
  <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always"/>
  <Component componentType="filegroup" componentName="Shop" selectable="yes">
    <ComponentFile path="%[1]s/data" filespec="*" recursive="yes"/>
  </Component>
  %[2]s
</TestWriter>
`

// shopApp has no hold of its own: its processes are stopped by the keeper.
type shopApp struct {
	*clientApp
	dir, xml string
}

func newShopApp(root, config string) (*shopApp, error) {
	dir := filepath.Join(root, "shop")
	s := &shopApp{dir: dir, xml: filepath.Join(config, "shop.xml")}
	file := filepath.Join(dir, "data", "numbers")
	s.clientApp = &clientApp{title: "testwriter", root: root, uid: uidShop, args: []string{"test-app", "file", file, "", ""},
		copy: func(to string) (int64, error) { return numbersIn(filepath.Join(to, file)) },
		own:  func(c requester.ComponentResult) bool { return c.Name == "Shop" },
		veto: s.veto}
	if err := ownDir(dir, uidShop); err != nil {
		return nil, err
	}
	if err := ownDir(filepath.Join(dir, "data"), uidShop); err != nil {
		return nil, err
	}
	if err := ownDir(config, uidShop); err != nil {
		return nil, err
	}
	return s, s.configure("")
}

func (s *shopApp) configure(more string) error {
	if err := os.WriteFile(s.xml, fmt.Appendf(nil, shopWriter, s.dir, more), 0o600); err != nil {
		return err
	}
	return os.Chown(s.xml, int(uidShop), int(uidShop))
}

// yaml is its entry in the configuration.
func (s *shopApp) yaml() string {
	return fmt.Sprintf("  - kind: testwriter\n    name: shop\n    config: {file: %s}\n", s.xml)
}

func (s *shopApp) start() error {
	if err := s.clientApp.start(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "pids"), fmt.Appendln(nil, s.pids()[0]), 0o644)
}

func (s *shopApp) veto(event string) (func(), string) {
	if event == pointCommit || event == pointCopying || event == pointRecord {
		return nil, "no writer is called there"
	}
	fails := fmt.Sprintf(`<FailEvent writerEvent="%s" retryable="no"/>`, event)
	if event == "Abort" {
		fails += `<FailEvent writerEvent="Freeze" retryable="no"/>`
	}
	if err := s.configure(fails); err != nil {
		return nil, err.Error()
	}
	return func() { s.configure("") }, ""
}

// counterApp pauses when a script tells it to, and goes on when another one
// does, whether or not whoever called them lives.
type counterApp struct {
	*clientApp
	scripts, pauseFile string
}

func newCounterApp(root, config string) (*counterApp, error) {
	dir := filepath.Join(root, "counter")
	c := &counterApp{scripts: filepath.Join(config, "hooks.d"), pauseFile: filepath.Join(config, "pause")}
	file, lock := filepath.Join(dir, "numbers"), filepath.Join(config, "lock")
	c.clientApp = &clientApp{title: "hooks", root: root, args: []string{"test-app", "file", file, lock, c.pauseFile},
		copy: func(to string) (int64, error) { return numbersIn(filepath.Join(to, file)) },
		own:  func(r requester.ComponentResult) bool { return r.Name == "counter" },
		pause: func() []string {
			if _, err := os.Lstat(c.pauseFile); err == nil {
				return []string{"the counter's pause"}
			}
			return nil
		},
		veto: c.veto}
	for _, d := range []string{dir, c.scripts} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	return c, c.script("10-counter", fmt.Sprintf(`case "$1" in
freeze) touch %[1]s; exec flock -x %[2]s true;;
thaw) rm -f %[1]s;;
esac`, c.pauseFile, lock))
}

func (c *counterApp) yaml(dir string) string {
	return fmt.Sprintf("  - kind: hooks\n    name: counter\n    config: {directory: %s, files_still: true, timeout: 5s, components: {counter: [%s]}}\n",
		c.scripts, dir)
}

func (c *counterApp) script(name, body string) error {
	return os.WriteFile(filepath.Join(c.scripts, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755)
}

// veto has a script fail that runs after the one that pauses.
func (c *counterApp) veto(event string) (func(), string) {
	word := map[string]string{"Freeze": "freeze", "Thaw": "thaw"}[event]
	if word == "" {
		return nil, "scripts are called at Freeze and Thaw only"
	}
	if err := c.script("20-broken", fmt.Sprintf(`[ "$1" != %s ] || { echo as the test wants >&2; exit 7; }`, word)); err != nil {
		return nil, err.Error()
	}
	return func() { os.Remove(filepath.Join(c.scripts, "20-broken")) }, ""
}
