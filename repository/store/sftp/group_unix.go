//go:build unix

package sftp

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps an interrupt at the terminal from ssh: the program ends in
// order, and needs its connection for that.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup ends ssh and what it has started, such as proxies.
func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
