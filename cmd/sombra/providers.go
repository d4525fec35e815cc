package main

import (
	"fmt"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

func newProviders(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "providers [PATH...]",
		Short: "List the shadow copy providers, and which serves a path",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, err := a.sessions(session.Options{})(ctx)
			if err != nil {
				return err
			}
			defer s.Close()
			list, err := s.QueryProviders(ctx)
			if err != nil {
				return err
			}
			if a.json {
				for _, p := range list {
					if err := a.printJSON(map[string]any{"message_type": "provider", "name": p.Name, "id": p.ID, "type": p.Type.String(), "version": p.Version}); err != nil {
						return err
					}
				}
			} else if err := table(a.stdout, func(t *tabwriter.Writer) {
				for _, p := range list {
					fmt.Fprintf(t, "%s\t%s\t{%s}\t%s\n", p.Name, p.Type, p.ID, p.Version)
				}
			}); err != nil {
				return err
			}
			for _, arg := range args {
				if err := a.serving(cmd, s, arg); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// serving tells which provider serves the volume of a path, and why the better
// ones do not.
func (a *app) serving(cmd *cobra.Command, s session.Session, arg string) error {
	ctx := cmd.Context()
	path, err := filepath.Abs(arg)
	if err != nil {
		return err
	}
	loc, err := s.ResolvePath(ctx, path)
	if err != nil {
		return err
	}
	v, err := s.Volume(ctx, loc.Volume)
	if err != nil {
		return err
	}
	sup, err := s.IsVolumeSupported(ctx, vss.GUID{}, loc.Volume)
	if a.json {
		m := map[string]any{"message_type": "support", "path": path, "volume": v.ID, "root": v.Root, "file_system": v.FSType, "refused": sup.Refused}
		if err != nil {
			m["error"] = err.Error()
		} else {
			m["provider"], m["atomic"] = sup.Provider.Name, sup.Capabilities.Atomic
		}
		return a.printJSON(m)
	}
	if err != nil {
		fmt.Fprintf(a.stdout, "%s: on %s (%s): %v\n", path, v.Root, v.FSType, err)
		return nil
	}
	kind := "file by file"
	if sup.Capabilities.Atomic {
		kind = "whole volume at one instant"
	}
	fmt.Fprintf(a.stdout, "%s: on %s (%s): %s, %s\n", path, v.Root, v.FSType, sup.Provider.Name, kind)
	for _, r := range sup.Refused {
		fmt.Fprintf(a.stdout, "  not by %s: %s\n", r.Subject, r.Reason)
	}
	return nil
}
