package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sombra-backup/sombra/internal/dbtest"
	"github.com/sombra-backup/sombra/internal/voltest"
)

// unitDatabase is a database server that a unit of the booted host runs.
type unitDatabase struct {
	name string
	// make makes the data directory, write writes a value, read reads it.
	make        []string
	exec, more  string // of the unit's [Service]
	write, read func(value string) []string
}

// unitDatabases are such servers with their data below a directory of the host.
func (h *booted) unitDatabases() []unitDatabase {
	h.t.Helper()
	run := h.data("run")
	pg := func(sql string) []string {
		return []string{"setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "psql", "-Atq", "-v", "ON_ERROR_STOP=1", "-h", run, "-p", "5432", "-c", sql}
	}
	client, peer := h.freeURL(), h.freeURL()
	etcdctl := func(args ...string) []string {
		return append([]string{"env", "ETCDCTL_API=3", "etcdctl", "--endpoints", client, "--dial-timeout=10s", "--command-timeout=30s"}, args...)
	}
	redis := func(args ...string) []string {
		return append([]string{"redis-cli", "-s", filepath.Join(run, "redis.sock")}, args...)
	}
	write(h.t, h.data("redis.conf"), fmt.Sprintf("port 0\nunixsocket %s/redis.sock\nunixsocketperm 777\ndir %s\nappendonly yes\nappendfsync always\nsupervised systemd\n", run, h.data("redis")))
	h.must(os.Chmod(h.data("redis.conf"), 0o644))
	return []unitDatabase{
		{
			name: "postgres", make: []string{"setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", dbtest.PostgresBin + "/initdb", "-A", "trust", "--no-sync", "--no-locale", "-D", h.data("postgres")},
			exec: fmt.Sprintf("%s/postgres -D %s -k %s -p 5432 -c listen_addresses= -c shared_buffers=16MB", dbtest.PostgresBin, h.data("postgres"), run),
			more: "KillMode=mixed\nKillSignal=SIGINT\n",
			write: func(v string) []string {
				return pg("CREATE TABLE IF NOT EXISTS value (v text); DELETE FROM value; INSERT INTO value VALUES ('" + v + "')")
			},
			read: func(string) []string { return pg("SELECT v FROM value") },
		},
		{
			name: "redis", exec: dbtest.RedisBin + " " + h.data("redis.conf"),
			write: func(v string) []string { return redis("SET", "value", v) },
			read:  func(string) []string { return redis("GET", "value") },
		},
		{
			name: "etcd", exec: fmt.Sprintf("%s --name default --data-dir %s --listen-client-urls %s --advertise-client-urls %s --listen-peer-urls %s --initial-advertise-peer-urls %s --initial-cluster default=%s",
				dbtest.EtcdBin, h.data("etcd"), client, client, peer, peer, peer),
			more:  "TimeoutStartSec=120\n",
			write: func(v string) []string { return etcdctl("put", "value", v) },
			read:  func(string) []string { return etcdctl("get", "--print-value-only", "value") },
		},
	}
}

// freeURL is an address of this machine alone that nobody listens on.
func (h *booted) freeURL() string {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	defer l.Close()
	return "http://" + l.Addr().String()
}

// does runs a command in the host that must succeed, and gives what it said.
func (h *booted) does(command []string) string {
	h.t.Helper()
	out, code := h.run(command...)
	if code != 0 {
		h.t.Fatalf("%s: exit code %d\n%s", strings.Join(command, " "), code, out)
	}
	return strings.TrimSpace(out)
}

// TestDatabasesOfUnitsAreRestoredInPlace: servers that units run are found with
// their units. A backup leaves these running; a restore in place stops and starts
// them, as units and not as programs of its own, and the data is that of the backup.
func TestDatabasesOfUnitsAreRestoredInPlace(t *testing.T) {
	for _, name := range []string{dbtest.PostgresBin + "/postgres", dbtest.RedisBin, dbtest.EtcdBin} {
		if _, err := os.Stat(name); err != nil {
			voltest.Skip(t, "%s is not installed", name)
		}
	}
	dir := scratch(t)
	h := newBooted(t, dir, nil)
	h.must(os.Chmod(dir, 0o755))
	h.must(os.MkdirAll(h.data("run"), 0o755))
	h.must(os.Chmod(h.data("run"), 0o777))
	list := h.unitDatabases()
	for _, d := range list {
		h.must(os.Mkdir(h.data(d.name), 0o700))
		h.unit(d.name+".service", "[Service]\nType=notify\nUser="+d.name+"\nExecStart="+d.exec+"\n"+d.more)
	}
	h.start()
	units := []string{}
	for _, d := range list {
		h.does([]string{"chown", d.name + ":" + d.name, h.data(d.name)})
		if d.make != nil {
			h.does(d.make)
		}
		units = append(units, d.name+".service")
	}
	h.does(append([]string{"systemctl", "start"}, units...))
	for _, d := range list {
		h.does(d.write("first"))
	}
	h.sombra(0, "init")
	before := h.invocations(units)
	h.sombra(0, "backup", h.data(""))
	if now := h.invocations(units); now != before {
		t.Errorf("the backup has started units anew: they were\n%s\nand are\n%s", before, now)
	}
	for _, d := range list {
		h.does(d.write("later"))
	}
	out := h.sombra(0, "restore", "latest")
	now := h.invocations(units)
	for i, d := range list {
		if got := h.does(d.read("")); got != "first" {
			t.Errorf("%s has %q after the restore, want %q\n%s", d.name, got, "first", out)
		}
		was, is := strings.Split(before, "\n")[i], strings.Split(now, "\n")[i]
		if was == is || !strings.HasPrefix(is, "active ") {
			t.Errorf("the unit was %q, and is %q after the restore: it was not stopped and started", was, is)
		}
	}
	if notes := h.notes(); notes != "" {
		t.Errorf("still noted: %q", notes)
	}
	for _, d := range list {
		h.does(d.write("goes on"))
	}
}

// invocations are the runs of units, and their states, a line each.
func (h *booted) invocations(units []string) string {
	h.t.Helper()
	var lines []string
	for _, u := range units {
		lines = append(lines, strings.ReplaceAll(h.does([]string{"systemctl", "show", "--value", "--property=InvocationID,ActiveState", u}), "\n", " "))
	}
	return strings.Join(lines, "\n")
}
