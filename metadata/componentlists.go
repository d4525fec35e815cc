package metadata

import (
	"strconv"

	"github.com/sombra-backup/sombra/metadata/xmldoc"
	"github.com/sombra-backup/sombra/vss"
)

// PartialFile is what GetPartialFile reports: a file of which only ranges are
// to be saved (R-SET-35).
type PartialFile struct {
	Path           string
	Name           string // literal, no wildcards
	Ranges         string // a list, or a ranges file (R-SET-37, R-SET-38)
	Metadata       string // the writer's own, may be empty
	RangesFilePath string // where SetRangesFilePath says the ranges file is now
}

// ReadRanges gives the ranges, or the path of the ranges file they are in: the
// new one if SetRangesFilePath was called (R-RES-27).
func (p PartialFile) ReadRanges() (ranges vss.Ranges, file string, err error) {
	if p.RangesFilePath != "" {
		return nil, p.RangesFilePath, nil
	}
	return vss.ParseRangesOrFile(p.Ranges)
}

// DifferencedFile is what GetDifferencedFile reports: files to be saved only if
// modified after LastModifyTime, in UTC; zero leaves it to the requester
// (R-SET-31).
type DifferencedFile struct {
	vss.FileSpec
	LastModifyTime vss.FileTime
}

// DirectedTarget is what GetDirectedTarget reports: where ranges of a saved
// file go (R-RES-23).
type DirectedTarget struct {
	SourcePath        string
	SourceName        string
	SourceRanges      string
	DestinationPath   string
	DestinationName   string
	DestinationRanges string
}

// NewTarget is what GetNewTarget reports: a file set the requester restores to
// another directory (R-RES-21).
type NewTarget struct {
	vss.FileSpec
	NewPath string
}

// RestoreSubcomponent is what GetRestoreSubcomponent reports (R-SEL-24).
type RestoreSubcomponent struct {
	LogicalPath string
	Name        string
	Repair      bool // reserved
}

// lists are all lists of a component.
type lists struct {
	partial       []PartialFile
	differenced   []DifferencedFile
	directed      []DirectedTarget
	newTargets    []NewTarget
	subcomponents []RestoreSubcomponent
	mappings      []AlternateLocationMapping
}

func (c *Component) readLists(r *reader) lists {
	var l lists
	elements(c.node, func(n *xmldoc.Node) {
		switch n.Local() {
		case elemPartialFile:
			l.partial = append(l.partial, PartialFile{r.text(n, attrPath), r.text(n, attrFilespec), r.text(n, attrRanges),
				n.AttrOr(attrMetadata, ""), n.AttrOr(attrRangesFilePath, "")})
		case elemDifferenced:
			l.differenced = append(l.differenced, DifferencedFile{r.fileSpec(n), vss.FileTime(r.number(n, attrLastModifyTime, 0, 64))})
		case elemDirectedTarget:
			l.directed = append(l.directed, DirectedTarget{
				r.text(n, attrSourcePath), r.text(n, attrSourceFilespec), r.text(n, attrSourceRanges),
				r.text(n, attrDestinationPath), r.text(n, attrDestinationFilespec), r.text(n, attrDestinationRanges)})
		case elemNewTarget:
			l.newTargets = append(l.newTargets, NewTarget{r.fileSpec(n), r.text(n, attrNewPath)})
		case elemSubcomponent:
			l.subcomponents = append(l.subcomponents, RestoreSubcomponent{logicalPath(n), r.text(n, attrComponentName), r.yes(n, attrRepair)})
		case elemMapping:
			l.mappings = append(l.mappings, readMapping(r, n))
		case elemFailure:
			readFailure(r, n)
		}
	})
	return l
}

// PartialFiles answers GetPartialFile for all i.
func (c *Component) PartialFiles() []PartialFile { return c.readLists(&reader{}).partial }

