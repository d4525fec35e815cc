package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newGenerate(a *app) *cobra.Command {
	cmd := group("generate", "Write man pages or shell completion", &cobra.Command{
		Use:   "man DIR",
		Short: "Write the man pages into a directory",
		Args:  takes("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			addExitStatus(root)
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "sombra " + version, Manual: "Sombra"}, args[0])
		},
	}, &cobra.Command{
		Use:       "completion SHELL",
		Short:     "Print the completion script for bash, zsh, fish or powershell",
		Args:      takes("SHELL"),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, w := cmd.Root(), a.stdout
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(w, true)
			case "zsh":
				return root.GenZshCompletion(w)
			case "fish":
				return root.GenFishCompletion(w, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(w)
			}
			return &hintError{fmt.Errorf("shell %q is not known", args[0]), "use bash, zsh, fish or powershell"}
		},
	})
	cmd.PersistentPreRunE = needsNoConfig
	return cmd
}

// addExitStatus puts the exit codes, which the help has from its template, into
// every man page.
func addExitStatus(cmd *cobra.Command) {
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	cmd.Long += "\n\n# EXIT STATUS\n\n```" + exitHelp[:strings.Index(exitHelp, "Take any")] + "```\n\nTake any other code for a failure."
	for _, sub := range cmd.Commands() {
		addExitStatus(sub)
	}
}

// needsNoConfig is for commands that work whatever the configuration says.
func needsNoConfig(*cobra.Command, []string) error { return nil }
