//go:build !unix

package writer

import (
	"context"
	"errors"
	"io/fs"
	"net"
)

// listen is not there: the writers of hosts without unix permissions on sockets
// belong to the host's own shadow copy service.
func listen(context.Context, string, fs.FileMode) (net.Listener, error) {
	return nil, errors.New("sockets with owner and mode do not exist on this system; its own shadow copy service has its own interface for writers")
}
