package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/requester"
)

// methodFlags say how components are restored, and what a backup's documents may
// lead to.
type methodFlags struct {
	methods, destinations, services []string
}

func (m *methodFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&m.methods, "restore-method", nil, "restore by another method than the writer's: `[COMPONENT=]METHOD`")
	f.StringArrayVar(&m.destinations, "allow-destination", nil, "let alternate location mappings lead into this `directory`")
	f.StringArrayVar(&m.services, "allow-service", nil, "let this `service` be stopped and started")
	for _, name := range []string{"restore-method", "allow-destination", "allow-service"} {
		cmd.MarkFlagsMutuallyExclusive(name, "no-writers")
		cmd.MarkFlagsMutuallyExclusive(name, "target")
	}
}

// into enters the flags into a request.
func (m *methodFlags) into(r *requester.RestoreRequest) error {
	for _, text := range m.methods {
		w, err := requester.ParseMethodWish(text)
		if err != nil {
			return fmt.Errorf("--restore-method: %w", err)
		}
		r.Methods = append(r.Methods, w)
	}
	for _, dir := range m.destinations {
		if dir == "" {
			return errors.New("--allow-destination is empty")
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return fmt.Errorf("--allow-destination: %w", err)
		}
		r.Destinations = append(r.Destinations, abs)
	}
	if slices.Contains(m.services, "") {
		return errors.New("--allow-service is empty")
	}
	r.Services = m.services
	return nil
}

// printWhere prints where a component's files went, if that is not where they were.
func printWhere(w io.Writer, c requester.ComponentResult) {
	if c.MethodUsed != "" {
		fmt.Fprintf(w, "    by method %s instead of %s\n", c.MethodUsed, c.Method)
	}
	for _, text := range head(c.Mappings) {
		fmt.Fprintf(w, "    to its alternate location: %s\n", oneLine(text))
	}
	more(w, len(c.Mappings))
	if c.PendingReboot != "" {
		fmt.Fprintf(w, "    takes its place at the next start (%s); see: sombra restore --pending\n", printable(c.PendingReboot))
	}
}

// printHost prints what was done with services, and what a restart is needed for.
func printHost(w io.Writer, r *requester.RestoreResult) {
	for _, s := range r.Services {
		fmt.Fprintf(w, "service %s: %s\n", printable(s.Name), serviceWords(s, r.DryRun))
	}
	for _, text := range head(r.RebootFor) {
		fmt.Fprintf(w, "RESTART THE HOST for %s\n", oneLine(text))
	}
	more(w, len(r.RebootFor))
}

func serviceWords(s requester.ServiceResult, dry bool) string {
	switch {
	case dry && s.Error == "":
		return printable(s.Before) + ", would be stopped and started if it runs"
	case s.Error != "" && s.Stopped:
		return "stopped, and DOES NOT START AGAIN: " + oneLine(s.Error)
	case s.Error != "":
		return "not stopped: " + oneLine(s.Error)
	case s.Stopped:
		return "stopped and started"
	}
	return printable(s.Before) + " before, and left so"
}
