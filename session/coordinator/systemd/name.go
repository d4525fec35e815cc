package systemd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/vss"
)

// maxUnitName is systemd's own bound.
const maxUnitName = 255

// unitTypes are what a unit's name ends in.
var unitTypes = []string{"service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope", "snapshot", "busname"}

// serviceName gives the unit of a service that is called name, with or without
// ".service". Anything else than a service's name is VSS_E_INVALIDARG.
func serviceName(name string) (string, error) {
	bad := func(why string) (string, error) {
		return "", vss.Errorf(vss.ErrInvalidArgument, "find service", clip(name), "%w", errors.New(why))
	}
	if name == "" {
		return bad("the name is empty")
	}
	if strings.ContainsFunc(name, notUnit) || name[0] == '-' || name[0] == '.' {
		return bad("this is not the name of a service: letters, digits and any of : - _ . \\ @")
	}
	stem, isService := strings.CutSuffix(name, ".service")
	if i := strings.LastIndexByte(name, '.'); !isService && i >= 0 && slices.Contains(unitTypes, name[i+1:]) {
		return bad("this is a " + name[i+1:] + ", and only services are stopped and started")
	}
	unit := stem + ".service"
	prefix, instance, template := strings.Cut(stem, "@")
	switch {
	case stem == "":
		return bad("the name is empty")
	case len(unit) > maxUnitName:
		return bad("the name is longer than any unit's")
	case template && (instance == "" || prefix == ""):
		return bad("this is a template; only an instance of it can run, such as " + prefix + "@main.service")
	case strings.HasPrefix(unit, "systemd-"), strings.HasPrefix(unit, "user@"), strings.HasPrefix(unit, "dbus"):
		return "", vss.Errorf(vss.ErrAccessDenied, "find service", unit, "this is a service of the system itself, which is not stopped for a restore")
	}
	return unit, nil
}

const unitBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\@"

func notUnit(r rune) bool { return !strings.ContainsRune(unitBytes, r) }

// isUnit reports whether a name that systemctl printed is one to give it back.
func isUnit(name string) bool {
	return name != "" && len(name) <= maxUnitName && !strings.ContainsFunc(name, notUnit) && strings.Contains(name, ".") && !strings.HasPrefix(name, "-")
}

// clip shortens a name for a message.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

// CommandLine writes the command line of a unit file, a program's absolute path
// and its arguments: specifiers, variables, blanks and quotes stand for themselves.
// What a unit file cannot have is an error.
func CommandLine(words ...string) (string, error) {
	var quoted []string
	for i, word := range words {
		if strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "", fmt.Errorf("%q cannot stand in a unit file", word)
		}
		if i == 0 && strings.ContainsAny(word, `"'\`) { // systemd takes no such path
			return "", fmt.Errorf("systemd starts no program with quotes or backslashes in its path, as %q has", word)
		}
		word = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(word)
		if i > 0 { // no variable is looked for in the path of the program
			word = strings.ReplaceAll(word, "$", "$$")
		}
		quoted = append(quoted, `"`+word+`"`)
	}
	return strings.Join(quoted, " "), nil
}
