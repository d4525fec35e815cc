package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
)

func newInit(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make a new repository",
		Long: `Make a new repository at --repo, sealed with the password.

Without the password nobody can read the repository, and nobody can help: keep
it somewhere else than on this machine.`,
		Example: "  SOMBRA_PASSWORD_FILE=/root/.sombra sombra init --repo /mnt/backup/sombra",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			st, err := a.openStore(ctx)
			if err != nil {
				return err
			}
			password, err := a.password(ctx, true)
			if err != nil {
				return err
			}
			defer clear(password)
			r, err := repository.Create(ctx, st, password, repository.Options{})
			if errors.Is(err, repository.ErrExist) {
				return &hintError{fmt.Errorf("there is a repository at %s already", a.where()), "it can be used as it is; nothing was changed"}
			}
			if err != nil {
				return err
			}
			defer r.Close()
			if a.json {
				return a.printJSON("initialized", fields{"id": r.ID().String(), "repository": a.where()})
			}
			a.printf("made repository %s at %s\n", r.ID().Short(), a.where())
			return nil
		},
	}
}
