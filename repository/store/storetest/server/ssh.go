package server

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
)

// SSH is a running sshd of OpenSSH that lets this user in by a key of its own.
type SSH struct {
	// Host is the name under which Command knows the server.
	Host string
	// Addr is its host and port.
	Addr string
	// Command is ssh with a configuration that has the key and the server's
	// host key.
	Command []string
	// Dir is an empty folder, for what is stored.
	Dir string
	// Config is that configuration, KnownHosts the file with the host key.
	Config, KnownHosts string
}

// StartSSH starts sshd.
func StartSSH(t testing.TB) *SSH {
	t.Helper()
	sshd := "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		t.Fatalf("the server of OpenSSH is needed: %v", err)
	}
	if os.Geteuid() == 0 {
		// Where it goes to when it has no user's rights yet.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	s := &SSH{Host: "sombra-test-server", Addr: freeAddr(t), Dir: filepath.Join(dir, "stored"),
		Config: filepath.Join(dir, "client.conf"), KnownHosts: filepath.Join(dir, "known_hosts")}
	s.Command = []string{"ssh", "-F", s.Config}
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(dir, "server.conf"): fmt.Sprintf(`ListenAddress %s
HostKey %s/host
AuthorizedKeysFile %s/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
MaxStartups 100
Subsystem sftp internal-sftp
`, s.Addr, dir, dir),
		s.KnownHosts: fmt.Sprintf("[%s]:%s %s", host, port, public),
		s.Config: fmt.Sprintf(`Host %s
  HostName %s
  Port %s
  User %s
  IdentityFile %s/user
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile %s
  GlobalKnownHostsFile none
`, s.Host, host, port, me.Username, dir, s.KnownHosts),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start(t, s.Addr, exec.Command(sshd, "-D", "-e", "-f", filepath.Join(dir, "server.conf")))
	return s
}
