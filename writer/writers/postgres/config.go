package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/vss"
)

// config is a writer's configuration. A person gives the data directory; all else
// has a default or is found out from the server.
type config struct {
	// Data is the data directory, absolute. Links in it are resolved once, when
	// the writer is found.
	Data string `json:"data"`
	// Role is whom to connect as; empty means the name of the data's owner,
	// whom the writer runs as.
	Role string `json:"role,omitempty"`
	// Database is where to connect to; empty means "postgres".
	Database string `json:"database,omitempty"`
	// Socket is the directory of the server's unix socket, and Port its number;
	// empty and 0 mean what the running server says.
	Socket string `json:"socket,omitempty"`
	Port   int    `json:"port,omitempty"`
	// Logs has the write-ahead log kept for log backups, by a replication slot,
	// from the next full backup on.
	Logs bool `json:"logs,omitempty"`
	// NoCheckpoint leaves the checkpoint before Freeze out: recovery takes
	// longer, the backup disturbs less.
	NoCheckpoint bool `json:"no-checkpoint,omitempty"`
	// Bin is the directory of the server's programs; empty means that of the
	// running server, else the places where distributions put them.
	Bin string `json:"bin,omitempty"`
	// Settings is the server's configuration file, if it is not in the data
	// directory and the server does not run.
	Settings string `json:"settings,omitempty"`
	// Unit is the unit of systemd that runs the server; empty means the one the
	// running server was started by.
	Unit string `json:"unit,omitempty"`

	found
}

// found is what Discover adds. Nobody configures it.
type found struct {
	// Maybe says that it may turn out to be no cluster.
	Maybe bool `json:"-maybe,omitempty"`
	// Restore says that the directory may be absent, or anything; System is then
	// the system identifier of the backup, and WAL and Spaces its directories.
	Restore bool    `json:"-restore,omitempty"`
	System  string  `json:"-system,omitempty"`
	WAL     string  `json:"-wal,omitempty"`
	Spaces  []space `json:"-spaces,omitempty"`
}

// space is a tablespace outside the data directory.
type space struct {
	OID string `json:"oid"` // the name of its link in pg_tblspc
	Dir string `json:"dir"` // where that leads
}

// parseConfig reads what a person wrote, or what Discover made of it.
func parseConfig(raw json.RawMessage) (config, error) {
	var c config
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("configuration of a %s writer: %w", KindName, err)
	}
	switch {
	case !filepath.IsAbs(c.Data):
		return c, fmt.Errorf(`configuration of a %s writer: data %q is not absolute; give the data directory's full path, as in {"data": "/var/lib/postgresql/15/main"}`, KindName, c.Data)
	case c.Port < 0 || c.Port > 65535:
		return c, fmt.Errorf("configuration of a %s writer: there is no port %d", KindName, c.Port)
	}
	for name, dir := range map[string]string{"socket": c.Socket, "bin": c.Bin, "settings": c.Settings} {
		if dir != "" && !filepath.IsAbs(dir) {
			return c, fmt.Errorf("configuration of a %s writer: %s %q is not absolute", KindName, name, dir)
		}
	}
	return c, nil
}

// parseGiven reads what a person wrote: the keys of found are none of theirs.
func parseGiven(raw json.RawMessage) (config, error) {
	c, err := parseConfig(raw)
	if err != nil {
		return c, err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return c, fmt.Errorf("configuration of a %s writer: %w", KindName, err)
	}
	for key := range keys {
		if strings.HasPrefix(key, "-") {
			return c, fmt.Errorf("configuration of a %s writer: unknown field %q", KindName, key)
		}
	}
	return c, nil
}

// checkPath says why a path cannot be the cluster's: it becomes a component's
// name and part of file specifications, which must stand for exactly it.
func checkPath(path string) error {
	_, expands := vss.ExpandEnv(path, func(string) (string, bool) { return "", false })
	switch {
	case !filepath.IsAbs(path):
		return fmt.Errorf("directory %.200q is not absolute", path)
	case filepath.Clean(path) != path || path == "/":
		return fmt.Errorf("directory %.200q is not in its shortest form", path)
	case strings.Contains(path, `\`), vss.HasWildcard(path), expands != nil:
		return fmt.Errorf(`directory %.200q holds a backslash, a * or ?, or a part between percent signs, which file specifications take for something else; rename it`, path)
	case !utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Errorf("directory %.200q is not plain text; rename it", path)
	case len(path) > 900:
		return fmt.Errorf("directory %.60q... has %d bytes; PostgreSQL opens no path longer than 1023", path, len(path))
	}
	return nil
}
