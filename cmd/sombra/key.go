package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
)

func newKey(a *app) *cobra.Command {
	cmd := group("key", "Manage the passwords that open the repository",
		newKeyList(a), newKeyAdd(a), newKeyPasswd(a), newKeyRemove(a))
	cmd.Long = `Manage the keys of the repository. Each is opened by a password of its own. A full
key does everything; a write-only key adds backups but reads none.`
	return cmd
}

// keyLine is a key as a JSON line.
type keyLine struct {
	ID      string     `json:"id"`
	ShortID string     `json:"short_id"`
	Kind    string     `json:"kind"`
	Label   string     `json:"label,omitempty"`
	Created *time.Time `json:"created,omitempty"`
	Current bool       `json:"current"`
}

func newKeyLine(k repository.Key) keyLine {
	l := keyLine{ID: k.ID.String(), ShortID: k.ID.Short(), Kind: keyKind(k), Label: k.Label, Current: k.Current}
	if !k.Created.IsZero() {
		l.Created = &k.Created
	}
	return l
}

func keyKind(k repository.Key) string {
	if k.WriteOnly {
		return "write-only"
	}
	return "full"
}

func newKeyList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys: what each can do, and which one was used",
		Args:  takes(),
		RunE: a.withKeys(func(ctx context.Context, repo *repository.Repository, _ []string) error {
			keys, damaged := repo.Keys(ctx)
			if a.json {
				for _, k := range keys {
					if err := a.printJSON("key", newKeyLine(k)); err != nil {
						return err
					}
				}
				return damaged
			}
			err := table(a.stdout, func(t *tabwriter.Writer) {
				if len(keys) > 0 {
					fmt.Fprintln(t, "ID\tKIND\tCREATED\tIN USE\tLABEL")
				}
				for _, k := range keys {
					created, current := "unknown", ""
					if !k.Created.IsZero() {
						created = k.Created.Local().Format(time.DateTime)
					}
					if k.Current {
						current = "yes"
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.ID.Short(), keyKind(k), created, current, printable(k.Label))
				}
			})
			return errors.Join(err, damaged)
		}),
	}
}

// withKeys opens the repository for a command on its keys.
func (a *app) withKeys(f func(ctx context.Context, repo *repository.Repository, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		repo, err := a.openRepository(cmd.Context())
		if err != nil {
			return err
		}
		defer repo.Close()
		return f(cmd.Context(), repo, args)
	}
}

// newPasswordFlags are where the password of a key comes from that is made.
type newPasswordFlags struct{ passwordSource }

func (n *newPasswordFlags) add(cmd *cobra.Command) {
	n.kind, n.prompt = "new-", "new password: "
	cmd.Flags().StringVar(&n.file, "new-password-file", "", "read the new password from the first line of `file` (SOMBRA_NEW_PASSWORD_FILE)")
	cmd.Flags().StringVar(&n.command, "new-password-command", "", "take the new password from what a `command` prints (SOMBRA_NEW_PASSWORD_COMMAND)")
}

// password finds the new password.
func (n *newPasswordFlags) password(ctx context.Context, a *app) ([]byte, error) {
	n.fill(a)
	return a.secret(ctx, n.passwordSource, true)
}

func newKeyAdd(a *app) *cobra.Command {
	var n newPasswordFlags
	var o repository.KeyOptions
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Add a key with a password of its own",
		Long: `Add a key. The new password comes from --new-password-file, SOMBRA_NEW_PASSWORD or
--new-password-command, or is asked for twice.

With --write-only the key adds backups but reads none, for a machine that may
be broken into. Who has it can still tell whether content he has is stored. What
keeps backups from being deleted is the rights the store gives the machine, or
object lock, not the key.`,
		Example: "  SOMBRA_NEW_PASSWORD_FILE=/root/web1.key sombra key add --write-only --label web1",
		Args:    takes(),
		RunE: a.withKeys(func(ctx context.Context, repo *repository.Repository, _ []string) error {
			if repo.WriteOnly() && !o.WriteOnly {
				return fmt.Errorf("add a full key: %w", repository.ErrWriteOnly)
			}
			password, err := n.password(ctx, a)
			if err != nil {
				return err
			}
			defer clear(password)
			k, err := repo.AddKey(ctx, password, o)
			if err != nil {
				return keyError(err)
			}
			if a.json {
				return a.printJSON("key_added", newKeyLine(k))
			}
			a.printf("added %s key %s\n", keyKind(k), k.ID.Short())
			if k.WriteOnly {
				a.printf("It reads no backup. Who has it can tell whether content he has is stored.\n")
				a.printf("It does not prevent deletion: only the rights the store gives the machine, or object lock, do.\n")
			}
			return nil
		}),
	}
	n.add(cmd)
	cmd.Flags().BoolVar(&o.WriteOnly, "write-only", false, "make a key that adds backups but reads none")
	cmd.Flags().StringVar(&o.Label, "label", "", "call it `name`; anyone who sees the repository can read this")
	return cmd
}

