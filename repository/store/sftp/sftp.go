// Package sftp keeps the objects of a repository as files in a folder of a
// server that is reached by SSH.
//
// Connections are made by the system's own ssh, so that whatever the user has
// set up for it holds here too: names, keys, agents, hosts to jump over. The
// server's host key must be known to it, and it never asks anything.
//
// An object is written to a temporary file in its own folder, synced, and given
// its name by a hard link, which never replaces; then the folder is synced. So a
// name is either absent or names the whole object, and after Put returned, or
// List showed it, it survives a loss of power of the server, if that keeps what
// it answers to fsync@openssh.com. The syncing of a folder is a handle opened on
// it like on a file. A server that cannot sync is refused, unless the URL says
// that this is known.
package sftp

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/pkg/sftp"

	"github.com/sombra-backup/sombra/repository/store"
)

// tempPrefix begins the names of files not yet complete. No object's name has a
// component that begins with a dot.
const tempPrefix = ".sombra-tmp-"

// do makes a call over a connection.
func (s *Store) do(ctx context.Context, op, name string, f func(c *conn) error) error {
	c, err := s.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s %s: %w", op, name, err)
	}
	err = c.call(ctx, func() error { return f(c) })
	if err == nil || err == io.EOF {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.fail(op, name, err)
}

// fail gives an error of a call the meaning that store.Store defines. What the
// server answers is final; what broke with the connection is not.
func (c *conn) fail(op, name string, err error) error {
	var status *sftp.StatusError
	switch broken := c.broken.Load(); {
	case broken != nil:
		c.close()
		err = store.Permanent(*broken)
	case errors.Is(err, fs.ErrNotExist):
		err = store.ErrNotExist
	case errors.Is(err, fs.ErrPermission) && op == "delete":
		err = fmt.Errorf("%w: the server refuses it", store.ErrLocked)
	case errors.Is(err, fs.ErrPermission):
		err = store.Permanent(errors.New("the server refuses it"))
	case errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, sftp.ErrSSHFxNoConnection):
		c.close()
		if words := c.stderr.String(); words != "" {
			err = fmt.Errorf("%w: %s", err, words)
		}
	case errors.As(err, &status):
		err = store.Permanent(fmt.Errorf("the server answers %w", err))
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := before(ctx, "put", name); err != nil {
		return err
	}
	return s.do(ctx, "put", name, func(c *conn) error {
		p := s.path(name)
		if _, err := c.client.Lstat(p); err == nil {
			return s.exists(c, p)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := s.makeDir(c, path.Dir(p)); err != nil {
			return err
		}
		temp := path.Join(path.Dir(p), tempPrefix+rand.Text())
		err := s.write(ctx, c, temp, data)
		if err == nil {
			err = s.name(c, temp, p)
		}
		// The name stays if it was given, whatever becomes of the temporary
		// one: it is swept later.
		if rerr := c.client.Remove(temp); rerr != nil && err == nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = rerr
		}
		if err != nil {
			return s.full(c, err, len(data))
		}
		return s.syncDir(c, path.Dir(p))
	})
}

// exists is what Put gives for a name that is taken. Whoever gave it may have
// been killed before the folder was synced.
func (s *Store) exists(c *conn, p string) error {
	if err := s.syncDir(c, path.Dir(p)); err != nil {
		return err
	}
	return store.ErrExist
}

// writePiece is how much is written between looks at the context.
const writePiece = 4 << 20

// write makes a durable file of the data.
func (s *Store) write(ctx context.Context, c *conn, temp string, data []byte) (err error) {
	f, err := c.client.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	for rest := data; len(rest) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := rest[:min(len(rest), writePiece)]
		if _, err := f.Write(part); err != nil {
			return err
		}
		rest = rest[len(part):]
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != int64(len(data)) {
		return fmt.Errorf("wrote %d bytes but the file has %d", len(data), fi.Size())
	}
	return s.sync(f)
}

// sync makes a file durable.
func (s *Store) sync(f *sftp.File) error {
	if s.l.NoSync {
		return nil
	}
	if err := f.Sync(); err != nil {
		var status *sftp.StatusError
		if errors.As(err, &status) {
			return store.Permanent(fmt.Errorf("the server cannot sync %s (fsync@openssh.com): what it stores may be lost with its power; if you accept that, add ?fsync=no to the URL: %w", path.Base(f.Name()), err))
		}
		return err
	}
	return nil
}

// syncDir makes the names in a folder durable.
func (s *Store) syncDir(c *conn, dir string) error {
	if s.l.NoSync {
		return nil
	}
	f, err := c.client.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.sync(f)
}

