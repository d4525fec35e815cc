package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/session/coordinator/reboot"
)

// rebootCommand is what the unit that swaps files in at a start of the host runs.
const rebootCommand = "at-reboot"

// rebootArgs are the arguments with which systemd starts this program.
func (a *app) rebootArgs() []string { return []string{rebootCommand, "--state-dir", a.stateDir} }

// newAtReboot is the command of that unit. It reads no configuration: a mistake
// there is not to keep files from their places.
func newAtReboot(a *app) *cobra.Command {
	return &cobra.Command{
		Use: rebootCommand, Hidden: true, Args: takes(), PersistentPreRunE: needsNoConfig,
		Short: "Swap in what waits for this start of the host",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !filepath.IsAbs(a.stateDir) {
				return errors.New("the state directory must be given as an absolute path, with --state-dir")
			}
			store := reboot.Open(reboot.Options{StateDir: a.stateDir})
			bad := 0
			err := store.Apply(cmd.Context(), func(o reboot.Outcome) {
				line, failed := outcomeLine(o)
				if failed {
					bad++
				}
				fmt.Fprintf(a.stdout, "%s\n", line)
			})
			if err != nil {
				return err
			}
			if bad > 0 {
				return &codeError{exitIncomplete, fmt.Errorf("%s not done; see: sombra restore --pending", plural(bad, "set"))}
			}
			return nil
		},
	}
}

// outcomeLine is what the journal says of a set.
func outcomeLine(o reboot.Outcome) (line string, failed bool) {
	what := fmt.Sprintf("%s (%s, %s)", printable(o.What), o.ID, plural(o.Files, "file"))
	switch {
	case o.Half:
		return fmt.Sprintf("%s: HALF DONE, the next start goes on with it: %s", what, oneLine(o.Err.Error())), true
	case o.Swapped && o.Err != nil:
		return fmt.Sprintf("%s: in place, but what it has replaced is not all removed: %s", what, oneLine(o.Err.Error())), true
	case o.Err != nil:
		return fmt.Sprintf("%s: FAILED, nothing has changed: %s", what, oneLine(o.Err.Error())), true
	case o.Waiting:
		return fmt.Sprintf("%s: waits for the next start; this host was not started since it was staged", what), false
	}
	return what + ": in place", false
}
