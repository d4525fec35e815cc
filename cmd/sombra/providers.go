package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/requester"
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
					if err := a.printJSON("provider", fields{"name": p.Name, "id": p.ID, "type": p.Type.String(), "version": p.Version}); err != nil {
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
			paths, err := existing(args)
			if err != nil {
				return err
			}
			for _, arg := range paths {
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
func (a *app) serving(cmd *cobra.Command, s session.Session, path string) error {
	ctx := cmd.Context()
	loc, err := s.ResolvePath(ctx, path)
	if err != nil {
		return err
	}
	v, err := s.Volume(ctx, loc.Volume)
	if err != nil {
		return err
	}
	sup, err := s.IsVolumeSupported(ctx, vss.GUID{}, loc.Volume)
	refused := make([]requester.PlanRefusal, 0, len(sup.Refused))
	for _, r := range sup.Refused {
		refused = append(refused, requester.PlanRefusal{Provider: r.Subject, Reason: r.Reason})
	}
	if a.json {
		m := fields{"path": path, "volume": v.ID, "root": v.Root, "file_system": v.FSType, "refused_providers": refused}
		if err != nil {
			m["error"] = oneLine(cause(err).Error())
		} else {
			m["provider"], m["atomic"] = sup.Provider.Name, sup.Capabilities.Atomic
		}
		return a.printJSON("support", m)
	}
	if err != nil {
		fmt.Fprintf(a.stdout, "%s: on %s (%s): no provider: %s\n", path, v.Root, v.FSType, oneLine(cause(err).Error()))
		return nil
	}
	kind := "file by file"
	if sup.Capabilities.Atomic {
		kind = "whole volume at one instant"
	}
	fmt.Fprintf(a.stdout, "%s: on %s (%s): %s, %s\n", path, v.Root, v.FSType, sup.Provider.Name, kind)
	for _, r := range sup.Refused {
		fmt.Fprintf(a.stdout, "  not by %s: %s\n", r.Subject, oneLine(r.Reason))
	}
	return nil
}
