package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sombra-backup/sombra/session"
)

// settable marks flags that the environment and the configuration may set, too:
// --hold-limit is SOMBRA_HOLD_LIMIT and hold_limit. A flag on the command line
// comes before the environment, the environment before the configuration.
const settable = "sombra_settable"

// addsUp marks lists of which the configuration's part always counts.
const addsUp = "sombra_adds_up"

// mark annotates flags of a command.
func mark(f *pflag.FlagSet, annotation string, names ...string) {
	for _, name := range names {
		if err := f.SetAnnotation(name, annotation, []string{"yes"}); err != nil {
			panic(err) // a flag's name is misspelt above
		}
	}
}

func marked(f *pflag.Flag, annotation string) bool { return f.Annotations[annotation] != nil }

// setOptions gives the flags of a command that are not on the command line their
// values from the environment or else from the configuration.
func (a *app) setOptions(cmd *cobra.Command) (err error) {
	values := a.config.options()
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if err != nil || !marked(f, settable) {
			return
		}
		key := strings.ReplaceAll(f.Name, "-", "_")
		variable := "SOMBRA_" + strings.ToUpper(key)
		fromEnv := a.getenv(variable)
		switch {
		case f.Changed:
		case fromEnv != "":
			err = setFlag(f, variable, splitValue(f, fromEnv))
		default:
			err = setFlag(f, a.config.at(key), values[f.Name])
			return
		}
		if err == nil && marked(f, addsUp) {
			err = setFlag(f, a.config.at(key), values[f.Name])
		}
	})
	return err
}

// splitValue reads a variable for a list: one value a line.
func splitValue(f *pflag.Flag, text string) []string {
	if _, ok := f.Value.(pflag.SliceValue); !ok {
		return []string{text}
	}
	return slices.DeleteFunc(strings.Split(text, "\n"), func(s string) bool { return s == "" })
}

func setFlag(f *pflag.Flag, from string, values []string) error {
	for _, v := range values {
		if list, ok := f.Value.(pflag.SliceValue); ok {
			if err := list.Append(v); err != nil {
				return fmt.Errorf("%s: %w", from, err)
			}
			continue
		}
		if err := f.Value.Set(v); err != nil {
			return fmt.Errorf("%s: %w", from, valueError(f, v, err))
		}
	}
	return nil
}

// choice is a flag that takes one of a few words.
type choice struct {
	value *string
	words []string
	noun  string
}

func (c choice) String() string { return *c.value }
func (c choice) Type() string   { return c.noun }

// Set takes one of the words only.
func (c choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("%q is not %s", s, orList(c.words))
	}
	*c.value = s
	return nil
}

// orList is "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// addChoice adds a flag of a few words, and their completion.
func addChoice(cmd *cobra.Command, value *string, name, noun, usage string, words ...string) {
	cmd.Flags().Var(choice{value, words, noun}, name, usage)
	must(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)))
}

// must is for errors that only a mistake in the command tree can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// duration is a time.Duration as people write it: 90s, 2m30s. It is a flag and
// a value of the configuration.
type duration time.Duration

// parseDuration takes positive ones only.
func parseDuration(text string) (duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration such as 90s or 2m30s", text)
	case d <= 0:
		return 0, fmt.Errorf("%q is not a positive duration", text)
	}
	return duration(d), nil
}

// Set reads a flag.
func (d *duration) Set(text string) (err error) {
	*d, err = parseDuration(text)
	return err
}

func (d *duration) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

// Type is the placeholder in a help text.
func (d *duration) Type() string { return "duration" }

// limitFlags bound how long anything may take.
type limitFlags struct {
	freeze, hold, discovered, event, identify, prepare duration
}

func (l *limitFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(&l.freeze, "freeze-limit", "longest time a writer may be frozen, from Freeze to Thaw (60s)")
	f.Var(&l.hold, "hold-limit", "longest time from the first shadow copy of a set to the last (10s)")
	f.Var(&l.prepare, "prepare-limit", "longest time for providers to prepare (30m)")
	mark(f, settable, "freeze-limit", "hold-limit", "prepare-limit")
	l.addEvents(cmd)
}

// addEvents adds the limits of what is not a matter of shadow copies.
func (l *limitFlags) addEvents(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(&l.discovered, "discovered-limit", "longest time to freeze what was found and not configured (2s)")
	f.Var(&l.event, "event-limit", "longest time for a writer's other events (10m)")
	f.Var(&l.identify, "identify-limit", "longest time for writers to identify themselves (60s)")
	mark(f, settable, "discovered-limit", "event-limit", "identify-limit")
}

// session gives the limits as a session takes them.
func (l *limitFlags) session() session.Limits {
	return session.Limits{
		Writer: time.Duration(l.freeze), Hold: time.Duration(l.hold), Discovered: time.Duration(l.discovered),
		Event: time.Duration(l.event), Identify: time.Duration(l.identify), Prepare: time.Duration(l.prepare),
	}
}
