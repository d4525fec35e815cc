package redis

import (
	"errors"
	"fmt"
	"strings"
)

// directive is one line of a configuration file.
type directive []string

// maxSettings bounds a configuration file, in bytes.
const maxSettings = 4 << 20

var errSettings = errors.New("malformed configuration file")

// parseSettings reads a configuration file: one directive a line, its name and
// arguments parted by blanks, quoted where they hold some.
func parseSettings(text string) ([]directive, error) {
	if len(text) > maxSettings {
		return nil, fmt.Errorf("%w: more than %d bytes", errSettings, maxSettings)
	}
	var all []directive
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		args, err := splitArgs(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(args) > 0 {
			args[0] = strings.ToLower(args[0])
			all = append(all, args)
		}
	}
	return all, nil
}

// splitArgs parts a line as Redis does: "..." with escapes, '...' with \' only.
func splitArgs(line string) ([]string, error) {
	var args []string
	for {
		line = strings.TrimLeft(line, " \t\r\n\v\f\x00")
		if line == "" {
			return args, nil
		}
		var arg strings.Builder
		rest, err := oneArg(line, &arg)
		if err != nil {
			return nil, err
		}
		args, line = append(args, arg.String()), rest
	}
}

// oneArg reads up to the end of an argument.
func oneArg(s string, arg *strings.Builder) (rest string, err error) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\r', '\n', 0:
			return s[i:], nil
		case '"', '\'':
			n, err := quoted(s[i:], arg)
			if err != nil {
				return "", err
			}
			i += n
			if i < len(s) && !strings.ContainsRune(" \t\r\n\v\f\x00", rune(s[i])) {
				return "", fmt.Errorf("%w: text right after a closing quote", errSettings)
			}
			return s[i:], nil
		default:
			arg.WriteByte(c)
		}
	}
	return "", nil
}

// quoted reads a quoted string, and tells how many bytes that are.
func quoted(s string, arg *strings.Builder) (int, error) {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote:
			return i + 1, nil
		case c != '\\' || i+1 == len(s):
			arg.WriteByte(c)
		case quote == '\'':
			if s[i+1] == '\'' {
				i++
			}
			arg.WriteByte(s[i])
		default:
			i += escape(s[i+1:], arg)
		}
	}
	return 0, fmt.Errorf("%w: a quote that is not closed", errSettings)
}

// escape reads what follows a backslash, and tells how many bytes that are.
func escape(s string, arg *strings.Builder) int {
	if len(s) >= 3 && s[0] == 'x' && isHex(s[1]) && isHex(s[2]) {
		arg.WriteByte(unhex(s[1])<<4 | unhex(s[2]))
		return 3
	}
	c := s[0]
	if i := strings.IndexByte("nrtba", c); i >= 0 {
		c = "\n\r\t\b\a"[i]
	}
	arg.WriteByte(c)
	return 1
}

func isHex(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// last gives the arguments of the last directive of a name, which is the one that
// counts.
func last(all []directive, name string) (directive, bool) {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i][0] == name {
			return all[i][1:], true
		}
	}
	return nil, false
}

// password gives the default user's password, if the file has one in plain.
func password(all []directive) (string, bool) {
	if args, ok := last(all, "requirepass"); ok && len(args) == 1 && args[0] != "" {
		return args[0], true
	}
	for i := len(all) - 1; i >= 0; i-- {
		if d := all[i]; d[0] == "user" && len(d) > 2 && d[1] == "default" {
			for _, rule := range d[2:] {
				if p, ok := strings.CutPrefix(rule, ">"); ok {
					return p, true
				}
			}
		}
	}
	return "", false
}
