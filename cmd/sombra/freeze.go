package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/requester/quiesce"
	"github.com/sombra-backup/sombra/session"
)

func newFreeze(a *app) *cobra.Command {
	var fl freezeFlags
	cmd := &cobra.Command{
		Use:   "freeze [PATH...]",
		Short: "Hold the applications for a snapshot that a hypervisor or a cloud takes",
		Long: `Bring applications to a consistent state through their writers, and hold them
there until sombra thaw, or until the lease is over: then they go on by
themselves, and thaw says that the snapshot is not application-consistent. The
backup is a copy to the writers: no log is truncated.

Without paths all servers that run take part, wherever their data lies; writers
that look for their data, as that of SQLite, look below paths: of the
configuration. With paths only that takes part whose data lies there.

Without --atomic nothing is taken for granted of the snapshot: not a byte of the
writers' files changes while they are held, and processes are stopped where it
takes that. With --atomic it is said to take all disks at one instant, or to be
taken while all file systems are frozen, as by the guest agents of QEMU and
VMware: what writers do by themselves then suffices.

Exit code 3 says that a writer failed, or that there is none: the others are held,
and thaw must follow.`,
		Example: `  sombra freeze --atomic --lease 30s
  sombra thaw`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if fl.status {
				return a.freezeStatus(cmd.Context())
			}
			return a.freeze(cmd, &fl, args)
		},
	}
	fl.add(cmd)
	return cmd
}

// freezeFlags are those of freeze.
type freezeFlags struct {
	selectors   requester.Selectors
	atomic      bool
	noDiscovery bool
	status      bool
	lease       duration
	limits      limitFlags
}

func (fl *freezeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&fl.selectors.Writers, "writer", nil, "hold only this `writer`: name, instance name or GUID; repeatable")
	f.StringArrayVar(&fl.selectors.ExcludeWriters, "exclude-writer", nil, "leave this `writer` out")
	f.BoolVar(&fl.atomic, "atomic", false, "the snapshot takes all disks at one instant, or all file systems are frozen while it is taken")
	f.Var(&fl.lease, "lease", "longest time for which anybody is held, from 1s to 10m (60s)")
	f.BoolVar(&fl.status, "status", false, "tell what is held, and do nothing; exit code 1 if nothing is")
	f.BoolVar(&fl.noDiscovery, "no-discovery", false, "use only configured writers")
	fl.limits.addEvents(cmd)
	mark(f, settable, "exclude-writer", "no-discovery")
	mark(f, addsUp, "exclude-writer")
}

// order is what the holder is to do.
func (fl *freezeFlags) order(a *app, args []string) (quiesce.Order, error) {
	o := quiesce.Order{StateDir: a.stateDir,
		Request: requester.FreezeRequest{Selectors: fl.selectors, Hold: session.Hold{Atomic: fl.atomic}}}
	lease := time.Duration(fl.lease)
	if lease == 0 {
		lease = quiesce.DefaultLease
	}
	if lease < quiesce.MinLease || lease > quiesce.MaxLease {
		return o, fmt.Errorf("--lease %v: from %v to %v", lease, quiesce.MinLease, quiesce.MaxLease)
	}
	var err error
	if o.Options, err = a.config.sessionOptions(fl.limits); err != nil {
		return o, err
	}
	o.Options.Limits.Writer, o.Options.Limits.Hold = lease, lease
	o.Options.NoDiscovery = o.Options.NoDiscovery || fl.noDiscovery
	if len(args) == 0 { // the snapshot has all disks
		args, o.Options.Running = a.config.Paths, true
	}
	o.Options.Paths, err = existing(args)
	o.Options.Exclude = a.config.Exclude
	return o, err
}

func (a *app) freeze(cmd *cobra.Command, fl *freezeFlags, args []string) error {
	o, err := fl.order(a, args)
	if err != nil {
		return err
	}
	if err := a.makeStateDir(); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	rep := a.reporter()
	r, err := quiesce.Start(cmd.Context(), exe, []string{holderArg}, o, rep)
	rep.end()
	if err != nil {
		return err
	}
	if err := a.tellFrozen("frozen", r); err != nil {
		return err
	}
	return resultError(cmd.Context(), r.Outcome, nil)
}

