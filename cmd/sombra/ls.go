package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

func newLs(a *app) *cobra.Command {
	l := lister{app: a}
	cmd := &cobra.Command{
		Use:   "ls BACKUP [PATH...]",
		Short: "List the files in a backup",
		Long: `List the files in a backup, or those below each PATH. A PATH may be a pattern: "*"
and "?" match within one name, "[a-z]" a character, "**" any number of names;
what lies below something matched is listed too.

` + backupHelp,
		Example: `  sombra ls latest
  sombra ls -lH --sort size --reverse latest /var/log
  sombra ls --depth 1 latest /etc
  sombra ls latest '/home/*/*.txt'`,
		Args: takes("BACKUP", "[PATH...]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("depth") {
				l.depth = -1
			}
			return a.withRecord(cmd, args[0], func(ctx context.Context, _ *repository.Repository, rec *repository.Record) error {
				l.w, l.style, l.rec = bufio.NewWriter(a.stdout), styleOf(rec), rec
				paths := args[1:]
				if len(paths) == 0 {
					paths = []string{""}
				}
				var err error
				for _, p := range paths {
					if err = l.below(ctx, rec, p); err != nil {
						break
					}
				}
				return errors.Join(err, l.w.Flush())
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&l.long, "long", "l", false, "show type, mode, owner, size, time and source")
	f.BoolVarP(&l.human, "human-readable", "H", false, "show sizes as 1.5 KiB, 2.0 GiB")
	f.Var(number{&l.depth, 0, 1_000_000, "levels"}, "depth", "list at most this many `levels` below each PATH; 0 lists PATH alone (default: all)")
	addChoice(cmd, &l.sort, "sort", "order", "sort by name (the default), size, time or extension", "name", "size", "time", "extension")
	f.BoolVar(&l.reverse, "reverse", false, "the other way round")
	return cmd
}

// entryLine is an entry of the file table as a JSON line.
type entryLine struct {
	Path     string            `json:"path"`
	Type     string            `json:"type"`
	Mode     string            `json:"mode"`
	UID      uint32            `json:"uid"`
	GID      uint32            `json:"gid"`
	User     string            `json:"user,omitempty"`
	Group    string            `json:"group,omitempty"`
	Size     int64             `json:"size"`
	Modified time.Time         `json:"mtime"`
	Target   string            `json:"target,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
	// Accessed is the time of last access, Changed that of inode change.
	Accessed *time.Time `json:"atime,omitempty"`
	Changed  *time.Time `json:"ctime,omitempty"`
	Inode    uint64     `json:"inode,omitempty"`
	Links    uint32     `json:"links,omitempty"`
	// Xattrs are the names of its extended attributes.
	Xattrs []string `json:"xattrs,omitempty"`
}

// lister prints entries of a file table.
type lister struct {
	*app
	w           *bufio.Writer
	long, human bool
	depth       int // of a path's entries below it; -1 for all
	sort        string
	reverse     bool
	style       vss.PathStyle
	rec         *repository.Record
}

// below prints what lies below a path of the host or matches a pattern, "" for
// all.
func (l *lister) below(ctx context.Context, rec *repository.Record, p string) error {
	place, err := placeOf(rec, p)
	if err != nil {
		return err
	}
	var pattern *requester.Patterns
	within := place
	if strings.ContainsAny(place, "*?[") && !l.holds(ctx, rec, place) {
		if pattern, err = requester.CompilePatterns([]string{"/" + place}, l.style == vss.Windows); err != nil {
			return err
		}
		within = literalHead(place)
	}
	var kept []*repository.Entry
	found := false
	for e, err := range under(ctx, rec, within) {
		if err != nil {
			return err
		}
		if pattern != nil && !pattern.Match(e.Path) {
			continue
		}
		found = true
		if l.depth >= 0 && pathLevels(e.Path)-pathLevels(place) > l.depth {
			continue
		}
		if l.sort == "" && !l.reverse {
			if err := l.entry(ctx, e, requester.HostPath(l.style, e.Path)); err != nil {
				return err
			}
			continue
		}
		kept = append(kept, e)
	}
	if !found && p != "" {
		return notInBackup(rec, p)
	}
	l.order(kept)
	for _, e := range kept {
		if err := l.entry(ctx, e, requester.HostPath(l.style, e.Path)); err != nil {
			return err
		}
	}
	return nil
}

// holds says whether a path that looks like a pattern is one of the backup.
func (l *lister) holds(ctx context.Context, rec *repository.Record, place string) bool {
	for range under(ctx, rec, place) {
		return true
	}
	return false
}

// literalHead is the part of a pattern's place before the first name with a
// wildcard.
func literalHead(place string) string {
	head := place[:strings.IndexAny(place, "*?[")]
	return head[:max(strings.LastIndexByte(head, '/'), 0)]
}

// pathLevels counts the names of a place.
func pathLevels(place string) int {
	if place == "" {
		return 0
	}
	return strings.Count(place, "/") + 1
}

// order sorts entries, which are in the order of their names.
func (l *lister) order(entries []*repository.Entry) {
	slices.SortStableFunc(entries, func(a, b *repository.Entry) int {
		switch l.sort {
		case "size":
			return cmp.Compare(a.Size, b.Size)
		case "time":
			return a.ModTime.Compare(b.ModTime)
		case "extension":
			return cmp.Compare(path.Ext(a.Path), path.Ext(b.Path))
		}
		return 0
	})
	if l.reverse {
		slices.Reverse(entries)
	}
}

func (l *lister) entry(ctx context.Context, e *repository.Entry, path string) error {
	if l.json {
		line, err := jsonLine("entry", entryLine{path, e.Type.String(), fmt.Sprintf("%04o", e.Mode), e.UID, e.GID, e.User, e.Group,
			e.Size, e.ModTime, e.LinkTarget, e.Attrs, knownTime(e.AccessTime), knownTime(e.ChangeTime), e.Inode, e.Nlink,
			slices.Sorted(maps.Keys(e.Xattrs))})
		if err == nil {
			_, err = l.w.Write(line)
		}
		return err
	}
	path = printable(path)
	if !l.long {
		_, err := fmt.Fprintln(l.w, path)
		return err
	}
	if e.LinkTarget != "" {
		path += " -> " + printable(e.LinkTarget)
	}
	if facts := entryFacts(ctx, l.rec, e); facts != "" {
		path += "  [" + facts + "]"
	}
	bytes := fmt.Sprint(e.Size)
	if l.human {
		bytes = size(e.Size)
	}
	_, err := fmt.Fprintf(l.w, "%-9s %04o %8s %8s %12s %s  %s\n", e.Type, e.Mode, owner(e.User, e.UID), owner(e.Group, e.GID),
		bytes, e.ModTime.Local().Format(time.DateTime), path)
	return err
}

// knownTime is nil for a time that is not known.
func knownTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func owner(name string, id uint32) string {
	if name != "" {
		return printable(name)
	}
	return fmt.Sprint(id)
}

// entryFacts is what the requester knows of an entry, in short.
func entryFacts(ctx context.Context, rec *repository.Record, e *repository.Entry) string {
	var facts []string
	if s := e.Attrs[requester.AttrSource]; s != "" && s != "shadow" {
		facts = append(facts, s)
	}
	if c := e.Attrs[requester.AttrComponent]; c != "" {
		facts = append(facts, printable(e.Attrs[requester.AttrWriter]+": "+c))
		if taken := takenAs(ctx, rec, e); taken != "" {
			facts = append(facts, taken)
		}
	}
	if since, ranges, bytes, ok := requester.ReadSince(rec, e); ok {
		facts = append(facts, fmt.Sprintf("%s of %s changed since %s", plural(ranges, "range"), size(bytes), printable(short(since))))
	}
	if o := e.Attrs[requester.AttrOutcome]; o != "" {
		facts = append(facts, strings.ToUpper(o)+": "+oneLine(e.Attrs[requester.AttrError]))
	}
	return strings.Join(facts, ", ")
}

// takenAs tells how a backup took a component's file, if not whole.
func takenAs(ctx context.Context, rec *repository.Record, e *repository.Entry) string {
	since := ""
	if base := e.Attrs[requester.AttrBase]; base != "" {
		since = printable(short(base))
	}
	if read := e.Attrs[requester.AttrRead]; read != "" && since != "" && read != requester.ReadMark(rec) {
		return "unchanged since " + since
	}
	ranges, ok, err := requester.ReadEntryRanges(ctx, rec, e)
	switch {
	case err != nil:
		return "by ranges that cannot be read: " + oneLine(err.Error())
	case !ok:
		return ""
	}
	text := fmt.Sprintf("%s of %s", plural(int64(len(ranges)), "range"), size(int64(ranges.Total())))
	switch {
	case e.Attrs[requester.AttrPartial] != "":
		return text + " only"
	case since != "":
		return text + " upon " + since
	}
	return text
}