// keyError adds the way out to errors of keys.
func keyError(err error) error {
	switch {
	case errors.Is(err, repository.ErrPasswordTaken):
		return &hintError{errors.New("another key has this password"), "each key needs a password of its own, or it would be chance which of them opens"}
	case errors.Is(err, repository.ErrLastKey):
		return &hintError{errors.New("it is the last key that can read the repository"), "add another full key first: sombra key add"}
	case errors.Is(err, repository.ErrKeyInUse):
		return &hintError{errors.New("it is the key in use"), "open the repository with another key's password, or say --force"}
	case errors.Is(err, store.ErrLocked):
		return &hintError{err, "the store keeps it from being deleted; until it is, the old password opens the repository, too"}
	}
	return err
}

// notRekeyed says what removing a slot does not do.
const notRekeyed = `The repository's own keys stay the same: whoever copied the old key object and knows its password can still read.
If that may be, make a new repository with sombra init, and sombra copy the backups there; then delete this one.
`

func newKeyPasswd(a *app) *cobra.Command {
	var n newPasswordFlags
	cmd := &cobra.Command{
		Use:   "passwd",
		Short: "Change the password of the key in use",
		Long: `Change the password. A key with the new password is added before the old one is
removed, so that at every instant one of them opens.

The repository's own keys stay the same: whoever copied the old key object and
knows its password can still read. If that may be, make a new repository, copy
the backups there with sombra copy, and delete the old one.`,
		Args: takes(),
		RunE: a.withKeys(func(ctx context.Context, repo *repository.Repository, _ []string) error {
			password, err := n.password(ctx, a)
			if err != nil {
				return err
			}
			defer clear(password)
			k, err := repo.ChangePassword(ctx, password)
			if err != nil {
				return keyError(err)
			}
			if a.json {
				return a.printJSON("key_added", newKeyLine(k))
			}
			a.printf("changed the password; the key is now %s\n%s", k.ID.Short(), notRekeyed)
			return nil
		}),
	}
	n.add(cmd)
	return cmd
}

func newKeyRemove(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "remove ID",
		Short: "Remove a key: its password opens no more",
		Long: `Remove a key by its id or the first four digits of it or more. The last full key
cannot be removed, and the one in use only with --force.

The repository's own keys stay the same: whoever copied the key object and knows
its password can still read. If that may be, make a new repository, copy the
backups there with sombra copy, and delete the old one.`,
		Args: takes("ID"),
		RunE: a.withKeys(func(ctx context.Context, repo *repository.Repository, args []string) error {
			k, err := findKey(ctx, repo, args[0])
			if err != nil {
				return err
			}
			if err := repo.RemoveKey(ctx, k.ID, force); err != nil {
				return keyError(err)
			}
			if a.json {
				return a.printJSON("key_removed", newKeyLine(k))
			}
			a.printf("removed %s key %s\n", keyKind(k), k.ID.Short())
			if k.WriteOnly {
				a.printf("Whoever copied the key object and knows its password can still tell whether content is stored, and add backups where the store lets him in.\n")
			} else {
				a.printf("%s", notRekeyed)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove the key in use, too, if another full key is left")
	return cmd
}

// findKey finds the key whose id begins with the digits.
func findKey(ctx context.Context, repo *repository.Repository, prefix string) (found repository.Key, err error) {
	const least = 4
	keys, err := repo.Keys(ctx)
	if err != nil && !errors.Is(err, repository.ErrDamaged) {
		return found, err
	}
	n := 0
	for _, k := range keys {
		if len(prefix) >= least && strings.HasPrefix(k.ID.String(), prefix) {
			found = k
			n++
		}
	}
	switch {
	case n == 0:
		return found, &hintError{fmt.Errorf("no key's id begins with %s", printable(prefix)), "sombra key list shows them; four digits or more name one"}
	case n > 1:
		return found, &hintError{fmt.Errorf("%d keys begin with %s", n, printable(prefix)), "give more digits"}
	}
	return found, nil
}
