// Package launch starts programs that outlive the process that starts them: the
// server of an application that no service manager runs, after a restore.
//
// A writer host is a bad parent. It ends with the backup or the restore, has
// rights and limits of its own, and descriptors and an output that others wait for
// the end of. A program started here has a session of its own, so that no
// interrupt reaches it; the usual file mode mask 022 and the core size limit as it
// was; no descriptors but its standard ones: an empty input, and its output in a
// log of its own; and the environment it is given, else search path, language and
// home directory.
//
// What serves the process that starts it alone is tied to it instead.
package launch

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sombra-backup/sombra/writer"
)

// Program says what to start.
type Program struct {
	// Path is the program's absolute path, Args its arguments, without its
	// name. Secrets do not belong there: everybody can read them.
	Path string
	Args []string
	// Env is its whole environment; nil means search path, language, time zone,
	// home directory and user name of this process.
	Env []string
	// Dir is its working directory; empty means the root directory.
	Dir string
	// Log is the absolute path of a file to which its standard output and error
	// are appended, made with mode 0640 if it is not there; empty means
	// nowhere. A link is not followed.
	Log string
	// Tied has it killed when this process ends, however it does: it serves this
	// process alone.
	Tied bool
}

// bounds of what a program is given.
const (
	maxWords = 1 << 10
	maxBytes = 128 << 10
)

// check refuses what could not be started, or not without surprise.
func (p Program) check() error {
	if !filepath.IsAbs(p.Path) {
		return fmt.Errorf("start %q: not an absolute path", p.Path)
	}
	for _, path := range []string{p.Dir, p.Log} {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("start %s: %q is not an absolute path", p.Path, path)
		}
	}
	size := len(p.Path) + len(p.Dir) + len(p.Log)
	for _, list := range [][]string{{p.Path, p.Dir, p.Log}, p.Args, p.Env} {
		for _, word := range list {
			size += len(word)
			if strings.ContainsRune(word, 0) {
				return fmt.Errorf("start %s: there is a zero byte in its arguments", p.Path)
			}
		}
	}
	if len(p.Args)+len(p.Env) > maxWords || size > maxBytes {
		return fmt.Errorf("start %s: more than %d arguments and variables, or %d bytes of them", p.Path, maxWords, maxBytes)
	}
	return nil
}

// ErrEnded is wrapped by the error of [Process.Err] of a program of which no more
// is known than that it has ended.
var ErrEnded = errors.New("it has ended")

// Start starts a program for the writer of a specification and returns when it
// runs. That it goes on running, or serves, is for the caller to find out: by
// speaking to it, and by [Process.Done].
func Start(s writer.Spec, p Program) (*Process, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	return start(s, p)
}
