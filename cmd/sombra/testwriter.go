package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sombra-backup/sombra/writer/writers/testwriter"
)

func newTestWriter(a *app) *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "testwriter FILE",
		Short: "Run a Test Writer by its XML configuration, until interrupted",
		Long: `Run a writer that does what the configuration FILE says, so that a requester can
be tried against every behaviour a writer may have. The configuration is that of
Microsoft's VSS Test Writer. It runs until it is interrupted; backups of the same
user, or of root, find it meanwhile.`,
		Args: takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if socket == "" {
				dirs := a.socketDirs()
				dir := dirs[1]
				if os.Geteuid() == 0 && a.env("STATE_DIR") == "" && !cmd.Flags().Changed("state-dir") {
					dir = dirs[0]
				}
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
				base := strings.TrimSuffix(filepath.Base(args[0]), filepath.Ext(args[0]))
				socket = filepath.Join(dir, "testwriter-"+base+".sock")
			}
			err := testwriter.Run(cmd.Context(), args[0], socket, a.lines("testwriter"))
			if errors.Is(context.Cause(cmd.Context()), errInterrupted) && errors.Is(err, context.Canceled) {
				return nil // this is how it ends
			}
			return err
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "listen at this `path`")
	return cmd
}

// lines is standard output for something that prints lines; with --json each is
// a message of the given type.
func (a *app) lines(kind string) io.Writer {
	if !a.json {
		return a.stdout
	}
	return &lineWriter{app: a, kind: kind}
}

type lineWriter struct {
	*app
	kind string
	rest []byte
}

// Write passes on whole lines.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		if err := l.printJSON(l.kind, fields{"line": string(line)}); err != nil {
			return 0, err
		}
		l.rest = rest
	}
}
