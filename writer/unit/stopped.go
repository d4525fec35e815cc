package unit

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// NoteDir is where the units are noted that were stopped or frozen for a writer, a
// file each by the unit's name. It is root's, and emptied when the machine starts,
// which starts units by itself.
const NoteDir = "/run/sombra/units"

// maxNote bounds what is read of a note, in bytes.
const maxNote = 256 << 10

// StoppedFor gives the unit that was stopped for the writer of this kind and
// instance name ([writer.Service]) and has not been started again by Sombra; it is
// empty if there is none. Where an application does not run because an earlier
// restore has stopped it, Discover finds its unit by this.
func StoppedFor(kind, name string) string { return stoppedFor(NoteDir, kind, name) }

func stoppedFor(dir, kind, name string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".service") {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(f, maxNote))
		f.Close()
		var n struct {
			Kind, Name string
			Stopped    []string
		}
		if err == nil && json.Unmarshal(data, &n) == nil && n.Kind == kind && n.Name == name && len(n.Stopped) > 0 {
			return e.Name()
		}
	}
	return ""
}
