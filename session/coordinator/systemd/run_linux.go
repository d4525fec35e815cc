package systemd

import (
	"os/exec"
	"runtime"
	"syscall"
)

// runToEnd runs a command that does not outlive this process: a stop that was asked
// for by one that is killed must not come after whoever undoes it. The kernel sends
// the signal when the thread that started the command ends, so it is kept.
func runToEnd(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}