// tellFrozen tells what is held.
func (a *app) tellFrozen(kind string, r requester.FreezeResult) error {
	if a.json {
		return a.printJSON(kind, r)
	}
	for _, l := range r.LeftOut {
		fmt.Fprintf(a.stdout, "NOT HELD: %s\n", leftOutText(l))
	}
	fmt.Fprintf(a.stdout, "%s held\n", plural(r.Writers, "writer"))
	a.printf("thaw within %v, until %s: sombra thaw\n", time.Until(r.Until).Round(100*time.Millisecond), r.Until.Local().Format(time.RFC3339))
	return nil
}

func leftOutText(l requester.LeftOut) string {
	text := l.Writer
	if l.Component != "" {
		text += `:\` + l.Component
	}
	if text != "" {
		text += ": "
	}
	return oneLine(text + l.Reason)
}

// freezeStatus tells what is held.
func (a *app) freezeStatus(ctx context.Context) error {
	answer, err := quiesce.Status(ctx, a.stateDir)
	switch {
	case err != nil:
		return freezeError(err)
	case answer.State != quiesce.Held:
		return lateError(answer.Result)
	}
	return a.tellFrozen("frozen", answer.Result)
}

// lateError says that writers were let go before anybody thawed them.
func lateError(r requester.FreezeResult) error {
	return &codeError{exitLowerConsistency, &hintError{
		fmt.Errorf("the writers were let go before thaw: %s; a snapshot taken since %s is NOT application-consistent", r.Error, r.Held.Local().Format(time.RFC3339)),
		"take another one; --lease makes the time longer, unless a writer bears less: sombra freeze says how long"}}
}

// freezeError gives the errors of a holder that is not there their exit codes.
func freezeError(err error) error {
	if errors.Is(err, quiesce.ErrSilent) {
		return &codeError{exitLowerConsistency, &hintError{fmt.Errorf("%w; whether a snapshot taken for it is application-consistent cannot be told", err), "take another one"}}
	}
	if errors.Is(err, quiesce.ErrLost) {
		return &codeError{exitLowerConsistency, &hintError{fmt.Errorf("%w; a snapshot taken for it is NOT application-consistent", err), "take another one"}}
	}
	return err
}

func newThaw(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "thaw",
		Short: "Let the applications go on that sombra freeze holds",
		Long: `End what sombra freeze began, and tell for how long everybody was held.

Exit code 4 says that the snapshot is not application-consistent, as the lease
was over before; 3 that a writer was not held, or not throughout; 1 that nothing
is frozen.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.thaw(cmd.Context()) },
	}
}

func (a *app) thaw(ctx context.Context) error {
	answer, err := quiesce.Thaw(ctx, a.stateDir)
	if err != nil {
		return freezeError(err)
	}
	r := answer.Result
	if a.json {
		if err := a.printJSON("thawed", r); err != nil {
			return err
		}
	} else {
		a.printThawed(r)
	}
	switch {
	case answer.State == quiesce.Expired:
		return lateError(r)
	case r.Outcome == requester.LowerConsistency:
		return &codeError{exitLowerConsistency, &hintError{
			fmt.Errorf("not everybody was held throughout: %s; the snapshot is NOT application-consistent", r.Error), "take another one"}}
	}
	return resultError(ctx, r.Outcome, nil)
}

func (a *app) printThawed(r requester.FreezeResult) {
	for _, l := range r.LeftOut {
		fmt.Fprintf(a.stdout, "NOT HELD: %s\n", leftOutText(l))
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(a.stderr, "sombra: warning: %s\n", oneLine(w))
	}
	printReceipt(a.stdout, r.Receipt)
	if r.Outcome == requester.LowerConsistency {
		return
	}
	a.printf("%s held throughout; %v of the lease left\n", plural(r.Writers, "writer"), r.Left.Round(100*time.Millisecond))
}

// holderArg is the hidden argument with which the program starts itself again to
// hold writers.
const holderArg = "__freeze-holder"

// holderMain is the process that holds the writers between freeze and thaw. It
// has no standard streams: a log file may be on a file system that is frozen.
func holderMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	conn, err := quiesce.Starter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sombra:", err)
		return exitFailed
	}
	err = quiesce.Main(ctx, conn, func(o quiesce.Order, warn func(string)) requester.Opener {
		a := &app{stateDir: o.StateDir, stderr: warnings(warn), getenv: os.Getenv}
		return a.sessions(o.Options)
	})
	if err != nil {
		return exitFailed
	}
	return exitOK
}

// warnings is a log whose lines go elsewhere.
type warnings func(string)

func (w warnings) Write(line []byte) (int, error) {
	text := oneLine(string(line))
	w(strings.TrimPrefix(strings.TrimPrefix(text, "sombra: "), "warning: "))
	return len(line), nil
}
