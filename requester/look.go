package requester

import (
	"context"
	"fmt"
	"io/fs"
	"path"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
)

// looker looks at the places where files are to go.
type looker struct {
	target session.Target
	shown  func(table string) string
	// same tells whether what is there is what is to be restored, and then does
	// not count as there; may be nil.
	same func(ctx context.Context, e *repository.Entry, there session.Entry) (bool, error)
}

// look finds out what is there of a set's files, at the places they are to go to.
func (l *looker) look(ctx context.Context, entries []*repository.Entry) (p Presence, err error) {
	parents := map[string]error{}
	for _, e := range entries {
		if e.Type == repository.Directory || e.Attrs[AttrOutcome] == "failed" {
			continue
		}
		if err := ctx.Err(); err != nil {
			return p, err
		}
		if p.There != "" && p.Blocked != "" {
			return p, nil
		}
		there, err := l.target.Lstat(ctx, e.Path)
		switch {
		case err == nil:
			if err := l.present(ctx, e, there, &p); err != nil {
				return p, err
			}
		case !isMissing(err):
			p.block(l.shown(e.Path), err.Error())
		default:
			if err := parentOK(ctx, l.target, path.Dir(e.Path), parents); err != nil {
				p.block(l.shown(e.Path), err.Error())
			}
		}
	}
	return p, nil
}

// present looks at a place at which something is.
func (l *looker) present(ctx context.Context, e *repository.Entry, there session.Entry, p *Presence) error {
	if there.Mode.IsDir() {
		p.block(l.shown(e.Path), "a directory is in its place")
	}
	if p.There != "" {
		return nil
	}
	if l.same != nil {
		if same, err := l.same(ctx, e, there); err != nil || same {
			return err
		}
	}
	p.There = l.shown(e.Path)
	return nil
}

func (p *Presence) block(file, why string) {
	if p.Blocked == "" {
		p.Blocked, p.Why = file, why
	}
}

// isThere reports whether what is there is what is to be restored: a file with the
// same size, time and bytes, a link to the same.
func (f *filler) isThere(ctx context.Context, e *repository.Entry, there session.Entry) (bool, error) {
	switch {
	case e.Type == repository.Symlink:
		return there.Mode.Type() == fs.ModeSymlink && there.Target == e.LinkTarget, nil
	case e.Type != repository.Regular || isPartial(e):
		return false, nil
	}
	bytes := *e
	bytes.HardLink = 0 // however many names they have
	same, err := f.inPlace(ctx, &bytes, there, nil)
	if err != nil || same != repository.Unproven {
		return same == repository.Identical, err
	}
	file, err := f.target.OpenFile(ctx, e.Path)
	if err != nil {
		return false, nil
	}
	defer file.Close()
	content, err := f.repo.OpenContent(ctx, e.Content)
	if err != nil {
		return false, ctx.Err() // it cannot be known, and is found damaged later
	}
	err = content.Each(ctx, func(offset int64, data []byte) error {
		_, err := comparison{file}.WriteAt(data, offset)
		return err
	})
	return err == nil, ctx.Err()
}

// parentOK reports whether a directory is there or can be made.
func parentOK(ctx context.Context, t session.Target, dir string, known map[string]error) error {
	if dir == "." || dir == "/" {
		return nil
	}
	if err, ok := known[dir]; ok {
		return err
	}
	e, err := t.Lstat(ctx, dir)
	switch {
	case err == nil && !e.Mode.IsDir():
		err = fmt.Errorf("%s is not a directory", dir)
	case err != nil && isMissing(err):
		err = parentOK(ctx, t, path.Dir(dir), known)
	}
	known[dir] = err
	return err
}
