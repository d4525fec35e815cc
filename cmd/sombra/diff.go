package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
)

func newDiff(a *app) *cobra.Command {
	d := differ{app: a}
	cmd := &cobra.Command{
		Use:   "diff BACKUP BACKUP [PATH...]",
		Short: "Show what changed from one backup to another",
		Long: `Show what the second backup has otherwise than the first, everywhere or below each
PATH. Each line begins with a letter:

  +  added        M  content changed       T  is of another type
  -  removed      U  only metadata changed (with --metadata)
  R  moved (with --moves)

What both backups share is not read. Exit code 0 says that the comparison was
made, whatever it found.

` + backupHelp,
		Example: `  sombra diff 3f2a91c0 latest
  sombra diff --metadata 3f2a91c0 latest /etc`,
		Args: takes("BACKUP", "BACKUP", "[PATH...]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRecord(cmd, args[0], func(ctx context.Context, repo *repository.Repository, before *repository.Record) error {
				after, err := repo.Record(ctx, args[1])
				if err != nil {
					return recordError(err)
				}
				d.repo, d.before, d.after = repo, before, after
				return d.run(ctx, args[2:])
			})
		},
	}
	cmd.Flags().BoolVar(&d.metadata, "metadata", false, "show also where only mode, owner, time, attributes or links changed")
	cmd.Flags().BoolVar(&d.moves, "moves", false, "show a file removed here and added there with the same data as moved")
	return cmd
}

// changeSide is an entry before or after, in a JSON line.
type changeSide struct {
	Type     string    `json:"type"`
	Mode     string    `json:"mode"`
	UID      uint32    `json:"uid"`
	GID      uint32    `json:"gid"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"mtime"`
	Target   string    `json:"target,omitempty"`
}

func newChangeSide(e *repository.Entry) *changeSide {
	if e == nil {
		return nil
	}
	return &changeSide{e.Type.String(), fmt.Sprintf("%04o", e.Mode), e.UID, e.GID, e.Size, e.ModTime, e.LinkTarget}
}

// changeLine is one change as a JSON line.
type changeLine struct {
	Change string `json:"change"`
	Path   string `json:"path"`
	// From is where a moved file was.
	From string `json:"from,omitempty"`
	// What names the things that changed.
	What         []string    `json:"what,omitempty"`
	Before       *changeSide `json:"before,omitempty"`
	After        *changeSide `json:"after,omitempty"`
	AddedBytes   int64       `json:"added_bytes"`
	RemovedBytes int64       `json:"removed_bytes"`
}

// diffSummary counts the changes.
type diffSummary struct {
	Before       string `json:"before"`
	After        string `json:"after"`
	Added        int64  `json:"added"`
	Removed      int64  `json:"removed"`
	Modified     int64  `json:"modified"`
	TypeChanged  int64  `json:"type_changed"`
	Metadata     int64  `json:"metadata"`
	Moved        int64  `json:"moved"`
	AddedBytes   int64  `json:"added_bytes"`
	RemovedBytes int64  `json:"removed_bytes"`
}

// changeLetters show the kinds of changes.
var changeLetters = map[string]string{"added": "+", "removed": "-", "modified": "M", "type_changed": "T", "metadata": "U", "moved": "R"}

// What of an entry is content, and what is metadata that people ask for. Times
// of access and inode change, inode numbers and the requester's own facts change
// without anything having been done to the file.
const (
	contentChanges  = repository.ChangedContent | repository.ChangedTarget | repository.ChangedStreams
	metadataChanges = repository.ChangedMode | repository.ChangedOwner | repository.ChangedModTime | repository.ChangedXattrs |
		repository.ChangedFlags | repository.ChangedSecurity | repository.ChangedLinks
)

// differ is one comparison.
type differ struct {
	*app
	repo            *repository.Repository
	before, after   *repository.Record
	metadata, moves bool

	out    *bufio.Writer
	places []string
	sum    diffSummary
	// kept are the changes that wait for the end, to be paired as moves.
	kept []repository.Difference
}

// holds refuses a path that neither backup has: of a mistyped one nothing would
// be said but that nothing changed.
func (d *differ) holds(ctx context.Context, place, path string) error {
	for _, rec := range []*repository.Record{d.before, d.after} {
		for _, err := range under(ctx, rec, place) {
			return err
		}
	}
	return &hintError{fmt.Errorf("%s is in neither of the backups", printable(path)), "see what they hold: sombra ls " + d.after.ID.Short()}
}

