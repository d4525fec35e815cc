package coordinator

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session/coordinator/openfiles"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// maxRestoreFiles bounds the files of one writer that are looked up among what
// processes have open. A writer with more than these is told of those found.
const maxRestoreFiles = 100_000

// inUse tells which processes have files of a writer's components open that are
// about to be restored.
func (s *service) inUse(ctx context.Context, p *participant, chosen *metadata.WriterComponents) ([]writer.OpenFile, error) {
	var paths []string
	for _, c := range chosen.Components() {
		if sel, _ := c.SelectedForRestore(); !sel {
			continue
		}
		for _, info := range p.meta.Components() {
			if info.FullPath() != c.FullPath() && !vss.IsDescendant(info.LogicalPath, c.FullPath()) {
				continue
			}
			for _, set := range info.FileSets {
				found, err := s.present(ctx, set.FileSpec, maxRestoreFiles-len(paths))
				if err != nil {
					return nil, err
				}
				paths = append(paths, found...)
			}
		}
	}
	r, err := openfiles.FindPaths(ctx, paths)
	if err != nil {
		return nil, err
	}
	if r.Unseen > 0 {
		s.log.Info("not all processes may be looked into", "unseen", r.Unseen)
	}
	return r.Open, nil
}

// present lists the files of a specification that are there.
func (s *service) present(ctx context.Context, spec vss.FileSpec, limit int) ([]string, error) {
	dir, err := vss.ExpandEnv(spec.Path, lookupEnv)
	if err != nil {
		return nil, err
	}
	var list []string
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case d.IsDir():
			if name != dir && !spec.Recursive {
				return fs.SkipDir
			}
			return nil
		case len(list) >= limit:
			return fs.SkipAll
		case vss.MatchPattern(spec.Pattern, d.Name(), s.host.Style.Fold()):
			list = append(list, name)
		}
		return nil
	})
	return list, err
}
