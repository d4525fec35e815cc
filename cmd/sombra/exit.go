package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/repository"
	"github.com/sombra-backup/sombra/repository/store"
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
	exitWriteOnly        = 13
	exitInterrupted      = 130
)

const exitHelp = `
Exit codes:
    0  complete, at the consistency asked for
    1  failed; no record was made, or nothing was restored; damage found
    3  incomplete: something is missing or not done, and the output names it
    4  complete, at a lower consistency than asked for
    5  complete, but a writer failed after the shadow copy
   10  no repository
   12  wrong password, or none given
   13  the key can add backups but not read them
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
	case errors.Is(err, repository.ErrWriteOnly):
		return exitWriteOnly
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
	var chain *requester.ChainError
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &chain):
		return "nothing was touched; restore the backup named, or leave the component out (--exclude-component); --no-writers restores what this backup alone holds"
	case errors.Is(err, repository.ErrNoRepository):
		return "make one with: sombra init --repo DIR"
	case errors.Is(err, repository.ErrWrongPassword):
		return "the password comes from SOMBRA_PASSWORD, --password-file or --password-command"
	case errors.Is(err, repository.ErrWriteOnly):
		return "use the password of a full key; sombra key list shows what keys there are"
	case errors.Is(err, store.ErrFull):
		return "make room there; earlier backups are whole, and the next one takes up what this one has stored"
	case errors.Is(err, vss.ErrSnapshotSetInProgress):
		return "another backup, or sombra freeze, is under way on this host; wait for its end, or thaw: sombra freeze --status"
	case errors.Is(err, vss.ErrInsufficientStorage):
		return "free some room on the volume named, or leave it out"
	}
	return ""
}

// reportError tells an error once, in one line and perhaps a hint, or as a JSON
// line.
func (a *app) reportError(command string, code int, err error) {
	var outcome *outcomeError
	told := errors.As(err, &outcome) && outcome.err == nil // the summary has said it
	// A layer's error may begin as the one it wraps does.
	text := strings.ReplaceAll(oneLine(err.Error()), "repository: repository: ", "repository: ")
	if code == exitWriteOnly {
		text = command + ": this key can add backups but not read them"
	}
	if code == exitInterrupted {
		text = command + ": interrupted"
	}
	if a.json {
		line := fields{"code": code, "message": text}
		if h := hint(err); h != "" {
			line["hint"] = h
		}
		data, _ := jsonLine("exit_error", line)
		a.stderr.Write(data)
		return
	}
	if told {
		return
	}
	fmt.Fprintf(a.stderr, "sombra: %s\n", text)
	if h := hint(err); h != "" && code != exitInterrupted {
		fmt.Fprintf(a.stderr, "hint: %s\n", h)
	}
}

// oneLine puts a text of several lines in one, without what a terminal would
// take for an order: names in errors are other people's.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, l := range lines {
		lines[i] = printable(strings.TrimSpace(l))
	}
	return strings.Join(lines, "; ")
}

// printable writes control characters as escapes, so that a file's name can do
// nothing to the terminal it is shown on.
func printable(s string) string {
	if !strings.ContainsFunc(s, unprintable) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else if unprintable(r) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
		s = s[n:]
	}
	return b.String()
}

func unprintable(r rune) bool {
	return unicode.IsControl(r) || !unicode.IsPrint(r) && !unicode.IsSpace(r)
}
