package writer

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// PeerOwner tells which user and process are at the other end of a unix socket,
// as the kernel noted it when the connection was made (SO_PEERCRED): for a
// socket pair that is who made the pair. The service uses it to trust a program
// with the files it declares only if it is root's or owns them all.
func PeerOwner(conn net.Conn) (uid uint32, pid int, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0, 0, fmt.Errorf("peer owner: a %T is no socket", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, 0, fmt.Errorf("peer owner: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, 0, fmt.Errorf("peer owner: %w", err)
	}
	if cerr != nil {
		return 0, 0, fmt.Errorf("peer owner: %w", cerr)
	}
	if cred.Pid == 0 {
		// What the kernel gives for sockets that are not of the unix family.
		return 0, 0, fmt.Errorf("peer owner: the kernel does not know the peer of this connection")
	}
	return cred.Uid, int(cred.Pid), nil
}
