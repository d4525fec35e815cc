// Package child starts processes of the program that is running: the keeper and
// the writer hosts. Each is reached over a socket pair it inherits, and nothing
// else: its end is descriptor 3, its standard input and output lead nowhere.
//
// Either side learns of the other's death at once, by end of file. (A parent
// death signal would not do: it is sent when the thread that started the child
// ends, and threads of a Go program come and go.)
package child

import (
	"os"
	"slices"
	"strings"
)

// kept are the environment variables a child inherits, besides LC_*. Naming
// what may pass, rather than what may not, keeps every secret out whatever its
// name is.
var kept = []string{"PATH", "LANG", "LANGUAGE", "TZ", "HOME", "USER", "LOGNAME"}

// Env returns the environment a child gets unless told otherwise: search path,
// language, time zone and home directory of this process.
func Env() []string {
	env := []string{}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(kept, name) || strings.HasPrefix(name, "LC_") {
			env = append(env, kv)
		}
	}
	return env
}
