package dbtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
)

// A Decoy is a program that only bears a server's name, in a directory of data.
type Decoy struct {
	Name  string     // the server program's
	Dir   string     // the directory it works in
	Files []string   // of Dir, made before, given to the same user as it
	Open  []*os.File // which it has open, too
}

// Found runs the decoy while its directory is the user's, and reports what find
// says of it. Only root can give the directory to others.
func (d Decoy) Found(scratch string, uid int, find func() bool) (found bool, err error) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		return false, err
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		return false, err
	}
	decoy := filepath.Join(scratch, d.Name)
	if err := os.WriteFile(decoy, program, 0o755); err != nil {
		return false, err
	}
	for _, name := range append([]string{""}, d.Files...) {
		if err := os.Chown(filepath.Join(d.Dir, name), uid, uid); err != nil {
			return false, err
		}
	}
	cmd := exec.Command(decoy, "600")
	cmd.Dir, cmd.ExtraFiles = d.Dir, d.Open
	if err := cmd.Start(); err != nil {
		return false, err
	}
	found = find()
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return found, err
	}
	_ = cmd.Wait() // says that it was killed
	return found, nil
}
