package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/requester"
	"github.com/sombra-backup/sombra/vss"
)

// Exit codes. The table in exitHelp is printed in every command's help.
const (
	exitOK               = 0
	exitFailed           = 1
	exitIncomplete       = 3
	exitLowerConsistency = 4
	exitWriterFailed     = 5
	exitNoRepository     = 10
	exitWrongPassword    = 12
	exitInterrupted      = 130
)

const exitHelp = `
Exit codes:
    0  complete, at the consistency asked for
    1  failed; no record was made, or nothing was restored
    3  incomplete: something is missing, and the output names it
    4  complete, at a lower consistency than asked for
    5  complete, but a writer failed after the shadow copy
   10  no repository
   12  wrong password
  130  interrupted
Take any other code for a failure.
`

// outcomeError ends a command whose result says more than its error.
type outcomeError struct {
	outcome requester.Outcome
	err     error
}

func (e *outcomeError) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return "the outcome is " + e.outcome.String()
}

func (e *outcomeError) Unwrap() error { return e.err }

// codeError gives an error an exit code of its own.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// hintError adds what the user can do.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// exitCode is the exit code of an error.
func exitCode(ctx context.Context, err error) int {
	var outcome *outcomeError
	var code *codeError
	switch {
	case errors.Is(context.Cause(ctx), errInterrupted):
		return exitInterrupted
	case errors.Is(err, repository.ErrNoRepository):
		return exitNoRepository
	case errors.Is(err, repository.ErrWrongPassword):
		return exitWrongPassword
	case errors.As(err, &code):
		return code.code
	case errors.As(err, &outcome):
		return outcome.outcome.ExitCode()
	}
	return exitFailed
}

// hint is what the user can do about an error, or empty.
func hint(err error) string {
	var h *hintError
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.Is(err, repository.ErrNoRepository):
		return "make one with: sombra init --repo DIR"
	case errors.Is(err, repository.ErrWrongPassword):
		return "the password comes from SOMBRA_PASSWORD, --password-file or --password-command"
	case errors.Is(err, vss.ErrSnapshotSetInProgress):
		return "another backup is running on this host; wait for its end"
	case errors.Is(err, vss.ErrInsufficientStorage):
		return "free some room on the volume named, or leave it out"
	}
	return ""
}

// reportError tells an error once: as text with a hint, or as a JSON line.
func (a *app) reportError(command string, code int, err error) {
	var outcome *outcomeError
	quiet := errors.As(err, &outcome) && outcome.err == nil // the summary has said it
	if a.json {
		line := map[string]any{"message_type": "exit_error", "code": code, "message": err.Error()}
		if h := hint(err); h != "" {
			line["hint"] = h
		}
		data, _ := json.Marshal(line)
		fmt.Fprintf(a.stderr, "%s\n", data)
		return
	}
	if quiet {
		return
	}
	fmt.Fprintf(a.stderr, "sombra: %v\n", err)
	if h := hint(err); h != "" {
		fmt.Fprintf(a.stderr, "sombra: hint: %s\n", h)
	}
}
