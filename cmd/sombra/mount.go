package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
)

func newMount(a *app) *cobra.Command {
	var o mountOptions
	cmd := &cobra.Command{
		Use:   "mount DIR",
		Short: "Show the backups as a file system, for reading (Linux)",
		Long: `Mount the repository on the directory DIR, for reading, through FUSE. Below it:

  hosts/HOST/TIME   each backup, by host and time (UTC)
  tags/TAG/TIME     the same by tag
  ids/ID            the same by id
  latest            a link to the newest, as hosts/HOST/latest

Backups that are made meanwhile appear after some seconds. The command runs until
it is interrupted (SIGINT, SIGTERM), which unmounts, or until somebody unmounts
it. Killed with SIGKILL it leaves a mount that answers nothing, which is removed by
"fusermount3 -u DIR", or as root by "umount -l DIR".

Only the user who mounts gets in, and may read all. With --allow-other all users
get in, with the permissions that the files have; root may do so, and others if
/etc/fuse.conf says user_allow_other.

Data that is damaged gives an input/output error where it is read, and a line
here that names the object.`,
		Args: takes("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.mount(cmd.Context(), args[0], o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.allowOther, "allow-other", false, "let other users in, with the permissions that the files have")
	f.BoolVar(&o.foreground, "foreground", true, "stay in the foreground (it always does)")
	f.StringVar(&o.host, "host", "", "only backups of this `host`")
	f.StringArrayVar(&o.tags, "tag", nil, "only backups with this `tag`; repeatable")
	must(f.MarkHidden("foreground"))
	return cmd
}

// mountOptions are the flags of mount.
type mountOptions struct {
	allowOther, foreground bool
	host                   string
	tags                   []string
}

// show says whether a backup is shown.
func (o *mountOptions) show(rec *repository.Record) bool {
	return (o.host == "" || rec.Host.Name == o.host) && hasTags(rec.Tags, o.tags)
}

// hides says whether a mount on the directory would hide the repository, which
// would then wait for itself.
func (a *app) hides(dir string) bool {
	u, err := store.Locate(a.repo)
	if err != nil || u.Scheme != "file" {
		return false
	}
	repo, err := realPath(u.Path)
	if err != nil {
		return false
	}
	at, err := realPath(dir)
	return err == nil && (repo == at || strings.HasPrefix(repo, strings.TrimSuffix(at, "/")+"/"))
}

func realPath(p string) (string, error) {
	p, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(p)
}
