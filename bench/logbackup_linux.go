package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sombra-backup/sombra/internal/dbtest"
)

// goalLog is how long a log backup of a database may take that does nothing.
const goalLog = 300 * time.Millisecond

// benchLogBackup measures what a log backup costs where nothing has happened:
// what is paid every few minutes for being able to restore to any time.
func benchLogBackup(ctx context.Context, args []string, out io.Writer) error {
	var rounds int
	var mib int64
	var dir, sombra string
	f := flag.NewFlagSet("logbackup", flag.ContinueOnError)
	f.IntVar(&rounds, "rounds", 30, "log backups of each database")
	f.Int64Var(&mib, "size", 64, "rows of each database in MiB")
	f.StringVar(&dir, "dir", "/var/tmp", "directory for the databases; not in memory")
	f.StringVar(&sombra, "sombra", "build/sombra", "the program")
	if err := f.Parse(args); err != nil {
		return err
	}
	if rounds < 1 || mib < 1 {
		return errors.New("rounds and size must be 1 or more")
	}
	t, err := findSombra(ctx, sombra)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "## Log backups of idle databases\n\n%s", machine())
	fmt.Fprintf(out, "- %s; %d times `sombra backup --type log` after a full backup, rows of %d MiB in each; each figure is the whole command\n\n%s", t.version, rounds, mib, tableHead)
	var verdicts []string
	for _, d := range []struct {
		name  string
		start func(*estate, context.Context) error
		fill  func(*estate, context.Context, int64) error
		as    func(*estate) (root string, c configured)
	}{
		{"PostgreSQL", (*estate).startPostgres, (*estate).fillPostgres, func(e *estate) (string, configured) {
			return e.pg.Dir, configured{"postgres", "bench", map[string]any{"data": e.pg.Dir, "logs": true}}
		}},
		{"MariaDB", (*estate).startMariaDB, (*estate).fillMariaDB, func(e *estate) (string, configured) {
			return e.maria.Dir, configured{"mariadb", "bench", map[string]any{"datadir": e.maria.Dir}}
		}},
	} {
		e := &estate{}
		if e.dir, err = dbtest.Scratch(dir); err != nil {
			return err
		}
		e.roots = [4]string{filepath.Join(e.dir, "postgres"), filepath.Join(e.dir, "mariadb")}
		err = errors.Join(os.Mkdir(e.roots[0], 0o755), os.Mkdir(e.roots[1], 0o755))
		if err == nil {
			err = d.start(e, ctx)
		}
		if err == nil {
			err = d.fill(e, ctx, mib<<20/rowBytes)
		}
		var took durations
		if err == nil {
			fmt.Fprintf(os.Stderr, "%s: %d log backups\n", d.name, rounds)
			root, c := d.as(e)
			took, err = e.logBackups(ctx, t, root, c, rounds)
		}
		if err := errors.Join(err, e.close()); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		fmt.Fprint(out, took.row("log backup of an idle "+d.name))
		verdicts = append(verdicts, verdict("log backup of an idle "+d.name+", median", took.median(), goalLog))
	}
	fmt.Fprintln(out)
	for _, v := range verdicts {
		fmt.Fprint(out, v)
	}
	fmt.Fprintln(out, "- nobody was frozen for any of them")
	return nil
}

// logBackups does a full backup and then so many log backups, and gives how long
// each of those took. That anybody was frozen for one is an error.
func (e *estate) logBackups(ctx context.Context, t *tool, root string, c configured, rounds int) (took durations, err error) {
	config, err := e.configure(c)
	if err != nil {
		return nil, err
	}
	b, err := newBackups(ctx, t, e.dir, config)
	if err != nil {
		return nil, err
	}
	if err := b.command(ctx, "-q", "backup", "--type", "full", root).Run(); err != nil {
		return nil, fmt.Errorf("full backup: %w", err)
	}
	for range rounds {
		begun := time.Now()
		said, err := b.command(ctx, "--json", "backup", "--type", "log", root).Output()
		took = append(took, time.Since(begun))
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", failure("log backup", err), lastOf(said))
		}
		if !bytes.Contains(said, []byte(`"backup_type":"log"`)) {
			return nil, fmt.Errorf("no log backup was made: %s", lastOf(said))
		}
		if bytes.Contains(said, []byte(`"event":"Freeze"`)) {
			return nil, fmt.Errorf("somebody was frozen for a log backup: %s", lastOf(said))
		}
	}
	return took, nil
}
