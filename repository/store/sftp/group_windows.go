package sftp

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps an interrupt at the terminal from ssh: the program ends in
// order, and needs its connection for that.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// killGroup ends ssh.
func killGroup(cmd *exec.Cmd) { cmd.Process.Kill() }
