package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newRoot builds the command tree: one file a command.
func newRoot(a *app) *cobra.Command {
	root := group("sombra", "Application-consistent backups by the Volume Shadow Copy model",
		newInit(a), newBackup(a), newPlan(a), withPending(a, newRestore(a)), newExtract(a),
		newBackups(a), newShow(a), newLs(a), newFind(a), newDiff(a), newDump(a), newMount(a), newStats(a), newForget(a), newPrune(a), newCheck(a), newRepair(a),
		newKey(a), newCopy(a),
		newWriters(a), newProviders(a), newShadow(a), newFreeze(a), newThaw(a),
		newDoc(a), newTestWriter(a), newDemo(a), newGenerate(a), newVersion(a), newAtReboot(a),
	)
	root.Long = `Sombra brings applications to a consistent state, takes shadow copies of all
their volumes at one instant, lets the applications go on within milliseconds,
and copies from the shadow copies into a deduplicating, encrypted repository.`
	root.SilenceUsage, root.SilenceErrors = true, true
	root.PersistentPreRunE = a.load
	root.CompletionOptions.DisableDefaultCmd = true
	root.SuggestionsMinimumDistance = 2
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.PersistentPreRunE = needsNoConfig
	}
	a.addGlobalFlags(root)
	root.SetUsageTemplate(root.UsageTemplate() + exitHelp)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &hintError{flagError(err), fmt.Sprintf("see: %s --help", cmd.CommandPath())}
	})
	return root
}

func (a *app) addGlobalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVarP(&a.repo, "repo", "r", "", "the `repository`, a directory or URL (SOMBRA_REPOSITORY)")
	f.StringVar(&a.passwordFile, "password-file", "", "read the password from the first line of `file` (SOMBRA_PASSWORD_FILE)")
	f.StringVar(&a.passwordCommand, "password-command", "", "take the password from what a `command` prints (SOMBRA_PASSWORD_COMMAND)")
	f.StringVar(&a.configFile, "config", "", "configuration `file` (SOMBRA_CONFIG; /etc/sombra/sombra.yaml, or below ~/.config)")
	f.StringVar(&a.stateDir, "state-dir", "", "`directory` of this host's state (SOMBRA_STATE_DIR; /var/lib/sombra, or below ~/.local/state)")
	f.BoolVar(&a.json, "json", false, "print JSON lines")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print only errors and what was asked for")
	f.CountVarP(&a.verbose, "verbose", "v", "print more; twice for every file")
	a.store.add(f)
	must(root.MarkPersistentFlagFilename("config", "yaml", "yml"))
	must(root.MarkPersistentFlagDirname("repo"))
	must(root.MarkPersistentFlagDirname("state-dir"))
}
