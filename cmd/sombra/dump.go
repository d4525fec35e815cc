package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
)

func newDump(a *app) *cobra.Command {
	d := dumper{app: a}
	var target string
	cmd := &cobra.Command{
		Use:   "dump BACKUP PATH",
		Short: "Write a file of a backup to standard output, or a directory as an archive",
		Long: `Write a file of a backup to standard output, and nothing else. A directory, or
anything with --archive, is written as a tar or zip archive with all that is
below it; names in it begin with the last name of PATH. Holes become zeros.

Where data is damaged the output ends before it, the error names the object, and
the exit code is 1: what was written until then is right. What the backup has no
data of is left out of an archive, named, and makes exit code 3.

` + backupHelp,
		Example: `  sombra dump latest /etc/passwd
  sombra dump latest /srv/app | tar -tv
  sombra dump --archive zip --output app.zip latest /srv/app`,
		Args: takes("BACKUP", "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRecord(cmd, args[0], func(ctx context.Context, repo *repository.Repository, rec *repository.Record) error {
				d.repo, d.rec = repo, rec
				return d.run(ctx, args[1], target)
			})
		},
	}
	addChoice(cmd, &d.archive, "archive", "archive", "write an archive: tar (the default for directories) or zip", "tar", "zip")
	cmd.Flags().StringVarP(&target, "output", "o", "", "write to this new `file` instead of standard output")
	return cmd
}

// dumper writes one file or directory.
type dumper struct {
	*app
	repo    *repository.Repository
	rec     *repository.Record
	archive string
	missing int
}

func (d *dumper) run(ctx context.Context, hostPath, target string) (err error) {
	place, err := placeOf(d.rec, hostPath)
	if err != nil {
		return err
	}
	top, err := d.find(ctx, place, hostPath)
	if err != nil {
		return err
	}
	if d.archive == "" {
		switch {
		case top == nil || top.Type == repository.Directory:
			d.archive = "tar"
		case top.Type != repository.Regular:
			return &hintError{fmt.Errorf("%s: a %v has no content", hostPath, top.Type), "--archive tar writes what it is"}
		}
	}
	if d.archive == "" && top.Size != top.Content.Size() {
		return fmt.Errorf("%s: its data is not in backup %s%s", hostPath, d.rec.ID.Short(), failedWhy(top))
	}
	w, done, err := d.open(target)
	if err != nil {
		return err
	}
	defer func() { err = done(err) }()
	if d.archive == "" {
		return d.file(ctx, w, top)
	}
	return d.tree(ctx, w, place)
}

// find gives the entry at the place, nil for a directory that has none.
func (d *dumper) find(ctx context.Context, place, hostPath string) (*repository.Entry, error) {
	for e, err := range under(ctx, d.rec, place) {
		if err != nil {
			return nil, err
		}
		if e.Path == place {
			return e, nil
		}
		return nil, nil
	}
	if place == "" {
		return nil, nil
	}
	return nil, notInBackup(d.rec, hostPath)
}

// failedWhy is why an entry's data is not in the backup.
func failedWhy(e *repository.Entry) string {
	if why := e.Attrs[requester.AttrError]; why != "" {
		return ": " + oneLine(why)
	}
	return ""
}

// open opens the output. done gives back the error, or that of ending it; a
// file of which something is missing is removed.
func (d *dumper) open(target string) (w io.Writer, done func(error) error, err error) {
	if target == "" {
		if o, ok := d.stdout.(*output); ok && d.archive != "" {
			if f, ok := o.w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				return nil, nil, &hintError{fmt.Errorf("an archive is not for a terminal"), "redirect the output, or name a file with --output"}
			}
		}
		b := bufio.NewWriterSize(d.stdout, 1<<20)
		return b, func(err error) error { return errors.Join(err, b.Flush()) }, nil
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, pathError(err)
	}
	b := bufio.NewWriterSize(f, 1<<20)
	return b, func(err error) error {
		whole := err == nil || exitCode(context.Background(), err) == exitIncomplete
		if flushed := errors.Join(b.Flush(), f.Sync(), f.Close()); flushed != nil || !whole {
			err = errors.Join(err, flushed, os.Remove(target))
		}
		return err
	}, nil
}

// file writes the content of one file.
func (d *dumper) file(ctx context.Context, w io.Writer, e *repository.Entry) error {
	f, err := d.repo.OpenContent(ctx, e.Content)
	if err != nil {
		return err
	}
	at := int64(0)
	err = f.Each(ctx, func(offset int64, data []byte) error {
		if err := writeZeros(ctx, w, offset-at); err != nil {
			return err
		}
		at = offset + int64(len(data))
		_, err := w.Write(data)
		return err
	})
	if err == nil {
		err = writeZeros(ctx, w, f.Size()-at)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", requester.HostPath(styleOf(d.rec), e.Path), err)
	}
	return nil
}

// writeZeros writes what a hole reads as.
func writeZeros(ctx context.Context, w io.Writer, n int64) error {
	var zeros [64 << 10]byte
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// archiver writes entries into an archive.
type archiver interface {
	// add begins an entry, and says where its content goes: nil if it has none.
	add(name string, e *repository.Entry) (io.Writer, error)
	Close() error
}

// tree writes all at the place and below it.
func (d *dumper) tree(ctx context.Context, w io.Writer, place string) error {
	var a archiver
	if d.archive == "zip" {
		a = newZipArchive(w)
	} else {
		a = newTarArchive(w)
	}
	above := path.Dir(place)
	for e, err := range under(ctx, d.rec, place) {
		if err != nil {
			return err
		}
		if e.Path == "" {
			continue
		}
		name := e.Path
		if place != "" && above != "." {
			name = name[len(above)+1:]
		}
		if err := d.entry(ctx, a, name, e); err != nil {
			return err
		}
	}
	if err := a.Close(); err != nil {
		return err
	}
	if d.missing > 0 {
		return &codeError{exitIncomplete, fmt.Errorf("%s left out of the archive, as named above", plural(d.missing, "entry"))}
	}
	return nil
}

// entry writes one entry into an archive.
func (d *dumper) entry(ctx context.Context, a archiver, name string, e *repository.Entry) error {
	if e.Type == repository.Regular && e.Size != e.Content.Size() {
		return d.leaveOut(e, fmt.Errorf("its data is not in the backup%s", failedWhy(e)))
	}
	w, err := a.add(name, e)
	if errors.Is(err, errNotForArchive) {
		return d.leaveOut(e, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", requester.HostPath(styleOf(d.rec), e.Path), err)
	}
	if w == nil {
		return nil
	}
	return d.file(ctx, w, e)
}

// errNotForArchive says that the kind of archive cannot hold the entry.
var errNotForArchive = errors.New("the archive cannot hold it")

// leaveOut names an entry that is not in the archive. It goes to standard error
// whatever is asked for: standard output is the archive's.
func (d *dumper) leaveOut(e *repository.Entry, err error) error {
	d.missing++
	text := fmt.Sprintf("%s: left out: %v", requester.HostPath(styleOf(d.rec), e.Path), err)
	if d.json {
		line, err := jsonLine("warning", fields{"message": text})
		if err == nil {
			_, err = d.stderr.Write(line)
		}
		return err
	}
	_, err = fmt.Fprintf(d.stderr, "sombra: %s\n", oneLine(text))
	return err
}
