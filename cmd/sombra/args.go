package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// takes checks the arguments of a command by their names in its usage line: one
// in brackets may be left out, one that ends in dots may come often.
func takes(names ...string) cobra.PositionalArgs {
	least, most := 0, len(names)
	for _, n := range names {
		if !strings.HasPrefix(n, "[") {
			least++
		}
		if strings.Contains(n, "...") {
			most = -1
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		see := "see: " + cmd.CommandPath() + " --help"
		if len(args) < least {
			return &hintError{fmt.Errorf("%s is missing", strings.TrimSuffix(names[len(args)], "...")), see}
		}
		if most >= 0 && len(args) > most {
			return &hintError{fmt.Errorf("argument %q is one too many", args[most]), see}
		}
		return nil
	}
}

// group is a command that only has subcommands.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: knownSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(subs...)
	return cmd
}

// knownSubcommand refuses words that name no subcommand, with those that come
// near.
func knownSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see: " + cmd.CommandPath() + " --help"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "near it: " + strings.Join(near, ", ")
	}
	return &hintError{fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0]), hint}
}
