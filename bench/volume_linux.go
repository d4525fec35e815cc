package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// volume is a new file system in a file, mounted through a loop device.
type volume struct{ dir, root string }

// newVolume makes one with mkfs in a directory of its own below dir.
func newVolume(dir, fsType string, size int64) (*volume, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("only root can mount a volume: run it as root")
	}
	dir, err := os.MkdirTemp(dir, "sombra-bench-")
	if err != nil {
		return nil, err
	}
	v := &volume{dir: dir, root: filepath.Join(dir, "mnt")}
	if err := v.mount(filepath.Join(dir, "image"), fsType, size); err != nil {
		return nil, errors.Join(err, v.close())
	}
	return v, nil
}

func (v *volume) mount(image, fsType string, size int64) error {
	f, err := os.OpenFile(image, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close(), os.Mkdir(v.root, 0o755)); err != nil {
		return err
	}
	if err := command("mkfs."+fsType, "-q", image); err != nil {
		return err
	}
	// The loop device goes by itself with the mount.
	return command("mount", "-t", fsType, "-o", "loop", image, v.root)
}

// close unmounts the volume and removes it.
func (v *volume) close() error {
	if err := unix.Unmount(v.root, 0); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return &os.PathError{Op: "unmount", Path: v.root, Err: err}
	}
	return os.RemoveAll(v.dir)
}

// command runs a program of the system; its error says what the program said.
func command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if path, err := exec.LookPath(name); err == nil {
		cmd.Path, cmd.Err = path, nil
	} else if path := filepath.Join("/usr/sbin", name); cmd.Err != nil {
		cmd.Path, cmd.Err = path, nil
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
