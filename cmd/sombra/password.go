package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/term"
)

// maxPassword bounds a password in bytes.
const maxPassword = 4096

// password finds the repository's password: SOMBRA_PASSWORD, a file, the output
// of a command, or, on a terminal, the user, who is asked twice for a new one.
// It is never taken from a flag.
func (a *app) password(ctx context.Context, isNew bool) ([]byte, error) {
	return a.secret(ctx, a.passwordSource(), isNew)
}

// passwordSource is where the password of the repository comes from.
func (a *app) passwordSource() passwordSource {
	return passwordSource{file: a.passwordFile, command: a.passwordCommand, prompt: "password for repository: "}
}

// passwordSource says where a password comes from.
type passwordSource struct {
	// file and command are those of the flags, or what took their place.
	file, command string
	// kind is what stands before the names of variables and flags, such as
	// "new-"; empty for the password of the repository.
	kind, prompt string
}

// fill takes from the environment what no flag has set.
func (s *passwordSource) fill(a *app) {
	if s.file == "" && s.command == "" && a.env(s.variable("PASSWORD")) == "" {
		if s.file = a.env(s.variable("PASSWORD_FILE")); s.file == "" {
			s.command = a.env(s.variable("PASSWORD_COMMAND"))
		}
	}
}

func (s *passwordSource) variable(name string) string {
	return strings.ToUpper(strings.ReplaceAll(s.kind, "-", "_")) + name
}

// hint says where the password comes from.
func (s *passwordSource) hint() string {
	return fmt.Sprintf("the password comes from SOMBRA_%s, --%spassword-file or --%spassword-command", s.variable("PASSWORD"), s.kind, s.kind)
}

// secret finds a password.
func (a *app) secret(ctx context.Context, s passwordSource, isNew bool) ([]byte, error) {
	switch {
	case s.file != "":
		return readPasswordFile(s.file)
	case s.command != "":
		return a.passwordFrom(ctx, s.command)
	case a.env(s.variable("PASSWORD")) != "":
		return []byte(a.env(s.variable("PASSWORD"))), nil
	}
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		v := "SOMBRA_" + s.variable("PASSWORD")
		return nil, &codeError{exitWrongPassword, &hintError{fmt.Errorf("no %spassword is given", strings.ReplaceAll(s.kind, "-", " ")),
			fmt.Sprintf("set %s, %s_FILE or %s_COMMAND, or give --%spassword-file or --%spassword-command", v, v, v, s.kind, s.kind)}}
	}
	first, err := ask(ctx, a.stderr, f, s.prompt)
	if err != nil || !isNew {
		return first, err
	}
	second, err := ask(ctx, a.stderr, f, "the same again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passwords differ")
	}
	return first, nil
}

// ask reads a line from a terminal that does not show it. An interrupt gives the
// terminal back as it was.
func ask(ctx context.Context, w io.Writer, f *os.File, prompt string) ([]byte, error) {
	before, err := term.GetState(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("ask for the password: %w", err)
	}
	type answer struct {
		line []byte
		err  error
	}
	ch := make(chan answer, 1)
	fmt.Fprint(w, prompt)
	go func() {
		line, err := term.ReadPassword(int(f.Fd()))
		ch <- answer{line, err}
	}()
	select {
	case a := <-ch:
		fmt.Fprintln(w)
		switch {
		case a.err != nil:
			return nil, fmt.Errorf("ask for the password: %w", a.err)
		case len(a.line) == 0:
			return nil, &codeError{exitWrongPassword, errors.New("the password is empty")}
		case len(a.line) > maxPassword:
			return nil, fmt.Errorf("the password is longer than %d bytes", maxPassword)
		}
		return a.line, nil
	case <-ctx.Done():
		fmt.Fprintln(w)
		return nil, errors.Join(context.Cause(ctx), term.Restore(int(f.Fd()), before))
	}
}

func readPasswordFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &hintError{fmt.Errorf("password file: %w", pathError(err)),
			"the first line of that file is the password; nobody can read the repository without it, so keep it elsewhere, too"}
	}
	if err != nil {
		return nil, fmt.Errorf("password file: %w", pathError(err))
	}
	defer f.Close()
	return readPassword(f, name)
}

// readPassword reads the first line.
func readPassword(r io.Reader, from string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPassword+1))
	if err != nil {
		return nil, fmt.Errorf("password from %s: %w", from, err)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	switch {
	case len(line) > maxPassword:
		return nil, fmt.Errorf("password from %s: longer than %d bytes", from, maxPassword)
	case len(line) == 0:
		return nil, fmt.Errorf("password from %s: the first line is empty", from)
	}
	return line, nil
}

// passwordFrom runs a command by the shell, without our variables in its
// environment, and takes the first line it prints.
//
// The program it begins with must be root's or the caller's own, and not
// writable by others: it is run with the caller's rights.
func (a *app) passwordFrom(ctx context.Context, command string) ([]byte, error) {
	if err := trustedCommand(command); err != nil {
		return nil, fmt.Errorf("password command: %w", err)
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Env = withoutOurs(os.Environ())
	cmd.Stderr = a.stderr
	cmd.Stdin = a.stdin
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("password command: %w", err)
	}
	defer clear(out)
	p, err := readPassword(bytes.NewReader(out), "password command")
	return bytes.Clone(p), err
}

// trustedCommand looks at the program a command begins with. What the shell
// knows by itself is trusted.
func trustedCommand(command string) error {
	words := strings.Fields(command)
	if len(words) == 0 {
		return errors.New("it is empty")
	}
	name, err := exec.LookPath(words[0])
	if err != nil {
		return nil // the shell's own, or its error to tell
	}
	info, err := os.Stat(name)
	if err != nil {
		return pathError(err)
	}
	return trusted(name, info)
}

func withoutOurs(env []string) []string {
	var kept []string
	for _, e := range env {
		if !strings.HasPrefix(e, "SOMBRA_") {
			kept = append(kept, e)
		}
	}
	return kept
}