// AddPartialFile adds ranges of a file. A name with a wildcard and ranges that
// are neither a list nor a whole path are vss.ErrInvalidArgument. Whether
// partial files are allowed at all (R-SET-35) the caller knows.
func (c *Component) AddPartialFile(p PartialFile) error {
	const op = "AddPartialFile"
	if err := c.literal(op, p.Path, p.Name); err != nil {
		return err
	}
	if _, _, err := vss.ParseRangesOrFile(p.Ranges); err != nil {
		return &vss.Error{Op: op, Object: p.Name, Code: vss.ErrInvalidArgument, Err: err}
	}
	_, err := add(c.node, elemPartialFile,
		pair{attrPath, p.Path}, pair{attrFilespec, p.Name}, pair{attrRanges, p.Ranges},
		pair{"?" + attrMetadata, p.Metadata}, pair{"?" + attrRangesFilePath, p.RangesFilePath})
	return err
}

// literal checks a directory and a plain name in it.
func (c *Component) literal(op, path, name string) error {
	if err := validSpec(op, vss.FileSpec{Path: path, Pattern: name}); err != nil {
		return err
	}
	if vss.HasWildcard(name) {
		return c.fail(vss.ErrInvalidArgument, op, "%q is no literal file name", name)
	}
	return nil
}

// SetRangesFilePath says where the ranges file of partial file i is now
// (R-RES-27). No such partial file is vss.ErrObjectNotFound.
func (c *Component) SetRangesFilePath(i int, path string) error {
	var nodes []*xmldoc.Node
	elements(c.node, func(n *xmldoc.Node) {
		if n.Local() == elemPartialFile {
			nodes = append(nodes, n)
		}
	})
	if i < 0 || i >= len(nodes) {
		return c.fail(vss.ErrObjectNotFound, "SetRangesFilePath", "there is no partial file %d", i)
	}
	return set(nodes[i], pair{attrRangesFilePath, path})
}

// DifferencedFiles answers GetDifferencedFile for all i.
func (c *Component) DifferencedFiles() []DifferencedFile { return c.readLists(&reader{}).differenced }

// AddDifferencedFilesByLastModifyTime adds files to be saved by modification
// time (R-SET-31).
func (c *Component) AddDifferencedFilesByLastModifyTime(d DifferencedFile) error {
	if err := validSpec("AddDifferencedFilesByLastModifyTime", d.FileSpec); err != nil {
		return err
	}
	pairs := append(specPairs(d.FileSpec), pair{attrLastModifyTime, strconv.FormatUint(uint64(d.LastModifyTime), 10)})
	_, err := add(c.node, elemDifferenced, pairs...)
	return err
}

// DirectedTargets answers GetDirectedTarget for all i.
func (c *Component) DirectedTargets() []DirectedTarget { return c.readLists(&reader{}).directed }

// AddDirectedTarget maps ranges of a saved file to ranges of a file on restore.
// Lists of unequal number, or a pair of unequal length, are
// vss.ErrInvalidArgument (R-RES-23).
func (c *Component) AddDirectedTarget(d DirectedTarget) error {
	const op = "AddDirectedTarget"
	if err := c.literal(op, d.SourcePath, d.SourceName); err != nil {
		return err
	}
	if err := c.literal(op, d.DestinationPath, d.DestinationName); err != nil {
		return err
	}
	if _, err := d.Pairs(); err != nil {
		return &vss.Error{Op: op, Object: d.SourceName, Code: vss.ErrInvalidArgument, Err: err}
	}
	_, err := add(c.node, elemDirectedTarget,
		pair{attrSourcePath, d.SourcePath}, pair{attrSourceFilespec, d.SourceName}, pair{attrSourceRanges, d.SourceRanges},
		pair{attrDestinationPath, d.DestinationPath}, pair{attrDestinationFilespec, d.DestinationName},
		pair{attrDestinationRanges, d.DestinationRanges})
	return err
}

// RangePair is one piece of a directed target: Length bytes at Source go to
// Destination.
type RangePair struct {
	Source, Destination, Length uint64
}

