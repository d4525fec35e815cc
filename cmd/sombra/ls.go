package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
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
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			repo, err := a.openRepository(ctx)
			if err != nil {
				return err
			}
			defer repo.Close()
			rec, err := repo.Record(ctx, args[0])
			if err != nil {
				return err
			}
			style := vss.POSIX
			if rec.Host.PathStyle == "windows" {
				style = vss.Windows
			}
			paths := args[1:]
			if len(paths) == 0 {
				paths = []string{""}
			}
			t := tabwriter.NewWriter(a.stdout, 0, 8, 1, ' ', tabwriter.AlignRight)
			defer t.Flush()
			for _, p := range paths {
				found := false
				for _, root := range rec.Roots {
					for e, err := range rec.Table().Under(ctx, root.ID, requester.TablePath(style, p)) {
						if err != nil {
							return err
						}
						found = true
						if err := a.list(t, e, requester.HostPath(style, e.Path), long); err != nil {
							return err
						}
					}
				}
				if !found && p != "" {
					return fmt.Errorf("%s: not in backup %s", p, rec.ID.Short())
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&long, "long", "l", false, "show type, mode, owner, size, time and source")
	return cmd
}

// entryLine is an entry of the file table as a JSON line.
type entryLine struct {
	MessageType string            `json:"message_type"`
	Path        string            `json:"path"`
	Type        string            `json:"type"`
	Mode        string            `json:"mode"`
	UID         uint32            `json:"uid"`
	GID         uint32            `json:"gid"`
	User        string            `json:"user,omitempty"`
	Group       string            `json:"group,omitempty"`
	Size        int64             `json:"size"`
	Modified    time.Time         `json:"mtime"`
	Target      string            `json:"target,omitempty"`
	Facts       map[string]string `json:"facts,omitempty"`
}

func (a *app) list(t *tabwriter.Writer, e *repository.Entry, path string, long bool) error {
	switch {
	case a.json:
		return a.printJSON(entryLine{"entry", path, e.Type.String(), fmt.Sprintf("%04o", e.Mode), e.UID, e.GID, e.User, e.Group,
			e.Size, e.ModTime, e.LinkTarget, e.Attrs})
	case !long:
		fmt.Fprintln(a.stdout, path)
		return nil
	}
	if e.LinkTarget != "" {
		path += " -> " + e.LinkTarget
	}
	var facts []string
	if s := e.Attrs[requester.AttrSource]; s != "" && s != "shadow" {
		facts = append(facts, s)
	}
	if c := e.Attrs[requester.AttrComponent]; c != "" {
		facts = append(facts, e.Attrs[requester.AttrWriter]+":"+c)
	}
	if o := e.Attrs[requester.AttrOutcome]; o != "" {
		facts = append(facts, strings.ToUpper(o)+": "+e.Attrs[requester.AttrError])
	}
	if len(facts) > 0 {
		path += "  [" + strings.Join(facts, ", ") + "]"
	}
	_, err := fmt.Fprintf(t, "%s\t%04o\t%d\t%d\t%d\t%s\t %s\n", e.Type, e.Mode, e.UID, e.GID, e.Size, e.ModTime.Local().Format(time.DateTime), path)
	return err
}
