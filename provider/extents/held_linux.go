package extents

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Held sums up the data below a directory that no other file shares. Compressed
// data counts as what it decodes to. If the context's deadline comes before the
// end, all is false; files that cannot be opened are passed over, and then it is
// false, too. Nobody else may have a hand in the directory.
func Held(ctx context.Context, root string) (bytes uint64, all bool, err error) {
	all = true
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			all = false
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		n, err := heldBy(ctx, name)
		bytes += n
		if err != nil && ctx.Err() == nil {
			all, err = false, nil
		}
		return err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return bytes, false, nil
	}
	return bytes, all, err
}

func heldBy(ctx context.Context, name string) (bytes uint64, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	m := newFiemap(f)
	for {
		for ; m.used < m.req.mapped; m.used++ {
			if x := &m.req.extents[m.used]; x.flags&(flagShared|flagInline|flagUnknown|flagDelalloc) == 0 {
				bytes += x.length
			}
		}
		if m.end {
			return bytes, nil
		}
		if err := m.more(ctx); err != nil {
			return bytes, err
		}
	}
}
