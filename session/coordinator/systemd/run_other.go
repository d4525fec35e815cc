//go:build !linux

package systemd

import "os/exec"

func runToEnd(cmd *exec.Cmd) error { return cmd.Run() }
