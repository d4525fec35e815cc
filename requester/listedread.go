package requester

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/vss"
)

// RangesFile is one ranges file that partial files of a backup name, as the
// document [DocRangesFiles] of its record lists it. A restore puts it back before
// the data (R-SET-40).
type RangesFile struct {
	// Path is the text by which the Backup Components Document names it,
	// without "File=".
	Path string `json:"path"`
	// Host is the path on the host that this came to.
	Host string `json:"host"`
	// Document is the document of the record that holds its bytes.
	Document string `json:"document"`
	// Owner and mode of the file.
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Mode uint32 `json:"mode"`

	ranges vss.Ranges
	err    error
}

// maxListed bounds the entries of all lists of differenced and partial files of
// a backup, maxListedRanges the ranges of its ranges files, and maxRangesFiles
// these, each of which is a document of the record.
const (
	maxRangesFiles  = 1 << 10
	maxListed       = 1 << 20
	maxListedRanges = 1 << 24
)

// readLists reads what the writers listed as differenced and partial files, with
// the ranges files from where they are now: a writer may have written them after
// the shadow copy, and takes them away in BackupComplete (R-SET-40, R-SET-44).
func (b *backup) readLists(ctx context.Context) error {
	if len(b.sel.Explicit) == 0 {
		return nil
	}
	data, err := b.sess.BackupComponents(ctx)
	if err != nil {
		return err
	}
	doc, err := metadata.ParseBackupComponents(data)
	if err != nil {
		return fmt.Errorf("read the Backup Components Document: %w", err)
	}
	list, err := b.listed(ctx, doc)
	if err != nil || len(list) == 0 {
		return err
	}
	plan := PlanListed(list, ListRules{Claims: b.claims, Typing: b.typing, Volume: b.takesNew, NoPartial: b.req.NoPartial,
		Copied: func(id string) bool { v := b.volumes[id]; return v != nil && !v.snapshot.IsZero() }})
	left := maxListedRanges
	for _, f := range plan.Partial {
		for _, p := range f.Files {
			r, err := b.rangesFile(ctx, p, &left)
			if err != nil {
				return err
			}
			if r.err != nil && f.Err == nil {
				f.Err = fmt.Errorf("ranges file %s: %w", p, r.err)
			}
			f.Ranges = append(f.Ranges, r.ranges...)
		}
	}
	b.writerLists = plan
	return nil
}

// listed are the lists of all explicit components that still take part.
func (b *backup) listed(ctx context.Context, doc *metadata.BackupComponents) (list []Listed, err error) {
	for _, def := range b.sel.Explicit {
		if b.failed[def] != "" {
			continue
		}
		w, ok := doc.Writer(def.Writer.Instance)
		if !ok {
			continue
		}
		c, ok := w.Component(def.LogicalPath, def.Name)
		if !ok {
			continue
		}
		partial, differenced := c.PartialFiles(), c.DifferencedFiles()
		if len(list)+len(partial)+len(differenced) > maxListed {
			b.failed[def] = fmt.Sprintf("its writer lists %d differenced and partial files, and a backup takes at most %d in all",
				len(partial)+len(differenced), maxListed)
			continue
		}
		for _, d := range differenced {
			list = append(list, b.placeListed(ctx, Listed{Component: def, Spec: d.FileSpec, Since: d.LastModifyTime}))
		}
		for _, p := range partial {
			l := Listed{Component: def, Spec: vss.FileSpec{Path: p.Path, Pattern: p.Name}, Partial: true}
			l.Ranges, l.RangesFile, l.Err = vss.ParseRangesOrFile(p.Ranges)
			if l.Err == nil && vss.HasWildcard(p.Name) {
				l.Err = fmt.Errorf("the name %q has wildcards", p.Name)
			}
			list = append(list, b.placeListed(ctx, l))
		}
	}
	return list, ctx.Err()
}

// placeListed finds the places of one entry.
func (b *backup) placeListed(ctx context.Context, l Listed) Listed {
	wrong := l.Err
	err := l.Spec.Validate(b.style)
	if err == nil {
		loc, perr := b.placer.dir(ctx, l.Spec.Path)
		if err = perr; err == nil {
			err = b.placer.eachVolume(ctx, loc, l.Spec.Recursive, func(volume, dir string, nested bool) {
				l.Places = append(l.Places, ListedPlace{volume, dir, nested})
			})
		}
	}
	if l.Err = err; err == nil {
		l.Err = wrong
	} else {
		l.Places = nil
	}
	return l
}

