package mariadb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/vss"
)

// settings is a writer's configuration as a person gives it.
type settings struct {
	// Datadir is the data directory, absolute.
	Datadir string `json:"datadir"`
	// Socket is the server's unix socket. Empty means the one it was found to
	// listen on, else Debian's.
	Socket string `json:"socket,omitempty"`
	// User is the account to use. Empty means the one in OptionFile, else the
	// name of the data's owner, whom the server knows by the socket.
	User string `json:"user,omitempty"`
	// OptionFile is a file with user and password in its group [client]. It must
	// be the owner's or root's and closed to all others.
	OptionFile string `json:"option_file,omitempty"`
	// Unit is the server's unit of systemd. Empty means the one it was found in.
	Unit string `json:"unit,omitempty"`
	// Start is the command that starts the server after a restore, by words, if
	// no unit does. Empty means the command line it was found with.
	Start []string `json:"start,omitempty"`
	// Logs: binary logs are purged when a backup has them. Without it none is.
	Logs bool `json:"logs,omitempty"`
	// KeepLogs is how long a binary log is kept, at least, as "72h", though a
	// backup has it. Purging is off if it is "always".
	KeepLogs string `json:"keep_logs,omitempty"`
	// AnyVersion serves versions that nobody has tested.
	AnyVersion bool `json:"any_version,omitempty"`
}

// keepAlways is the value of KeepLogs with which no log is purged.
const keepAlways = "always"

// spec is what Discover tells New, in Spec.Config.
type spec struct {
	settings
	// PID is the server's process, 0 if it does not run.
	PID int `json:"pid,omitempty"`
	// Restore says that the directory may be absent, or anything.
	Restore bool `json:"restore,omitempty"`
	// Places are where a backup that is to be restored has files besides.
	Places []place `json:"places,omitempty"`
}

// parseSettings reads what a person wrote.
func parseSettings(raw json.RawMessage) (settings, error) {
	var s settings
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("configuration of a %s writer: %w", KindName, err)
	}
	if !filepath.IsAbs(s.Datadir) {
		return s, fmt.Errorf("configuration of a %s writer: datadir %q is not absolute; give the data directory's full path", KindName, s.Datadir)
	}
	s.Datadir = filepath.Clean(s.Datadir)
	for name, path := range map[string]string{"socket": s.Socket, "option_file": s.OptionFile} {
		if path != "" && !filepath.IsAbs(path) {
			return s, fmt.Errorf("configuration of a %s writer: %s %q is not absolute", KindName, name, path)
		}
	}
	if len(s.Start) > 0 && !filepath.IsAbs(s.Start[0]) {
		return s, fmt.Errorf("configuration of a %s writer: start: the program %q is not absolute", KindName, s.Start[0])
	}
	_, purge, err := s.keep()
	if err == nil && s.KeepLogs != "" && s.KeepLogs != keepAlways && !purge {
		err = fmt.Errorf("configuration of a %s writer: keep_logs %q says how long to keep what is let go of with logs: true, and without that all is kept; set both or neither", KindName, s.KeepLogs)
	}
	return s, err
}

// keep is how long logs are kept at least, and whether any may be purged.
func (s *settings) keep() (time.Duration, bool, error) {
	switch s.KeepLogs {
	case "":
		return 0, s.Logs, nil
	case keepAlways:
		return 0, false, nil
	}
	d, err := time.ParseDuration(s.KeepLogs)
	if err != nil || d < 0 {
		return 0, false, fmt.Errorf("configuration of a %s writer: keep_logs %q is neither a time such as 72h nor %q", KindName, s.KeepLogs, keepAlways)
	}
	return d, s.Logs, nil
}

// checkPath says why a path cannot be in a document: it becomes a component's name
// or a part of a file specification, both of which must stand for exactly it.
func checkPath(path string) error {
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/":
		return fmt.Errorf("path %.200q is not absolute and in its shortest form", path)
	case strings.Contains(path, `\`):
		return fmt.Errorf("path %.200q holds a backslash, which no component name may; rename it", path)
	case vss.HasWildcard(path):
		return fmt.Errorf("path %.200q holds * or ?, which file specifications take for wildcards; rename it", path)
	case expands(path):
		return fmt.Errorf("path %.200q has a part between percent signs, which file specifications take for a variable; rename it", path)
	case len(path) > 4000:
		return fmt.Errorf("path %.60q... is too long", path)
	case !utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Errorf("path %.200q is not plain text; rename it", path)
	}
	return nil
}

func expands(dir string) bool {
	_, err := vss.ExpandEnv(dir, func(string) (string, bool) { return "", false })
	return err != nil
}
