package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

func newWriters(a *app) *cobra.Command {
	var xml, noDiscovery bool
	var limits limitFlags
	cmd := &cobra.Command{
		Use:   "writers [PATH...]",
		Short: "List the writers, their state and components",
		Long: `Ask the writers to identify themselves, and list them with state and components.
Without paths all servers that run are listed, wherever their data lies, as for
sombra freeze; with paths those whose data lies there or below paths: of the
configuration. Writers that look for their data, as that of SQLite, look below
these.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			o, err := a.config.sessionOptions(limits)
			if err != nil {
				return err
			}
			if o.Paths, err = existing(append(args, a.config.Paths...)); err != nil {
				return err
			}
			o.Running = len(args) == 0
			o.Exclude = a.config.Exclude
			o.NoDiscovery = o.NoDiscovery || noDiscovery
			s, err := a.sessions(o)(ctx)
			if err != nil {
				return err
			}
			defer s.Close()
			if err := s.InitializeForBackup(ctx, nil); err != nil {
				return err
			}
			if err := s.GatherWriterMetadata(ctx, nil); err != nil {
				return err
			}
			infos, err := s.WriterMetadata(ctx)
			if err != nil {
				return err
			}
			if err := s.GatherWriterStatus(ctx, nil); err != nil {
				return err
			}
			status, err := s.WriterStatus(ctx)
			if err != nil {
				return err
			}
			for i, info := range infos {
				if xml {
					fmt.Fprintf(a.stdout, "%s\n", info.Document)
				} else if err := a.writer(info, status[i]); err != nil {
					return err
				}
			}
			if !xml {
				a.printf("%s\n", plural(len(infos), "writer"))
			}
			return nil
		},
	}
	limits.add(cmd)
	cmd.Flags().BoolVar(&xml, "xml", false, "print the Writer Metadata Documents")
	cmd.Flags().BoolVar(&noDiscovery, "no-discovery", false, "use only configured writers")
	mark(cmd.Flags(), settable, "no-discovery")
	return cmd
}

// writerLine is a writer as a JSON line.
type writerLine struct {
	Name         string          `json:"name"`
	InstanceName string          `json:"instance_name,omitempty"`
	Class        vss.GUID        `json:"class"`
	Instance     vss.GUID        `json:"instance"`
	State        string          `json:"state"`
	Failure      string          `json:"failure"`
	Discovered   bool            `json:"discovered"`
	Required     bool            `json:"required"`
	FilesStill   bool            `json:"files_still"`
	NothingHeld  bool            `json:"nothing_held,omitempty"`
	Weak         string          `json:"weak,omitempty"`
	Schema       string          `json:"backup_schema"`
	Components   []componentLine `json:"components"`
}

type componentLine struct {
	LogicalPath string   `json:"logical_path,omitempty"`
	Name        string   `json:"name"`
	Type        string   `json:"type"`
	Caption     string   `json:"caption,omitempty"`
	Selectable  bool     `json:"selectable"`
	Files       []string `json:"files"`
}

func (a *app) writer(info session.WriterInfo, st session.WriterStatus) error {
	m, err := metadata.ParseWriterMetadata(info.Document)
	if err != nil {
		return err
	}
	id := m.Identity()
	l := writerLine{
		Name: id.Name, InstanceName: id.InstanceName, Class: id.ClassID, Instance: id.InstanceID,
		State: st.State.String(), Failure: st.Failure.Name(), Discovered: info.Discovered, Required: info.Required,
		FilesStill: info.FilesStill, NothingHeld: info.NothingHeld, Weak: info.Weak, Schema: m.BackupSchema().String(),
	}
	for _, c := range m.Components() {
		cl := componentLine{LogicalPath: c.LogicalPath, Name: c.Name, Type: c.Type.Word(), Caption: c.Caption, Selectable: c.Selectable}
		for _, f := range c.FileSets {
			cl.Files = append(cl.Files, specText(f.FileSpec))
		}
		l.Components = append(l.Components, cl)
	}
	if a.json {
		return a.printJSON("writer", l)
	}
	fmt.Fprintf(a.stdout, "* WRITER %q\n", l.Name)
	return table(a.stdout, func(t *tabwriter.Writer) {
		fmt.Fprintf(t, "    instance\t%s\n", l.InstanceName)
		fmt.Fprintf(t, "    writer id\t{%s}\n    instance id\t{%s}\n", l.Class, l.Instance)
		fmt.Fprintf(t, "    state\t%d (%s), %s\n", int(st.State), l.State, st.Failure.Name())
		if l.Weak != "" {
			fmt.Fprintf(t, "    weak\t%s\n", l.Weak)
		}
		for _, c := range l.Components {
			name := c.Name
			if c.LogicalPath != "" {
				name = c.LogicalPath + `\` + name
			}
			fmt.Fprintf(t, "    component\t%s (%s)\n", name, c.Type)
			for _, f := range c.Files {
				fmt.Fprintf(t, "      \t%s\n", f)
			}
		}
	})
}

func specText(s vss.FileSpec) string {
	text := strings.TrimSuffix(s.Path, "/") + "/" + s.Pattern
	if strings.Contains(s.Path, `\`) {
		text = strings.TrimSuffix(s.Path, `\`) + `\` + s.Pattern
	}
	if s.Recursive {
		text += " (and below)"
	}
	return text
}