// takesNew says why files that are in no specification cannot be taken from a
// volume: it is none of those of which there are shadow copies, or, if there are
// none at all, of those with data in the backup (R-SET-34).
func (b *backup) takesNew(id string) string {
	set := slices.ContainsFunc(b.order, func(id string) bool { return !b.volumes[id].snapshot.IsZero() })
	switch v := b.volumes[id]; {
	case v != nil && set && !v.snapshot.IsZero(), v != nil && !set && (v.claimed || v.unclaimed):
		return ""
	case v != nil:
		return fmt.Sprintf("it lies on the volume at %s, which is not in the shadow copy set", v.Root)
	}
	return fmt.Sprintf("it lies on volume %s, which is not in the shadow copy set", id)
}

// rangesFile reads a ranges file, once, from the live volume. Its error is in the
// result; the one returned ends the backup.
func (b *backup) rangesFile(ctx context.Context, name string, left *int) (*RangesFile, error) {
	if f := b.rangesFiles[name]; f != nil {
		return f, nil
	}
	if len(b.rangesFiles) >= maxRangesFiles {
		return &RangesFile{err: fmt.Errorf("a backup takes at most %d ranges files", maxRangesFiles)}, nil
	}
	f := &RangesFile{Path: name}
	if f.err = b.fillRanges(ctx, f, *left); f.err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	*left -= len(f.ranges)
	if b.rangesFiles == nil {
		b.rangesFiles = map[string]*RangesFile{}
	}
	b.rangesFiles[name] = f
	return f, nil
}

func (b *backup) fillRanges(ctx context.Context, r *RangesFile, most int) error {
	loc, err := b.sess.ResolvePath(ctx, r.Path)
	if err != nil {
		return err
	}
	t, err := b.liveTree(ctx, loc.Volume)
	if err != nil {
		return err
	}
	f, err := t.Open(ctx, loc.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := f.Stat(ctx)
	if err != nil {
		return err
	}
	if e.Size < 0 || e.Size > maxDocument || e.Size > 8+16*int64(most) {
		return fmt.Errorf("it has %d bytes; one holds at most %d, and all of a backup at most %d ranges", e.Size, maxDocument, maxListedRanges)
	}
	r.Host, r.UID, r.GID, r.Mode = loc.Path, e.UID, e.GID, e.Perm
	r.ranges, err = vss.ReadRangesFile(io.NewSectionReader(f, 0, e.Size), e.Size)
	return err
}

// putRanges saves the writers' ranges files, and the ranges that had no room in
// an entry.
func (b *backup) putRanges(put func(name string, data []byte)) {
	n := len(b.copier.rangesLists)
	for i, r := range b.copier.rangesLists {
		put(fmt.Sprintf("%s%d", DocRanges, i), vss.AppendRangesFile(nil, r))
	}
	var files []*RangesFile
	for _, path := range slices.Sorted(maps.Keys(b.rangesFiles)) {
		f := b.rangesFiles[path]
		if f.err != nil {
			continue
		}
		f.Document = fmt.Sprintf("%s%d", DocRanges, n)
		n++
		put(f.Document, vss.AppendRangesFile(nil, f.ranges)) // a list has one form
		files = append(files, f)
	}
	if len(files) == 0 {
		return
	}
	data, err := json.MarshalIndent(files, "", " ")
	if err == nil {
		put(DocRangesFiles, data)
	}
}

// ReadRangesFiles gives the writers' ranges files that a record keeps. What it
// reads comes from the medium, and is bounded.
func ReadRangesFiles(ctx context.Context, rec *repository.Record) (files []*RangesFile, err error) {
	if _, ok := rec.Documents[DocRangesFiles]; !ok {
		return nil, nil
	}
	data, err := rec.Document(ctx, DocRangesFiles, maxDocument)
	if err == nil {
		err = json.Unmarshal(data, &files)
	}
	if err == nil && slices.Contains(files, nil) {
		err = errors.New("an entry is null")
	}
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", DocRangesFiles, err)
	}
	return files, nil
}