func (d *differ) run(ctx context.Context, paths []string) error {
	for _, p := range paths {
		place, err := placeOf(d.after, p)
		if err != nil {
			return err
		}
		if err := d.holds(ctx, place, p); err != nil {
			return err
		}
		d.places = append(d.places, place)
	}
	d.out = bufio.NewWriter(d.stdout)
	d.sum.Before, d.sum.After = d.before.ID.String(), d.after.ID.String()
	err := d.compare(ctx)
	if err == nil && d.json {
		var line []byte
		if line, err = jsonLine("summary", d.sum); err == nil {
			_, err = d.out.Write(line)
		}
	}
	if err = errors.Join(err, d.out.Flush()); err != nil {
		return err
	}
	s := d.sum
	var parts []string
	for _, p := range []struct {
		n    int64
		what string
	}{{s.Added, "added"}, {s.Removed, "removed"}, {s.Modified, "modified"}, {s.TypeChanged, "of another type"}, {s.Metadata, "with other metadata"}, {s.Moved, "moved"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if len(parts) == 0 {
		parts = []string{"no difference"}
	}
	d.printf("%s; %s of data added, %s removed\n", strings.Join(parts, ", "), size(s.AddedBytes), size(s.RemovedBytes))
	return nil
}

func (d *differ) compare(ctx context.Context) error {
	for diff, err := range d.before.Table().Compare(ctx, d.after.Table()) {
		if err != nil {
			return err
		}
		if !d.wanted(diff) {
			continue
		}
		if d.moves && (diff.Before == nil || diff.After == nil) {
			d.kept = append(d.kept, diff)
			continue
		}
		if err := d.change(ctx, diff, ""); err != nil {
			return err
		}
	}
	return d.moved(ctx)
}

// wanted says whether a difference lies below the paths that were asked for.
func (d *differ) wanted(diff repository.Difference) bool {
	e := diff.After
	if e == nil {
		e = diff.Before
	}
	for _, p := range d.places {
		if e.Path == p || p == "" || strings.HasPrefix(e.Path, p+"/") {
			return true
		}
	}
	return len(d.places) == 0
}

// moved pairs what went with what came, and shows both.
func (d *differ) moved(ctx context.Context) error {
	gone := map[int64][]*repository.Entry{} // by size
	for _, k := range d.kept {
		if e := k.Before; e != nil && e.Type == repository.Regular && e.Content.Size() > 0 {
			gone[e.Size] = append(gone[e.Size], e)
		}
	}
	from := map[*repository.Entry]*repository.Entry{} // by where it is now
	was := map[*repository.Entry]bool{}
	for _, k := range d.kept {
		if k.After == nil || k.After.Type != repository.Regular {
			continue
		}
		for _, e := range gone[k.After.Size] {
			if !was[e] && e.Content.Equal(k.After.Content) {
				from[k.After], was[e] = e, true
				break
			}
		}
	}
	for _, k := range d.kept {
		if k.Before != nil && was[k.Before] {
			continue
		}
		diff, path := k, ""
		if e := from[k.After]; k.After != nil && e != nil {
			diff.Before, path = e, requester.HostPath(styleOf(d.before), e.Path)
		}
		if err := d.change(ctx, diff, path); err != nil {
			return err
		}
	}
	return nil
}

// change shows one difference; from is set if it is a move.
func (d *differ) change(ctx context.Context, diff repository.Difference, from string) error {
	l := changeLine{From: from, Before: newChangeSide(diff.Before), After: newChangeSide(diff.After)}
	what := diff.Changes
	switch {
	case from != "":
		l.Change = "moved"
		d.sum.Moved++
	case diff.Before == nil:
		l.Change = "added"
		d.sum.Added++
	case diff.After == nil:
		l.Change = "removed"
		d.sum.Removed++
	case what&repository.ChangedType != 0:
		l.Change = "type_changed"
		d.sum.TypeChanged++
	}
	if from == "" {
		c, err := d.contents(ctx, diff)
		if err != nil {
			return err
		}
		l.AddedBytes, l.RemovedBytes = c.Added, c.Removed
		if c.Same {
			what &^= repository.ChangedContent
		}
	}
	what &= contentChanges | metadataChanges | repository.ChangedType
	switch {
	case l.Change != "":
	case what&contentChanges != 0:
		l.Change = "modified"
		d.sum.Modified++
	case what&metadataChanges != 0 && d.metadata:
		l.Change = "metadata"
		d.sum.Metadata++
	default:
		return nil
	}
	d.sum.AddedBytes += l.AddedBytes
	d.sum.RemovedBytes += l.RemovedBytes
	if diff.Before != nil && diff.After != nil {
		l.What = what.Names()
	}
	l.Path = requester.HostPath(styleOf(d.before), pathOf(diff.Before))
	if diff.After != nil {
		l.Path = requester.HostPath(styleOf(d.after), diff.After.Path)
	}
	return d.print(l)
}

func pathOf(e *repository.Entry) string {
	if e == nil {
		return ""
	}
	return e.Path
}

// contents says in what the data differs, that of named streams included.
func (d *differ) contents(ctx context.Context, diff repository.Difference) (repository.ContentDifference, error) {
	var none repository.Entry
	before, after := diff.Before, diff.After
	if before == nil {
		before = &none
	}
	if after == nil {
		after = &none
	}
	c, err := d.repo.CompareContents(ctx, before.Content, after.Content)
	// Data that is not in a backup is not the same as none.
	c.Same = c.Same && before.Size == after.Size
	return c, err
}

func (d *differ) print(l changeLine) error {
	if d.json {
		line, err := jsonLine("change", l)
		if err == nil {
			_, err = d.out.Write(line)
		}
		return err
	}
	text := printable(l.Path)
	if l.From != "" {
		text = printable(l.From) + " -> " + text
	}
	if d.metadata && len(l.What) > 0 {
		text += "  [" + strings.Join(l.What, ", ") + "]"
	}
	_, err := fmt.Fprintf(d.out, "%s  %s\n", changeLetters[l.Change], text)
	return err
}
