package requester

import (
	"context"
	"fmt"
	"path"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/session"
)

// look finds out what is there of a set's files, at the places they are to go to.
func look(ctx context.Context, t session.Target, entries []*repository.Entry, shown func(string) string) (p Presence, err error) {
	parents := map[string]error{}
	block := func(file, why string) {
		if p.Blocked == "" {
			p.Blocked, p.Why = file, why
		}
	}
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
		there, err := t.Lstat(ctx, e.Path)
		switch {
		case err == nil:
			if p.There == "" {
				p.There = shown(e.Path)
			}
			if there.Mode.IsDir() {
				block(shown(e.Path), "a directory is in its place")
			}
		case !isMissing(err):
			block(shown(e.Path), err.Error())
		default:
			if err := parentOK(ctx, t, path.Dir(e.Path), parents); err != nil {
				block(shown(e.Path), err.Error())
			}
		}
	}
	return p, nil
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
