package coordinator

import (
	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"
	"github.com/sombra-backup/sombra/writer"
)

// checkLists refuses partial and differenced files that a writer of another
// program lists and that are not its user's: as with the files that it declares,
// it could have them read by root, and get what is in them in a restore. What its
// document declares was looked at when it identified itself.
func (s *service) checkLists(p *participant, kind writer.EventKind, w *metadata.WriterComponents) error {
	if p.socket == "" || p.uid == nil || kind != writer.EventPrepareForBackup && kind != writer.EventPostSnapshot {
		return nil
	}
	seen := map[vss.FileSpec]bool{}
	for _, c := range p.meta.Components() {
		for _, set := range c.FileSets {
			seen[set.FileSpec] = true
		}
	}
	for _, c := range w.Components() {
		for _, f := range c.PartialFiles() {
			if err := s.checkListed(p, c, seen, "AddPartialFile", vss.FileSpec{Path: f.Path, Pattern: f.Name}); err != nil {
				return err
			}
			if _, file, err := vss.ParseRangesOrFile(f.Ranges); err == nil && file != "" {
				dir, name := s.host.Style.Split(file)
				if err := s.checkListed(p, c, seen, "AddPartialFile", vss.FileSpec{Path: dir, Pattern: name}); err != nil {
					return err
				}
			}
		}
		for _, d := range c.DifferencedFiles() {
			if err := s.checkListed(p, c, seen, "AddDifferencedFilesByLastModifyTime", d.FileSpec); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkListed looks at a specification once.
func (s *service) checkListed(p *participant, c *metadata.Component, seen map[vss.FileSpec]bool, call string, spec vss.FileSpec) error {
	if seen[spec] {
		return nil
	}
	seen[spec] = true
	foreign, err := s.foreignFile(*p.uid, spec)
	if err != nil {
		return err
	}
	if foreign != "" {
		return vss.Errorf(vss.ErrWriterErrorNonRetryable, call, c.FullPath(),
			"the writer runs as uid %d, which does not own %s; it may list nothing there", *p.uid, foreign)
	}
	return nil
}
