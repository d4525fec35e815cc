//go:build !linux

package quiesce

import (
	"context"
	"net"

	"github.com/sombra-backup/sombra/vss"
)

type socket struct{ net.Listener }

func errNotHere() error {
	return vss.Errorf(vss.ErrNotSupported, "freeze", "writers", "on this host its own service does that for the hypervisor")
}

func listen(string) (*socket, error) { return nil, errNotHere() }

func dial(context.Context, string) (net.Conn, error) { return nil, errNotHere() }

func spawn(string, []string) (net.Conn, error) { return nil, errNotHere() }

// Starter is the connection with which a holder's process was started.
func Starter() (net.Conn, error) { return nil, errNotHere() }

func checkPeer(net.Conn) (int, error) { return 0, errNotHere() }
