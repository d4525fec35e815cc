package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

// wishFlags are the flags of what writers are told of a restore.
type wishFlags struct {
	options, newTargets, names []string
	authoritative              bool
	rollForward, instance      string
}

// names of the flags, which need the writers.
var wishFlagNames = []string{"restore-option", "new-target", "new-name", "authoritative", "roll-forward", "to-instance"}

func (w *wishFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&w.options, "restore-option", nil, "give writers this `option`: [component:][\"sub\":]\"name\"=\"value\"")
	f.StringArrayVar(&w.newTargets, "new-target", nil, "restore file sets to another directory (`from=directory`): [component:]directory for all below it, or [component:]path|pattern[|recursive] for one")
	f.StringArrayVar(&w.names, "new-name", nil, "restore a component under another `name`: [component=]name")
	f.BoolVar(&w.authoritative, "authoritative", false, "ask the writers for an authoritative restore")
	f.StringVar(&w.rollForward, "roll-forward", "", "how far logs are replayed: none, all or a `point` that the writer knows")
	f.StringVar(&w.instance, "to-instance", "", "restore into this writer `instance`, by name or GUID")
	for _, name := range wishFlagNames {
		cmd.MarkFlagsMutuallyExclusive("target", name)
		cmd.MarkFlagsMutuallyExclusive("no-writers", name)
	}
}

// wishes reads the flags. Paths are of the style.
func (w *wishFlags) wishes(cmd *cobra.Command, style vss.PathStyle) (out requester.Wishes, err error) {
	out.Optionless = optionless()
	for _, text := range w.options {
		o, err := requester.ParseOptionWish(text)
		if err != nil {
			return out, err
		}
		out.Options = append(out.Options, o)
	}
	for _, text := range w.newTargets {
		n, err := requester.ParseNewTarget(text, style)
		if err != nil {
			return out, err
		}
		out.NewTargets = append(out.NewTargets, n)
	}
	for _, text := range w.names {
		n, err := requester.ParseNameWish(text)
		if err != nil {
			return out, err
		}
		out.Names = append(out.Names, n)
	}
	if cmd.Flags().Changed("roll-forward") {
		if out.RollForward, out.Point, err = requester.ParseRollForward(w.rollForward); err != nil {
			return out, err
		}
	}
	if cmd.Flags().Changed("to-instance") && w.instance == "" {
		return out, errors.New("--to-instance is empty")
	}
	out.Authoritative, out.Instance = w.authoritative, w.instance
	return out, nil
}
