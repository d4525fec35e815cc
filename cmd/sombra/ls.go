package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

func newLs(a *app) *cobra.Command {
	var long bool
	cmd := &cobra.Command{
		Use:   "ls BACKUP [PATH...]",
		Short: "List the files in a backup",
		Long: `List the files in a backup, or those below each PATH.

` + backupHelp,
		Args: takes("BACKUP", "[PATH...]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRecord(cmd, args[0], func(ctx context.Context, _ *repository.Repository, rec *repository.Record) error {
				out := bufio.NewWriter(a.stdout)
				l := lister{app: a, w: out, long: long, style: vss.POSIX}
				if rec.Host.PathStyle == "windows" {
					l.style = vss.Windows
				}
				paths := args[1:]
				if len(paths) == 0 {
					paths = []string{""}
				}
				var err error
				for _, p := range paths {
					if p != "" && l.style == vss.POSIX && !filepath.IsAbs(p) {
						if p, err = filepath.Abs(p); err != nil {
							break
						}
					}
					if err = l.below(ctx, rec, p); err != nil {
						break
					}
				}
				return errors.Join(err, out.Flush())
			})
		},
	}
	cmd.Flags().BoolVarP(&long, "long", "l", false, "show type, mode, owner, size, time and source")
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
}

// lister prints entries of a file table.
type lister struct {
	*app
	w     *bufio.Writer
	long  bool
	style vss.PathStyle
}

// below prints what lies below a path of the host, "" for all.
func (l *lister) below(ctx context.Context, rec *repository.Record, p string) error {
	found := false
	for _, root := range rec.Roots {
		for e, err := range rec.Table().Under(ctx, root.ID, requester.TablePath(l.style, p)) {
			if err != nil {
				return err
			}
			found = true
			if err := l.entry(e, requester.HostPath(l.style, e.Path)); err != nil {
				return err
			}
		}
	}
	if !found && p != "" {
		return &hintError{fmt.Errorf("%s: not in backup %s", p, rec.ID.Short()), "paths are as they were on the host: see sombra ls " + rec.ID.Short()}
	}
	return nil
}

func (l *lister) entry(e *repository.Entry, path string) error {
	if l.json {
		line, err := jsonLine("entry", entryLine{path, e.Type.String(), fmt.Sprintf("%04o", e.Mode), e.UID, e.GID, e.User, e.Group,
			e.Size, e.ModTime, e.LinkTarget, e.Attrs})
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
	if facts := entryFacts(e); facts != "" {
		path += "  [" + facts + "]"
	}
	_, err := fmt.Fprintf(l.w, "%-9s %04o %8s %8s %12d %s  %s\n", e.Type, e.Mode, owner(e.User, e.UID), owner(e.Group, e.GID),
		e.Size, e.ModTime.Local().Format(time.DateTime), path)
	return err
}

func owner(name string, id uint32) string {
	if name != "" {
		return printable(name)
	}
	return fmt.Sprint(id)
}

// entryFacts is what the requester knows of an entry, in short.
func entryFacts(e *repository.Entry) string {
	var facts []string
	if s := e.Attrs[requester.AttrSource]; s != "" && s != "shadow" {
		facts = append(facts, s)
	}
	if c := e.Attrs[requester.AttrComponent]; c != "" {
		facts = append(facts, printable(e.Attrs[requester.AttrWriter]+": "+c))
	}
	if o := e.Attrs[requester.AttrOutcome]; o != "" {
		facts = append(facts, strings.ToUpper(o)+": "+oneLine(e.Attrs[requester.AttrError]))
	}
	return strings.Join(facts, ", ")
}