// hardlink is the extension of the protocol that hard links are.
const hardlink = "hardlink@openssh.com"

// name gives a file its name, without replacing. Hard links do that. Where there
// are none, renaming must refuse a name that is taken, by the protocol, and many
// servers do not; so it is looked for first, and of two at the same instant both
// may win: see MayReplace.
func (s *Store) name(c *conn, temp, p string) error {
	if _, ok := c.client.HasExtension(hardlink); ok {
		err := c.client.Link(temp, p)
		var status *sftp.StatusError
		if err == nil || !errors.As(err, &status) {
			return err
		}
		if _, serr := c.client.Lstat(p); serr == nil {
			return s.exists(c, p)
		}
	}
	s.replaces.Store(true)
	if _, err := c.client.Lstat(p); err == nil {
		return s.exists(c, p)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := c.client.Rename(temp, p)
	if err != nil {
		if _, serr := c.client.Lstat(p); serr == nil {
			return s.exists(c, p)
		}
	}
	return err
}

// full says of an error whether it comes from a full disk, which the protocol has
// no word for.
func (s *Store) full(c *conn, err error, size int) error {
	var status *sftp.StatusError
	if !errors.As(err, &status) {
		return err
	}
	if v, verr := c.client.StatVFS(s.l.Dir); verr == nil && v.Frsize*v.Bavail < uint64(size) {
		return store.Permanent(fmt.Errorf("no room on the server: %w", err))
	}
	return err
}

// makeDir makes a folder and its parents durably, with mode 0700.
func (s *Store) makeDir(c *conn, dir string) error {
	s.mu.Lock()
	made := s.made[dir]
	s.mu.Unlock()
	if made || dir == "/" || dir == "." {
		return nil
	}
	fi, err := c.client.Stat(dir)
	switch {
	case err == nil && !fi.IsDir():
		return store.Permanent(fmt.Errorf("%s is not a folder", dir))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	missing := err != nil
	below := len(dir) > len(s.l.Dir)
	if missing || below {
		if err := s.makeDir(c, path.Dir(dir)); err != nil {
			return err
		}
	}
	if missing {
		if err := c.client.Mkdir(dir); err == nil {
			if err := c.client.Chmod(dir, 0o700); err != nil {
				return err
			}
		} else if fi, serr := c.client.Stat(dir); serr != nil || !fi.IsDir() {
			return err
		}
	}
	// One of ours that was there may have been made by a program that was
	// killed before it synced the parent.
	if missing || below {
		if err := s.syncDir(c, path.Dir(dir)); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.made[dir] = true
	s.mu.Unlock()
	return nil
}

// ReadAt implements store.Store.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, offset int64) (n int, err error) {
	if err := before(ctx, "read", name); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, store.Permanent(fmt.Errorf("read %s: negative offset %d", name, offset))
	}
	err = s.do(ctx, "read", name, func(c *conn) error {
		if _, err := s.regular(c, name); err != nil {
			return err
		}
		f, err := c.client.Open(s.path(name))
		if err != nil {
			return err
		}
		defer f.Close()
		if len(p) == 0 {
			return nil
		}
		n, err = f.ReadAt(p, offset)
		if err == io.EOF && n == len(p) {
			return nil
		}
		return err
	})
	return n, err
}

// regular describes an object: what is no regular file is none.
func (s *Store) regular(c *conn, name string) (os.FileInfo, error) {
	fi, err := c.client.Lstat(s.path(name))
	if err == nil && !fi.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return fi, err
	}
	// Below a file there is nothing; OpenSSH has no word of its own for that.
	var status *sftp.StatusError
	if errors.As(err, &status) {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if up, uerr := c.client.Lstat(s.path(dir)); uerr == nil && up.Mode().IsRegular() {
				return nil, fs.ErrNotExist
			}
		}
	}
	return nil, err
}

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, name string) (info store.Info, err error) {
	if err := before(ctx, "stat", name); err != nil {
		return info, err
	}
	err = s.do(ctx, "stat", name, func(c *conn) error {
		fi, err := s.regular(c, name)
		if err == nil {
			info = store.Info{Name: name, Size: fi.Size(), ModTime: fi.ModTime()}
		}
		return err
	})
	return info, err
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := before(ctx, "delete", name); err != nil {
		return err
	}
	return s.do(ctx, "delete", name, func(c *conn) error {
		if _, err := s.regular(c, name); err != nil {
			return err
		}
		return c.client.Remove(s.path(name))
	})
}

// before makes the tests common to all methods that name an object.
func before(ctx context.Context, op, name string) error {
	if err := store.CheckName(name); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return ctx.Err()
}
