package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/session"
	"github.com/sombra-backup/sombra/vss"
)

// withPending gives "restore" the ways to see and to withdraw what takes its
// place at the next start of the host.
func withPending(a *app, cmd *cobra.Command) *cobra.Command {
	var pending bool
	var cancel string
	f := cmd.Flags()
	f.BoolVar(&pending, "pending", false, "list what takes its place at the next start of this host, and what could not; no BACKUP")
	f.StringVar(&cancel, "cancel", "", "with --pending: withdraw this set, by its `ID` or the beginning of it")
	args, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, words []string) error {
		if pending || cmd.Flags().Changed("cancel") {
			return takes()(cmd, words)
		}
		return args(cmd, words)
	}
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		switch {
		case cmd.Flags().Changed("cancel") && !pending:
			return &hintError{errors.New("--cancel goes with --pending"), "see: " + cmd.CommandPath() + " --help"}
		case cmd.Flags().Changed("cancel"):
			return a.cancelPending(cmd, cancel)
		case pending:
			return a.listPending(cmd)
		}
		return run(cmd, words)
	}
	cmd.Long += `

A component whose restore method asks for it takes its place at the next start of
this host, before any service runs; --pending lists what waits for that, and
what could not take its place and why. --pending --cancel ID withdraws a set.`
	cmd.Example += `
  sombra restore --pending`
	return cmd
}

// withTarget runs fn with the host as a restore in place sees it.
func (a *app) withTarget(cmd *cobra.Command, fn func(session.Target) error) error {
	ctx := cmd.Context()
	s, err := a.sessions(session.Options{})(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	t, err := s.Target(ctx, "", nil)
	if err != nil {
		return err
	}
	defer t.Close()
	return fn(t)
}

// listPending lists the sets. Any that is not as it should be makes exit 3.
func (a *app) listPending(cmd *cobra.Command) error {
	return a.withTarget(cmd, func(t session.Target) error {
		list, err := t.PendingReboots(cmd.Context())
		bad := 0
		for _, p := range list {
			if p.State == session.RebootFailed || p.State == session.RebootHalf {
				bad++
			}
			if perr := a.printPending(p); perr != nil {
				return perr
			}
		}
		if len(list) == 0 && err == nil {
			a.printf("nothing waits for the next start\n")
		}
		switch {
		case err != nil:
			return err
		case bad > 0:
			return &codeError{exitIncomplete, &hintError{fmt.Errorf("%s could not take their places", plural(bad, "set")),
				"restore again what is needed, and withdraw what is not: sombra restore --pending --cancel ID"}}
		}
		return nil
	})
}

// pendingWords say what a state means.
var pendingWords = map[session.RebootState]string{
	session.RebootPending: "waits for the next start",
	session.RebootFailed:  "FAILED, nothing has changed",
	session.RebootHalf:    "HALF DONE, the next start goes on with it",
	session.RebootSwapped: "done, what it has replaced is still to be removed",
}

func (a *app) printPending(p session.PendingReboot) error {
	if a.json {
		files := make([]fields, 0, len(p.Files))
		for _, f := range p.Files {
			files = append(files, fields{"path": f.Path, "staged": f.Staged, "type": f.Type, "size": f.Size})
		}
		return a.printJSON("pending", fields{"id": p.ID, "created": p.Created, "what": p.What, "state": string(p.State),
			"error": p.Error, "attempted": knownTime(p.Attempted), "files": files})
	}
	return writePending(a.stdout, p)
}

func writePending(w io.Writer, p session.PendingReboot) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  %s: %s\n", p.ID, p.Created.Local().Format(time.DateTime), printable(p.What), pendingWords[p.State])
	if p.Error != "" {
		fmt.Fprintf(&b, "  %s: %s\n", p.Attempted.Local().Format(time.DateTime), oneLine(p.Error))
	}
	for _, f := range head(p.Files) {
		fmt.Fprintf(&b, "  %s", printable(f.Path))
		if f.Type == "file" {
			fmt.Fprintf(&b, "  %s", size(f.Size))
		} else {
			fmt.Fprintf(&b, "  %s", f.Type)
		}
		if p.State == session.RebootHalf {
			fmt.Fprintf(&b, "  (or it is still, or what it has replaced is: %s)", printable(f.Staged))
		}
		b.WriteByte('\n')
	}
	if n := len(p.Files) - len(head(p.Files)); n > 0 {
		fmt.Fprintf(&b, "  ... and %d more; --json lists them\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) cancelPending(cmd *cobra.Command, id string) error {
	return a.withTarget(cmd, func(t session.Target) error {
		err := t.CancelReboot(cmd.Context(), id)
		if errors.Is(err, vss.ErrObjectNotFound) || errors.Is(err, vss.ErrInvalidArgument) {
			return &hintError{err, "what waits is listed by: sombra restore --pending"}
		}
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON("pending_canceled", fields{"id": id})
		}
		a.printf("withdrawn: %s; its files stay as they are\n", printable(id))
		return nil
	})
}
