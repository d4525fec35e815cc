package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sombra-backup/sombra/repository/store"
)

// ahead is how many folders are read before they are needed.
const ahead = 8

// maxHeld bounds the entries that a listing holds at once: of a folder, of those
// that it lies in, and of those read ahead. When there are many already, nothing
// is read ahead.
const maxHeld = 1 << 19

// held counts them.
type held struct{ entries atomic.Int64 }

// folder is a folder that was read.
type folder struct {
	entries []os.FileInfo
	err     error
}

// List implements store.Store. The names come in order. Each folder is synced
// before its files are shown: another program may have given a name and not yet
// synced it, and whoever builds on what was listed must not lose it.
func (s *Store) List(ctx context.Context, prefix string, f func(store.Info) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	top := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		top = prefix[:i]
		if err := store.CheckName(top); err != nil {
			return fmt.Errorf("list: %w", err)
		}
	}
	h := &held{}
	return s.walk(ctx, h, top, s.read(ctx, h, top, true), func(name string, fi os.FileInfo) error {
		if fi.Mode().Type() == fs.ModeSymlink && related(name+"/", prefix) {
			return store.Permanent(fmt.Errorf("list %s: %s is a symbolic link, and none is followed inside a repository", prefix, name))
		}
		if fi.IsDir() && !related(name+"/", prefix) {
			return fs.SkipDir
		}
		if !fi.Mode().IsRegular() || !strings.HasPrefix(name, prefix) || !store.ValidName(name) {
			return nil
		}
		return f(store.Info{Name: name, Size: fi.Size(), ModTime: fi.ModTime()})
	})
}

// related says whether names below dir can begin with prefix.
func related(dir, prefix string) bool {
	return strings.HasPrefix(dir, prefix) || strings.HasPrefix(prefix, dir)
}

// read reads a folder. One that is not there, or is none, is empty.
func (s *Store) read(ctx context.Context, h *held, dir string, synced bool) folder {
	var r folder
	err := s.do(ctx, "list", dir, func(c *conn) (err error) {
		if r.entries, err = c.client.ReadDirContext(ctx, s.path(dir)); err != nil {
			return err
		}
		if synced && len(r.entries) > 0 {
			return s.syncDir(c, s.path(dir))
		}
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		// Below a file there is nothing.
		if info, serr := s.Stat(ctx, path.Clean(dir)); dir == "" || serr != nil || info.Name == "" {
			r.err = err
		}
		r.entries = nil
	}
	if n := h.entries.Add(int64(len(r.entries))); n > maxHeld {
		h.entries.Add(-int64(len(r.entries)))
		return folder{err: store.Permanent(fmt.Errorf("list %s: the server lists more than %d entries in folders that lie in each other", dir, maxHeld))}
	}
	slices.SortFunc(r.entries, func(a, b os.FileInfo) int { return strings.Compare(orderOf(a), orderOf(b)) })
	return r
}

// orderOf is the name of an entry as it stands in the names of objects.
func orderOf(fi os.FileInfo) string {
	if fi.IsDir() {
		return fi.Name() + "/"
	}
	return fi.Name()
}

// walk shows everything below a folder; fs.SkipDir passes over one. Some folders
// are read before their turn, so that a listing does not wait for each.
func (s *Store) walk(ctx context.Context, h *held, dir string, r folder, show func(name string, fi os.FileInfo) error) error {
	if r.err != nil {
		return r.err
	}
	defer h.entries.Add(-int64(len(r.entries)))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type turn struct {
		name   string
		fi     os.FileInfo
		folder chan folder
	}
	var turns []turn
	for _, fi := range r.entries {
		name := path.Join(dir, fi.Name())
		if fi.Name() == "" || strings.ContainsRune(fi.Name(), '/') || fi.IsDir() && !store.ValidName(name) {
			continue
		}
		turns = append(turns, turn{name: name, fi: fi})
	}
	next := 0
	running := 0
	for i := range turns {
		for ; next < len(turns) && (next <= i || running < ahead && h.entries.Load() < maxHeld/8); next++ {
			t := &turns[next]
			if !t.fi.IsDir() || show(t.name, t.fi) == fs.SkipDir {
				continue
			}
			running++
			t.folder = make(chan folder, 1)
			go func() { t.folder <- s.read(ctx, h, t.name, true) }()
		}
		t := turns[i]
		turns[i].fi = nil
		if err := ctx.Err(); err != nil {
			return err
		}
		if t.folder == nil {
			if !t.fi.IsDir() {
				if err := show(t.name, t.fi); err != nil {
					return err
				}
			}
			continue
		}
		below := <-t.folder
		running--
		if err := s.walk(ctx, h, t.name, below, show); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Sweep implements store.Sweeper: it removes temporary files last written to
// longer than age ago.
func (s *Store) Sweep(ctx context.Context, age time.Duration) error {
	h := &held{}
	return s.walk(ctx, h, "", s.read(ctx, h, "", false), func(name string, fi os.FileInfo) error {
		if !fi.Mode().IsRegular() || !strings.HasPrefix(fi.Name(), tempPrefix) || time.Since(fi.ModTime()) <= age {
			return nil
		}
		err := s.do(ctx, "sweep", name, func(c *conn) error { return c.client.Remove(s.path(name)) })
		if errors.Is(err, store.ErrNotExist) {
			return nil
		}
		return err
	})
}
