//go:build linux

package mountfs

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sombra-backup/sombra/repository"
)

// The errors of Mount that have a way out, found with errors.Is.
var (
	// ErrNoFUSE says that the system has no FUSE: no /dev/fuse.
	ErrNoFUSE = errors.New("this system has no FUSE (/dev/fuse)")
	// ErrNoHelper says that who is not root needs fusermount3.
	ErrNoHelper = errors.New("fusermount3 is not installed")
	// ErrRefused says that fusermount3 would not mount. It has told why on
	// standard error.
	ErrRefused = errors.New("fusermount3 refuses")
	// ErrDead says that a mount is there whose program is gone.
	ErrDead = errors.New("a mount is there whose program has ended")
)

// Mount is a mounted repository.
type Mount struct {
	dir    string
	server *fuse.Server
	cancel context.CancelFunc
	ended  chan struct{}
}

// Start mounts the repository on the directory and serves it until Unmount is
// called or somebody unmounts it. Root mounts itself, everybody else through
// fusermount3.
func Start(ctx context.Context, repo *repository.Repository, dir string, o Options) (*Mount, error) {
	dir, err := mountPoint(dir)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	// The mount ends by being unmounted: what reads in it is stopped then.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f, err := New(ctx, repo, o)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("mount: %w", err)
	}
	server, err := fuse.NewServer(f, dir, f.mountOptions())
	if err != nil {
		cancel()
		if os.Geteuid() != 0 && strings.HasPrefix(err.Error(), "fusermount exited") {
			err = ErrRefused
		}
		return nil, fmt.Errorf("mount on %s: %w", dir, err)
	}
	m := &Mount{dir: dir, server: server, cancel: cancel, ended: make(chan struct{})}
	go f.keepRenewed()
	go func() {
		server.Serve()
		cancel()
		close(m.ended)
	}()
	if err := server.WaitMount(); err != nil {
		return nil, errors.Join(fmt.Errorf("mount on %s: %w", dir, err), m.Unmount())
	}
	return m, nil
}

// mountPoint looks at the directory to mount on.
func mountPoint(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return "", fmt.Errorf("%s: %w", dir, ErrDead)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", &os.PathError{Op: "mount on", Path: dir, Err: syscall.ENOTDIR}
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return "", ErrNoFUSE
	}
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			if _, err := exec.LookPath("fusermount"); err != nil {
				return "", ErrNoHelper
			}
		}
		// The helper opens it with the caller's rights.
		if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
			return "", &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
		}
	}
	return dir, nil
}

// mountOptions are those for go-fuse.
func (f *FS) mountOptions() *fuse.MountOptions {
	o := &fuse.MountOptions{
		FsName: "sombra", Name: "sombra",
		AllowOther:    f.o.AllowOther,
		MaxWrite:      512 << 10, // the most that is read at once
		MaxReadAhead:  512 << 10,
		DisableSplice: true,
		Logger:        log.New(logLines{f}, "", 0),
		PanicHandler: func(v any) fuse.Status {
			f.log.Error("mount: a request failed by a mistake of this program", "error", fmt.Sprint(v))
			return fuse.EIO
		},
	}
	if f.o.AllowOther {
		// Then the kernel checks what the entries say, ACLs included.
		o.Options = append(o.Options, "default_permissions")
		o.EnableAcl = true
	}
	if os.Geteuid() == 0 {
		o.DirectMountStrict = true
		o.DirectMountFlags = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_RDONLY | syscall.MS_NOATIME
	} else {
		o.Options = append(o.Options, "ro", "nosuid", "nodev", "noatime")
	}
	return o
}

// logLines passes what go-fuse logs on.
type logLines struct{ f *FS }

func (l logLines) Write(line []byte) (int, error) {
	l.f.log.Warn("fuse: " + string(line))
	return len(line), nil
}

// Ended is closed when the file system is no longer served: after Unmount, or
// when somebody else unmounted it.
func (m *Mount) Ended() <-chan struct{} { return m.ended }

// Unmount unmounts. If something is in use it detaches the mount, so that nobody
// gets in any more; whoever is in gets errors as soon as the program ends. The
// error is then a BusyError.
func (m *Mount) Unmount() (err error) {
	select {
	case <-m.ended:
		return nil
	default:
	}
	if err = m.server.Unmount(); err == nil {
		<-m.ended
		return nil
	}
	select {
	case <-m.ended: // somebody else was faster
		return nil
	default:
	}
	m.cancel()
	if os.Geteuid() == 0 {
		err = syscall.Unmount(m.dir, syscall.MNT_DETACH)
	} else {
		err = lazily(m.dir)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", m.dir, err)
	}
	return &BusyError{m.dir}
}

// lazily detaches a mount through the helper.
func lazily(dir string) error {
	for _, name := range []string{"fusermount3", "fusermount"} {
		if bin, err := exec.LookPath(name); err == nil {
			return exec.Command(bin, "-u", "-z", "--", dir).Run()
		}
	}
	return ErrNoHelper
}

// BusyError says that a mount was in use when it ended, and was detached.
type BusyError struct{ Dir string }

// Error names the place.
func (e *BusyError) Error() string { return e.Dir + " was in use, and was detached" }