// Pairs gives the pieces of a directed target in order. Lists that do not fit
// each other are vss.ErrInvalidArgument (R-RES-23).
func (d DirectedTarget) Pairs() ([]RangePair, error) {
	source, err := vss.ParseRanges(d.SourceRanges)
	if err != nil {
		return nil, err
	}
	destination, err := vss.ParseRanges(d.DestinationRanges)
	if err != nil {
		return nil, err
	}
	if len(source) != len(destination) {
		return nil, vss.Errorf(vss.ErrInvalidArgument, "pair", "ranges", "%d source ranges and %d destination ranges", len(source), len(destination))
	}
	pairs := make([]RangePair, len(source))
	for i := range source {
		if source[i].Length != destination[i].Length {
			return nil, vss.Errorf(vss.ErrInvalidArgument, "pair", "ranges", "range %d has %d bytes at the source and %d at the destination",
				i+1, source[i].Length, destination[i].Length)
		}
		pairs[i] = RangePair{source[i].Offset, destination[i].Offset, source[i].Length}
	}
	return pairs, nil
}

// NewTargets answers GetNewTarget for all i.
func (c *Component) NewTargets() []NewTarget { return c.readLists(&reader{}).newTargets }

// AddNewTarget says that a file set is restored to another directory. Whether
// it equals one of the component set's (R-RES-21) the caller knows.
func (c *Component) AddNewTarget(t NewTarget) error {
	const op = "AddNewTarget"
	if err := validSpec(op, t.FileSpec); err != nil {
		return err
	}
	if t.NewPath == "" {
		return c.fail(vss.ErrInvalidArgument, op, "no new path for %v", t.FileSpec)
	}
	_, err := add(c.node, elemNewTarget, append(specPairs(t.FileSpec), pair{attrNewPath, t.NewPath})...)
	return err
}

// RestoreSubcomponents answers GetRestoreSubcomponent for all i.
func (c *Component) RestoreSubcomponents() []RestoreSubcomponent {
	return c.readLists(&reader{}).subcomponents
}

// AddRestoreSubcomponent names one member of the component set to be restored
// (R-SEL-23, R-SEL-24). It lies below the component, else it is
// vss.ErrInvalidArgument; the same one twice is vss.ErrObjectAlreadyExists.
func (c *Component) AddRestoreSubcomponent(s RestoreSubcomponent) error {
	const op = "AddRestoreSubcomponent"
	if err := validKey(op, s.LogicalPath, s.Name); err != nil {
		return err
	}
	if !vss.IsDescendant(s.LogicalPath, c.FullPath()) {
		return c.fail(vss.ErrInvalidArgument, op, "%s does not lie below it", vss.FullPath(s.LogicalPath, s.Name))
	}
	for _, old := range c.RestoreSubcomponents() {
		if old.LogicalPath == s.LogicalPath && old.Name == s.Name {
			return c.fail(vss.ErrObjectAlreadyExists, op, "%s was added before", vss.FullPath(s.LogicalPath, s.Name))
		}
	}
	_, err := add(c.node, elemSubcomponent,
		pair{attrLogicalPath, s.LogicalPath}, pair{attrComponentName, s.Name}, pair{attrRepair, yesNo(s.Repair)})
	return err
}

// AlternateLocationMappings answers GetAlternateLocationMapping for all i: those
// really used (R-RES-19).
func (c *Component) AlternateLocationMappings() []AlternateLocationMapping {
	return c.readLists(&reader{}).mappings
}

// AddAlternativeLocationMapping tells the writer that a mapping was used.
func (c *Component) AddAlternativeLocationMapping(m AlternateLocationMapping) error {
	const op = "AddAlternativeLocationMapping"
	if err := validSpec(op, m.FileSpec); err != nil {
		return err
	}
	if m.AlternatePath == "" {
		return c.fail(vss.ErrInvalidArgument, op, "no destination for %v", m.FileSpec)
	}
	_, err := add(c.node, elemMapping, append(specPairs(m.FileSpec), pair{attrAlternatePath, m.AlternatePath})...)
	return err
}
