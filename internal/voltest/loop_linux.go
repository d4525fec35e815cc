package voltest

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// attach connects an image to a free loop device that frees itself when
// nothing uses it any more. Where /dev has no node for the device the kernel
// offers, one is made.
func attach(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("ask for a free loop device: %w", err)
		}
		name := fmt.Sprintf("/dev/loop%d", n)
		dev, err := os.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(n)))); err != nil && err != unix.EEXIST {
				return nil, fmt.Errorf("make %s: %w", name, err)
			}
			dev, err = os.OpenFile(name, os.O_RDWR, 0)
		}
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if err == nil {
			return dev, nil
		}
		dev.Close()
		if err != unix.EBUSY { // EBUSY: somebody else was faster
			return nil, fmt.Errorf("configure %s: %w", name, err)
		}
	}
	return nil, errors.New("every loop device offered was taken before it could be used")
}
