package sqlite

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sombra-backup/sombra/vss"
)

// maxPath is the longest path SQLite opens, less the ending of the journal.
const maxPath = 511 - len("-journal")

// endings are those of the files SQLite keeps beside a database.
var endings = []string{"-wal", "-shm", "-journal"}

// asideMark begins the ending of a file that was moved aside for a restore.
const asideMark = ".sombra-"

// checkPath says why a path cannot be a database's. It becomes a component's
// name, and its last part a file specification, both of which must stand for
// exactly this file.
func checkPath(path string) error {
	switch {
	case !filepath.IsAbs(path):
		return fmt.Errorf("database path %.200q is not absolute", path)
	case filepath.Clean(path) != path || path == "/":
		return fmt.Errorf("database path %.200q is not in its shortest form", path)
	case strings.Contains(path, `\`):
		return fmt.Errorf("database path %.200q holds a backslash, which no component name may; rename it", path)
	case vss.HasWildcard(path):
		return fmt.Errorf("database path %.200q holds * or ?, which file specifications take for wildcards; rename it", path)
	case expands(filepath.Dir(path)):
		return fmt.Errorf("database path %.200q has a part between percent signs, which file specifications take for a variable; rename it", path)
	case len(path) > maxPath:
		return fmt.Errorf("database path %.60q... has %d bytes; SQLite opens no path longer than %d", path, len(path), maxPath)
	case !utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Errorf("database path %.200q is not plain text; rename it", path)
	}
	return nil
}

// plain is a path as it can be shown: what is no text is written in escapes.
func plain(path string) string {
	if utf8.ValidString(path) && !strings.ContainsFunc(path, unicode.IsControl) {
		return path
	}
	q := strconv.Quote(path)
	return q[1 : len(q)-1]
}

func expands(dir string) bool {
	_, err := vss.ExpandEnv(dir, func(string) (string, bool) { return "", false })
	return err != nil
}

// candidate reports whether a file's name alone makes it worth a look.
func candidate(name string) bool {
	if beside(name) {
		return false
	}
	name = strings.ToLower(name)
	for _, ending := range []string{".db", ".db3", ".sqlite", ".sqlite3"} {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return strings.Contains(name, ".sqlite")
}

// beside reports whether a name is that of a file kept beside a database.
func beside(name string) bool {
	for _, ending := range endings {
		if strings.HasSuffix(name, ending) || strings.Contains(name, ending+asideMark) {
			return true
		}
	}
	return false
}

// companion gives the name of the database that a write-ahead log or a journal
// belongs to, and whether the name is one of those.
func companion(name string) (string, bool) {
	for _, ending := range []string{"-wal", "-journal"} {
		if base, ok := strings.CutSuffix(name, ending); ok && base != "" {
			return base, true
		}
	}
	return "", false
}

// magic is how each SQLite database of this version of the format begins.
const magic = "SQLite format 3\x00"

// headerSize is that of the database header.
const headerSize = 100

// isHeader reports whether a file that begins with these bytes is a database.
// An empty file is one to SQLite, but it holds nothing and could be anybody's.
func isHeader(b []byte) bool {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return false
	}
	page := int(b[16])<<8 | int(b[17])
	if page == 1 {
		page = 65536
	}
	return page >= 512 && page&(page-1) == 0
}
