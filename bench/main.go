// Command bench measures what the documents give figures for, on the machine it
// runs on, and says which goals were met.
//
//	bench freeze       how long a database is held for a shadow copy
//	bench repository   backup and restore beside restic, kopia and borg
//	bench incremental  a database's file again, by what the file system tells
//	bench instant      how long several databases are held for backups that show one instant
//	bench logbackup    log backups of databases that do nothing
//	bench chain        a restore of several backups in one pass, and one by one
//
// Nothing here decides whether a test passes: a figure belongs to the machine
// and the day it was measured on, and both are printed with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// benchmark is one subcommand. It prints to out what it measured, and to
// standard error how it goes on.
type benchmark struct {
	name, about string
	run         func(ctx context.Context, args []string, out io.Writer) error
}

var benchmarks = []benchmark{
	{"freeze", "how long a database is held for a shadow copy", benchFreeze},
	{"repository", "backup and restore beside restic, kopia and borg", benchRepository},
	{"incremental", "a database's file again, by what the file system tells has changed", benchIncremental},
	{"instant", "how long several databases are held for backups that show one instant", benchInstant},
	{"logbackup", "log backups of databases that do nothing", benchLogBackup},
	{"chain", "chain restore collapsed against sequential", benchChain},
}

func main() {
	if len(os.Args) > 1 {
		if run, ok := roles[os.Args[1]]; ok {
			exit(run(os.Args[2:]))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	exit(err)
}

// run runs the named benchmark, or all of them.
func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		for _, b := range benchmarks {
			if err := b.run(ctx, nil, os.Stdout); err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
		}
		return nil
	}
	for _, b := range benchmarks {
		if b.name == args[0] {
			err := b.run(ctx, args[1:], os.Stdout)
			if errors.Is(err, flag.ErrHelp) {
				return nil
			}
			return err
		}
	}
	for _, b := range benchmarks {
		fmt.Fprintf(os.Stderr, "bench %-12s %s\n", b.name, b.about)
	}
	return fmt.Errorf("no benchmark is called %q", args[0])
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
