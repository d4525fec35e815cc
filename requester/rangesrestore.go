package requester

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// rangesSuffix ends the name of a ranges file that is put beside the file whose
// ranges it lists, since it cannot be put where it was. It is there until the
// writer has had PostRestore.
const rangesSuffix = ".sombra-ranges"

// putRangesFiles puts back the ranges files that the partial files of a set name,
// before any of its data (R-SET-40, R-RES-27): where they were, or, if that cannot
// be, beside the file, and then the writer is told so. why says what keeps the set
// from being restored; empty if nothing does.
func (r *restore) putRangesFiles(ctx context.Context, f *filler, s *setRun) (why string, err error) {
	if r.req.NoWriters || r.extract || r.req.DryRun || r.stored == nil || r.stored.doc == nil {
		return "", nil
	}
	c := s.set.Component
	w, ok := r.stored.doc.Writer(c.Writer.Instance)
	if !ok {
		return "", nil
	}
	mc, ok := w.Component(c.LogicalPath, c.Name)
	if !ok {
		return "", nil
	}
	placed := map[string]string{} // by the text that names it
	for i, p := range mc.PartialFiles() {
		_, text, err := p.ReadRanges()
		if err != nil || text == "" {
			continue // a list, or what the backup has refused
		}
		at, done := placed[text]
		if !done {
			if at, err = r.putRangesFile(ctx, f, s, text, p.Path, p.Name); err != nil {
				if ctx.Err() != nil {
					return "", ctx.Err()
				}
				return fmt.Sprintf("the ranges file of %s: %v", clip(p.Name, 100), err), nil
			}
			placed[text] = at
		}
		if at == "" || !s.live {
			continue
		}
		if err := r.sess.SetRangesFilePath(ctx, c.Session(), i, at); err != nil {
			return "", err
		}
	}
	return "", nil
}

// putRangesFile puts one ranges file back. elsewhere is where it is, as a path of
// the host, if that is not where it was.
func (r *restore) putRangesFile(ctx context.Context, f *filler, s *setRun, text, dir, name string) (elsewhere string, err error) {
	files, err := r.rangesFiles(ctx)
	if err != nil {
		return "", err
	}
	n := slices.IndexFunc(files, func(o *RangesFile) bool { return o.Path == text })
	if n < 0 {
		return "", fmt.Errorf("the record does not keep %s", clip(text, 200))
	}
	file := files[n]
	list, err := rangesDocument(ctx, r.rec, file.Document)
	if err != nil {
		return "", err
	}
	data := vss.AppendRangesFile(nil, list)
	was := TablePath(r.style, file.Host)
	if why := r.rangesInWay(ctx, f, file, was); why != nil {
		beside, err := r.place(ctx, dir, name)
		if err != nil {
			return "", errors.Join(why, err)
		}
		if beside, err = r.beside(s, beside); err != nil {
			return "", errors.Join(why, err)
		}
		if err := r.writeRanges(ctx, f, file, beside, data); err != nil {
			return "", errors.Join(why, err)
		}
		r.mu.Lock()
		r.temporary = append(r.temporary, beside)
		r.mu.Unlock()
		return r.shown(beside), nil
	}
	return "", r.writeRanges(ctx, f, file, was, data)
}

// rangesInWay says why a ranges file cannot be put where it was; nil if it can.
func (r *restore) rangesInWay(ctx context.Context, f *filler, file *RangesFile, table string) error {
	switch {
	case !r.style.IsAbs(file.Host) || r.style.Clean(file.Host) != file.Host || validName(table, r.style == vss.Windows) != nil || table == "":
		return fmt.Errorf("%s is no path of this host", clip(file.Host, 200))
	case !declares(r.places, table, r.origin.Fold()):
		return fmt.Errorf("%s lies outside of all paths the record says it is of", file.Host)
	}
	there, err := f.target.Lstat(ctx, table)
	switch {
	case err == nil && !there.Mode.IsRegular():
		return fmt.Errorf("what is at %s is not a file", file.Host)
	case err == nil && f.overwrite == OverwriteNever:
		return fmt.Errorf("%s is there", file.Host)
	case err != nil && !isMissing(err):
		return err
	}
	return nil
}

// beside gives a place next to a partial file, where it is restored to.
func (r *restore) beside(s *setRun, table string) (string, error) {
	allowed := false
	for _, e := range s.entries {
		if e.Path == table {
			to, by, err := r.placeOf(s, e)
			if err != nil {
				return "", err
			}
			table, allowed = to.Path, by != nil // where a mapping leads was looked at
			break
		}
	}
	if !allowed && !declares(r.places, table, r.origin.Fold()) && !s.newPlace(table, r.origin.Fold()) {
		return "", fmt.Errorf("%s lies outside of all paths the record says it is of", r.shown(table))
	}
	return path.Join(path.Dir(table), "."+path.Base(table)+rangesSuffix), nil
}

// writeRanges writes a ranges file as its owner's.
func (r *restore) writeRanges(ctx context.Context, f *filler, file *RangesFile, table string, data []byte) error {
	if err := f.parents(ctx, table); err != nil {
		return err
	}
	n, err := f.target.Create(ctx, table)
	if err != nil {
		return err
	}
	defer n.Close()
	if _, err := n.WriteAt(data, 0); err != nil {
		return err
	}
	perm := file.Mode & 0o777
	err = n.Commit(ctx, session.Entry{Name: table[strings.LastIndexByte(table, '/')+1:], Mode: fs.FileMode(perm), Perm: perm,
		UID: file.UID, GID: file.GID, Size: int64(len(data)), Modified: now()})
	var lacks *session.AttributeError
	if errors.As(err, &lacks) {
		r.warn("the ranges file %s: %v", r.shown(table), lacks)
		return nil
	}
	return err
}

// rangesFiles are the ranges files that the record keeps, read once.
func (r *restore) rangesFiles(ctx context.Context) ([]*RangesFile, error) {
	if r.kept == nil {
		files, err := ReadRangesFiles(ctx, r.rec)
		if err != nil {
			return nil, err
		}
		r.kept = append([]*RangesFile{}, files...)
	}
	return r.kept, nil
}

// dropTemporary takes away ranges files that were put where none was, when the
// writers need them no more.
func (r *restore) dropTemporary(ctx context.Context, t session.Target) {
	for _, table := range r.temporary {
		if err := t.Remove(ctx, table); err != nil && !isMissing(err) {
			r.warn("the ranges file %s is left: %v", r.shown(table), err)
		}
	}
	r.temporary = nil
}
