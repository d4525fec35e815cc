package unit

import (
	"os"
	"path/filepath"
	"testing"
)

func TestServiceOfAControlGroup(t *testing.T) {
	for content, want := range map[string]string{
		"0::/system.slice/mariadb.service\n":                                      "mariadb.service",
		"0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n":   "postgresql@15-main.service",
		"13:pids:/\n1:name=systemd:/system.slice/redis-server.service\n0::/\n":    "redis-server.service",
		"1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n":    "b.service",
		"0::/system.slice/_cpu.service\n":                                         "cpu.service",
		"0::/top.service\n":                                                       "top.service",
		"0::/user.slice/user-1000.slice/session-3.scope\n":                        "",
		"0::/user.slice/user-1000.slice/user@1000.service\n":                      "",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/db.service\n": "",
		"0::/system.slice/docker-0123.scope\n":                                    "",
		"0::/system.slice/docker-0123.scope/system.slice/mariadb.service\n":       "",
		"0::/system.slice/containerd.service/kubepods-besteffort-pod1.slice/x\n":  "",
		"0::/../../system.slice/mariadb.service\n":                                "",
		"0::/system.slice/-x.service\n":                                           "",
		"0::/system.slice/.service\n":                                             "",
		"0::/system.slice/a b.service\n":                                          "",
		"0::/system.slice\n":                                                      "",
		"0::/\n":                                                                  "",
		"":                                                                        "",
		"nonsense":                                                                "",
		"0::":                                                                     "",
	} {
		if got := fromGroups(content); got != want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
}

func TestProcessThatIsNotThereIsAnError(t *testing.T) {
	if name, err := OfProcess(1 << 30); !os.IsNotExist(err) {
		t.Errorf("%q, %v; want that it does not exist", name, err)
	}
	if _, err := OfProcess(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func FuzzFromGroups(f *testing.F) {
	for _, s := range []string{"0::/system.slice/mariadb.service\n", "1:name=systemd:/a.slice/_b.service\n0::/\n", "0::/.slice/.slice/", ":::", "0::/..\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name := fromGroups(s); name != "" && (fromPath("/"+name) == "" && fromPath("/_"+name) == "") {
			t.Errorf("%q is no name of a unit", name)
		}
	})
}

func TestUnitStoppedForAWriterIsFoundByItsName(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.service":      `{"kind":"etcd","name":"one","stopped":["a.service","a.socket"]}`,
		"b.service":      `{"kind":"etcd","name":"two","frozen":true}`,
		"c.service":      `{"kind":"redis","name":"one","stopped":["c.service"]}`,
		"d.service":      `{"kind":`,
		"e.service.lock": ``,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range [][3]string{{"etcd", "one", "a.service"}, {"etcd", "two", ""}, {"redis", "one", "c.service"}, {"redis", "two", ""}} {
		if got := stoppedFor(dir, c[0], c[1]); got != c[2] {
			t.Errorf("%s %s: %q, want %q", c[0], c[1], got, c[2])
		}
	}
	if got := stoppedFor(filepath.Join(dir, "none"), "etcd", "one"); got != "" {
		t.Errorf("%q without notes", got)
	}
}
