package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

func newShadow(a *app) *cobra.Command {
	return group("shadow", "Make, list, delete and expose persistent shadow copies",
		newShadowCreate(a), newShadowList(a), newShadowDelete(a), newShadowExpose(a), newShadowUnexpose(a))
}

func newShadowCreate(a *app) *cobra.Command {
	var b backupFlags
	cmd := &cobra.Command{
		Use:   "create PATH...",
		Short: "Take a persistent shadow copy of the volumes of the paths, with the writers",
		Args:  takes("PATH..."),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			open, err := b.fill(cmd, a, args)
			if err != nil {
				return err
			}
			s, err := open(ctx)
			if err != nil {
				return err
			}
			defer s.Close()
			ids, err := a.createShadow(ctx, s, b)
			if err != nil {
				return err
			}
			for _, id := range ids {
				p, err := s.SnapshotProperties(ctx, id)
				if err != nil {
					return err
				}
				if err := a.printShadow(p); err != nil {
					return err
				}
			}
			return nil
		},
	}
	b.addService(cmd)
	return cmd
}

// createShadow makes a persistent set of the volumes of the request's paths.
func (a *app) createShadow(ctx context.Context, s session.Session, b backupFlags) ([]vss.GUID, error) {
	if err := s.InitializeForBackup(ctx, nil); err != nil {
		return nil, err
	}
	context := vss.ContextAppRollback
	if b.request.NoWriters {
		context = vss.ContextNASRollback
	}
	if err := errors.Join(s.SetContext(ctx, context),
		s.SetBackupState(ctx, session.BackupState{Type: vss.BackupTypeCopy}),
		s.GatherWriterMetadata(ctx, nil)); err != nil {
		return nil, err
	}
	if _, err := s.StartSnapshotSet(ctx); err != nil {
		return nil, err
	}
	var ids []vss.GUID
	seen := map[string]bool{}
	for _, p := range b.request.Paths {
		loc, err := s.ResolvePath(ctx, p)
		if err != nil {
			return nil, err
		}
		if seen[loc.Volume] {
			continue
		}
		seen[loc.Volume] = true
		sup, err := s.IsVolumeSupported(ctx, b.request.Provider, loc.Volume)
		if err != nil {
			return nil, err
		}
		if !sup.Capabilities.Atomic {
			return nil, vss.Errorf(vss.ErrVolumeNotSupported, "create", p,
				"provider %s copies files one by one, which a shadow copy by itself cannot use; use sombra backup", sup.Provider.Name)
		}
		id, err := s.AddToSnapshotSet(ctx, loc.Volume, b.request.Provider, provider.Scope{})
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	if !b.request.NoWriters {
		if err := s.PrepareForBackup(ctx, nil); err != nil {
			return nil, err
		}
	}
	return ids, s.DoSnapshotSet(ctx, nil)
}

func newShadowList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the persistent shadow copies",
		Args:  takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			s, err := a.sessions(session.Options{})(ctx)
			if err != nil {
				return err
			}
			defer s.Close()
			list, err := s.QuerySnapshots(ctx)
			for _, p := range list {
				if err := a.printShadow(p); err != nil {
					return err
				}
			}
			a.printf("%s\n", copies(len(list)))
			return err
		},
	}
}

func (a *app) printShadow(p session.SnapshotProperties) error {
	if a.json {
		return a.printJSON("shadow_copy", fields{"id": p.ID, "set_id": p.SetID, "count": p.Count,
			"volume": p.Volume, "root": p.VolumeRoot, "device": p.Device, "exposed": p.Exposed, "provider": p.Provider.Name,
			"context": p.Context.String(), "created": p.Created, "purpose": p.Purpose})
	}
	fmt.Fprintf(a.stdout, "shadow copy {%s}\n", p.ID)
	return table(a.stdout, func(t *tabwriter.Writer) {
		fmt.Fprintf(t, "    set\t{%s}, %d copies\n", p.SetID, p.Count)
		fmt.Fprintf(t, "    volume\t%s (%s)\n", p.VolumeRoot, p.Volume)
		fmt.Fprintf(t, "    created\t%s by %s, %s\n", p.Created.Local().Format(time.RFC3339), p.Provider.Name, p.Context)
		fmt.Fprintf(t, "    read it at\t%s\n", p.Device)
		if p.Purpose != "" {
			fmt.Fprintf(t, "    kept as\t%s\n", printable(p.Purpose))
		}
		if p.Exposed != "" {
			fmt.Fprintf(t, "    exposed at\t%s\n", p.Exposed)
		}
	})
}

// withID runs fn on a session with the id of the first argument.
func (a *app) withID(cmd *cobra.Command, arg string, fn func(context.Context, session.Session, vss.GUID) error) error {
	id, err := vss.ParseGUID(arg)
	if err != nil {
		return &hintError{fmt.Errorf("%q is not the id of a shadow copy", arg), "ids are listed by: sombra shadow list"}
	}
	s, err := a.sessions(session.Options{})(cmd.Context())
	if err != nil {
		return err
	}
	defer s.Close()
	return fn(cmd.Context(), s, id)
}

func newShadowDelete(a *app) *cobra.Command {
	var set bool
	cmd := &cobra.Command{
		Use:   "delete ID",
		Short: "Delete a shadow copy, or with --set all of a set",
		Args:  takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withID(cmd, args[0], func(ctx context.Context, s session.Session, id vss.GUID) error {
				kind := vss.ObjectSnapshot
				if set {
					kind = vss.ObjectSnapshotSet
				}
				n, err := s.DeleteSnapshots(ctx, id, kind)
				if a.json {
					return errors.Join(a.printJSON("shadow_deleted", fields{"id": id, "count": n}), err)
				}
				if err == nil || n > 0 {
					a.printf("%s deleted\n", copies(n))
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&set, "set", false, "the id is a set's")
	return cmd
}

func newShadowExpose(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "expose ID DIR",
		Short: "Make a shadow copy readable at an empty directory",
		Args:  takes("ID", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			return a.withID(cmd, args[0], func(ctx context.Context, s session.Session, id vss.GUID) error {
				at, err := s.ExposeSnapshot(ctx, id, dir)
				if err == nil && a.json {
					return a.printJSON("shadow_exposed", fields{"id": id, "exposed": at})
				}
				if err == nil {
					a.printf("exposed at %s\n", at)
				}
				return err
			})
		},
	}
}

func newShadowUnexpose(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "unexpose ID",
		Short: "Undo expose",
		Args:  takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withID(cmd, args[0], func(ctx context.Context, s session.Session, id vss.GUID) error {
				return s.UnexposeSnapshot(ctx, id)
			})
		},
	}
}

// copies counts shadow copies.
func copies(n int) string {
	if n == 1 {
		return "1 shadow copy"
	}
	return fmt.Sprintf("%d shadow copies", n)
}
